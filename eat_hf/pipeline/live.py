"""Live: sound in as it comes, frames out."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..animation.clip_plan import ClipPlan
from ..animation.expression import draw_latent
from ..animation.live import LiveClip, Motion
from ..animation.networks import Adaptation, Networks
from ..animation.portrait import Portrait
from ..animation.rendering import render_plan
from ..constants import FPS
from ..errors import UserError
from ..inputs.emotions import Weights, is_voice
from ..inputs.faces import PasteBack
from ..media.recordings import SHORTEST_RECORDING, LiveSound
from .arguments import ClipOptions

IN_WORDS = "in words"  # emotions that sentences ask for: this, and a number


def refuse_voice(*felt: Any) -> None:
    """Raise a UserError for an emotion or intensity that is heard in a whole recording."""
    if any(map(is_voice, felt)):
        raise UserError(
            "What the voice feels, and how lively it is, is measured on the whole recording, which live sound has not; "
            "name an emotion and a number."
        )


class LiveSession:
    """A portrait that talks while the sound is still coming, see `EATPipeline.live`.

    The frames are those that one call gives on the same sound. It takes as much memory after hours as at first.

    `push` is `hear` and then `render`, for whoever keeps up. Who may be too slow hears all sound, and renders what
    there is time for: `plan.only` leaves frames out.

    Attributes:
        size: (H, W) of the frames.
    """

    def __init__(
        self,
        networks: Networks,
        portrait: Portrait,
        motion: Callable[[torch.Generator | None], Motion],
        adaptations: Sequence[Adaptation],
        options: ClipOptions,
        words: Callable[[str | Sequence[str], str], Adaptation],
        device: torch.device,
        over: Callable[[], None],
    ):
        self._networks, self._words, self._over = networks, words, over
        self._own = tuple(adaptations)
        self._in_words: dict[str, Adaptation] = {}
        self._sentences = 0
        self._sound: LiveSound | None = LiveSound()
        self._lock = threading.Lock()  # `set` comes from where the buttons are
        if options.emotion_text is not None:
            options = replace(options, emotion=self._understand(options.emotion_text), emotion_text=None)
        track = options.track(self._emotions)
        # in the order in which one call draws
        generator = options.seeded()
        latent = None if track is None else draw_latent(networks, generator, device)
        self._clip = LiveClip(
            networks, portrait, motion(generator), track, self._adaptations, latent, options.batch_size, device
        )
        aligned = portrait.aligned
        self._paste = PasteBack(aligned.picture, aligned.matrix, len(aligned.detailed)) if options.paste_back else None
        side = len(aligned.detailed)
        self.size = (side, side) if self._paste is None else self._paste(aligned.detailed).shape[:2]

    @property
    def latency(self) -> float:
        """Seconds of sound after a frame's time that must have come before the frame is made."""
        return self._clip.latency

    @property
    def frames(self) -> int:
        """How many were given, or planned by `hear`: the number of the next one, which shows the time frames / 25."""
        return self._clip.frames

    def push(self, samples: Any, sampling_rate: int) -> np.ndarray:
        """The next sound -> the frames (n, H, W, 3) uint8 that no later sound can change, n from 0.

        Args:
            samples: (N,), (N, channels) or (channels, N) of any length, one or two channels, float in [-1, 1] or
                integer.
            sampling_rate: in Hz.

        Raises:
            UserError: it is no such sound, then nothing has changed; or the session is over.
        """
        return self.render(self.hear(samples, sampling_rate))

    def finish(self) -> np.ndarray:
        """The sound is over -> the frames that are left, as many in all as its length needs.

        Of less than 0.2 s of sound there are none.

        Raises:
            UserError: it was over before.
        """
        try:
            return self.render(self.hear_end())
        finally:
            self._over()

    def set(
        self,
        emotion: str | Weights | None = None,
        intensity: float | None = None,
        emotion_text: str | Sequence[str] | None = None,
    ) -> float:
        """Feel something else from the next frame on, cross-faded over 0.4 s; what is None goes on.

        Args:
            emotion: a name or weights.
            intensity: 0 to 1.5.
            emotion_text: the emotion in words, in place of `emotion`, for models with `words`.

        Returns:
            The time of that frame in seconds: one call with a timeline that has the emotion there gives the same.

        Raises:
            UserError: there is no such emotion or intensity, or the session shows none; then nothing has changed.
        """
        refuse_voice(emotion, intensity)
        with self._lock:
            if self._clip.track is None:
                raise UserError("This session has no emotions (emotion=None); begin another with one.")
            if emotion is not None and emotion_text is not None:
                raise UserError("Give either emotion or emotion_text, not both.")
            known = dict(self._in_words)
            try:
                if emotion_text is not None:
                    emotion = self._understand(emotion_text)
                moment = self._clip.frames / FPS
                track = self._clip.track.changed(moment, emotion, intensity, self._emotions)
            except UserError:
                self._in_words = known
                raise
            self._follow(track)
            return moment

    def hear(self, samples: Any, sampling_rate: int) -> ClipPlan | None:
        """The next sound -> the plan of the next frames, for `render`; None while there are none. As `push`."""
        with self._lock:
            if self._sound is None:
                raise UserError("This session is over; begin another one.")
            waveform = self._sound.push(samples, sampling_rate)
            plan = self._clip.push(torch.from_numpy(waveform))
            if plan is not None and self._clip.track is not None:
                self._follow(self._clip.track.since(self._clip.frames / FPS))
            return plan

    def hear_end(self) -> ClipPlan | None:
        """The sound is over -> the plan of the frames that are left; as `finish`."""
        with self._lock:
            if self._sound is None:
                raise UserError("This session is over; begin another one.")
            sound, self._sound = self._sound, None
            if sound.seconds < SHORTEST_RECORDING:
                return None
            return self._clip.push(torch.from_numpy(sound.finish()), last=True)

    def render(self, plan: ClipPlan | None) -> np.ndarray:
        """The frames of a plan, (n, H, W, 3) uint8."""
        if plan is None or not len(plan):
            return np.zeros((0, *self.size, 3), np.uint8)
        frames = np.concatenate(list(render_plan(self._networks, plan)))
        return frames if self._paste is None else np.stack([self._paste(frame) for frame in frames])

    @property
    def _adaptations(self) -> tuple[Adaptation, ...]:
        return (*self._own, *self._in_words.values())

    @property
    def _emotions(self) -> list[str]:
        return [name for adaptation in self._adaptations for name in adaptation.emotions]

    def _understand(self, text: str | Sequence[str]) -> str:
        """The name of an emotion for a sentence."""
        name = f"{IN_WORDS} {self._sentences}"
        self._in_words[name] = self._words(text, name)
        self._sentences += 1
        return name

    def _follow(self, track: Any) -> None:
        """Feel what a track says, and forget sentences that it no longer has."""
        self._in_words = {name: each for name, each in self._in_words.items() if name in track.names}
        self._clip.track, self._clip.adaptations = track, self._adaptations
