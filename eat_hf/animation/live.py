"""A clip whose sound is still coming: its frames are planned as soon as no later sound can change them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Protocol

import torch
from torch import Tensor

from ..constants import FPS
from ..errors import UserError
from ..inputs.emotions import EmotionTrack
from ..inputs.head_motion import HeadMotion
from .clip_plan import ClipPlan, plan_clip
from .expression import EmotionMix, SpeechFeatures, SpeechInPieces, SpeechTokens
from .networks import Adaptation, Networks
from .portrait import Portrait


class Motion(Protocol):
    """Where the head goes, made as the voice comes in."""

    def push(self, energy: Tensor) -> HeadMotion:
        """Motion of the next frames, for the loudness of each (n,)."""


def check_live(networks: Networks) -> None:
    """Raise a UserError for models that have to know the whole recording before their first frame."""
    SpeechInPieces(networks, torch.device("cpu"))
    if networks.expression_basis.config.driving_centring == "clip":
        raise UserError(
            "This model centres the face on the mean of all frames of a clip (driving_centring), which live sound has "
            "not; choose a model that does not, such as the bundled one."
        )


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
        check_live(networks)
        self._radius = networks.a2et.config.window // 2
        self._speech, self._motion = SpeechInPieces(networks, device), motion
        # of frames from number `_first` on: what was heard, and where the head is
        self._first = 0
        self._heard: SpeechFeatures | None = None
        self._moved: HeadMotion | None = None
        # what frames share with those before
        self._tokens = SpeechTokens()
        self._mixed: EmotionMix | None = None

    @property
    def latency(self) -> float:
        """Seconds of sound that must have come after a frame's time before the frame is planned."""
        return self._radius / FPS + self._speech.lookahead

    def push(self, waveform: Tensor, last: bool = False) -> ClipPlan | None:
        """The next sound (n,) at 16 kHz -> the plan of the next frames, None if there are none yet.

        Args:
            last: the sound is over with it, so all frames that are left are planned.
        """
        heard = self._speech.push(waveform, last)
        if len(heard.energy):
            moved = self._motion.push(heard.energy)
            self._heard = heard if self._heard is None else _extended(self._heard, heard)
            self._moved = moved if self._moved is None else self._moved.followed_by(moved)
        if self._heard is None or self._moved is None:
            return None
        known = len(self._moved)
        wanted = range(self.frames - self._first, known if last else known - self._radius)
        if not wanted:
            return None
        self._tokens = self._tokens.since(self._first, self._radius)
        self._mixed = self._mix(range(self._first, self._first + known))
        clip = self._networks, self._portrait, self._heard, self._moved, self._mixed, self._batch_size
        plan = plan_clip(*clip, tokens=self._tokens).only(wanted)
        self.frames += len(wanted)
        past = max(0, self.frames - self._radius - self._first)  # what no frame to come looks back to
        self._first += past
        self._heard, self._moved = _features(self._heard, slice(past, None)), self._moved.of(slice(past, None))
        return plan

    def _mix(self, frames: range) -> EmotionMix | None:
        if self.track is None or self._latent is None:
            return None
        return EmotionMix.of(self.track, frames, self.adaptations, self._latent, self._mixed)


def _features(speech: SpeechFeatures, part: slice) -> SpeechFeatures:
    return SpeechFeatures(**{field.name: getattr(speech, field.name)[part] for field in fields(speech)})


def _extended(speech: SpeechFeatures, later: SpeechFeatures) -> SpeechFeatures:
    both = {field.name: torch.cat([getattr(each, field.name) for each in (speech, later)]) for field in fields(speech)}
    return SpeechFeatures(**both)
