"""A clip whose sound is still coming: its frames are planned as soon as no later sound can change them."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Protocol

import torch
from torch import Tensor

from ..constants import FPS, SAMPLING_RATE
from ..errors import UserError
from ..inputs.audio import LogMelStream, loudness
from ..inputs.emotions import EmotionTrack
from ..inputs.head_motion import HeadMotion
from ..models.streaming_speech_encoder import StreamingSpeechEncoder
from .clip_plan import ClipPlan, plan_clip
from .expression import EmotionMix, SpeechFeatures
from .networks import Adaptation, Networks
from .portrait import Portrait

SAMPLES = SAMPLING_RATE // FPS  # of a frame


class Motion(Protocol):
    """Where the head goes, made as the voice comes in."""

    def push(self, energy: Tensor) -> HeadMotion:
        """Motion of the next frames, for the loudness of each (n,)."""


def streaming_encoder(networks: Networks) -> StreamingSpeechEncoder:
    """The speech encoder of a model that can hear as it goes.

    Raises:
        UserError: the model has to know the whole recording before its first frame.
    """
    encoder = networks.speech_encoder
    if not isinstance(encoder, StreamingSpeechEncoder):
        kind = "no speech encoder" if encoder is None else f"a {type(encoder).__name__}, which hears only whole recordings"
        raise UserError(f"This model has {kind}; live sound needs one with a StreamingSpeechEncoder.")
    if networks.expression_basis.config.driving_centring == "clip":
        raise UserError(
            "This model centres the face on the mean of all frames of a clip (driving_centring), which live sound has "
            "not; use one that does not, such as the bundled one."
        )
    return encoder


class Hearing:
    """What is said and how it sounds, frame by frame, of sound that comes in pieces: of the same sound, what `hear`
    gives."""

    def __init__(self, encoder: StreamingSpeechEncoder, device: torch.device):
        self._device = device
        self._words, self._mel = encoder.listen(), LogMelStream()
        self._rest = torch.zeros(0)  # samples of a frame that has only begun
        self._frames = 0

    def push(self, waveform: Tensor, total: int | None = None) -> SpeechFeatures:
        """The next sound (n,) at 16 kHz -> the next features, as many of each as are certain.

        Args:
            total: the sound is over with it, and so many frames long.
        """
        last = total is not None
        semantic = self._words.push(waveform[None].to(self._device), last)[0]
        mel = self._mel.push(waveform[None], last)[0].to(semantic)
        self._rest = torch.cat([self._rest, waveform])
        count = len(self._rest) // SAMPLES if total is None else total - self._frames
        energy = loudness(self._rest, count)
        self._rest = self._rest[count * SAMPLES :].clone()
        self._frames += count
        return SpeechFeatures(semantic=semantic, mel=mel, energy=energy)


class LiveClip:
    """Plans the frames of sound that comes in pieces.

    It remembers the frames around those to come, however long it goes on.

    Args:
        latent: noise for the emotions' prompts, see `draw_latent`.
        track: what is felt over time; None before emotional adaptation. Another may be set at any moment, for frames
            that are not planned yet.
        adaptations: that the track's emotions belong to; may be exchanged together with it.

    Attributes:
        frames: how many are planned.

    Raises:
        UserError: the model has to know the whole recording.
    """

    def __init__(
        self,
        networks: Networks,
        portrait: Portrait,
        motion: Motion,
        track: EmotionTrack | None,
        adaptations: Sequence[Adaptation],
        latent: Tensor | None,
        batch_size: int,
        device: torch.device,
    ):
        self.frames = 0
        self.track, self.adaptations = track, tuple(adaptations)
        self._networks, self._portrait, self._latent = networks, portrait, latent
        self._batch_size = batch_size
        self._encoder = streaming_encoder(networks)
        self._radius = networks.a2et.config.window // 2
        self._hearing, self._motion = Hearing(self._encoder, device), motion
        # of frames from number `_first` on: what was heard, and where the head is
        self._first = 0
        self._heard: SpeechFeatures | None = None
        self._moved: HeadMotion | None = None

    @property
    def latency(self) -> float:
        """Seconds of sound that must have come after a frame's time before the frame is planned."""
        heard = max(self._encoder.window_lookahead, LogMelStream.ahead / SAMPLING_RATE, 1 / FPS)
        return self._radius / FPS + heard

    def push(self, waveform: Tensor, total: int | None = None) -> ClipPlan | None:
        """The next sound (n,) at 16 kHz -> the plan of the next frames, None if there are none yet.

        Args:
            total: the sound is over with it, and so many frames long.
        """
        heard = self._hearing.push(waveform, total)
        if len(heard.energy):
            moved = self._motion.push(heard.energy)
            self._moved = moved if self._moved is None else self._moved.followed_by(moved)
        self._heard = heard if self._heard is None else _extended(self._heard, heard)
        if self._moved is None:
            return None
        around = min(len(self._heard.semantic), len(self._heard.mel), len(self._moved))  # frames that are known
        if total is not None:
            around = total - self._first  # what is said may end a frame before, see `SpeechFeatures`
        ready = around if total is not None else max(0, around - self._radius)
        wanted = range(self.frames - self._first, ready)
        if not wanted:
            return None
        plan = plan_clip(
            self._networks,
            self._portrait,
            _features(self._heard, slice(around)),
            self._moved.of(slice(around)),
            self._mix(range(self._first, self._first + around)),
            self._batch_size,
        ).only(wanted)
        self.frames += len(wanted)
        self._forget()
        return plan

    def _mix(self, frames: range) -> EmotionMix | None:
        if self.track is None or self._latent is None:
            return None
        return EmotionMix.of(self.track, frames, self.adaptations, self._latent)

    def _forget(self) -> None:
        """What no frame to come looks back to."""
        past = slice(max(0, self.frames - self._radius - self._first), None)
        self._first += past.start
        self._heard = _features(self._heard, past)
        self._moved = self._moved.of(past) if past.start < len(self._moved) else None


def _features(speech: SpeechFeatures, part: slice) -> SpeechFeatures:
    return SpeechFeatures(**{field.name: getattr(speech, field.name)[part] for field in fields(speech)})


def _extended(speech: SpeechFeatures, later: SpeechFeatures) -> SpeechFeatures:
    both = {field.name: torch.cat([getattr(each, field.name) for each in (speech, later)]) for field in fields(speech)}
    return SpeechFeatures(**both)
