"""Blinks and gaze of somebody who talks to the viewer, made frame after frame."""

import numpy as np

from ..constants import FPS
from ..easing import smoothstep

BLINK_PAUSE = (2.0, 5.0)  # seconds from one blink to the next
LIDS_CLOSE, LIDS_OPEN = 0.09, 0.16  # seconds that lids take

FIXATION = (0.5, 3.0)  # seconds that eyes rest on a point
SMALL_SACCADE = (1.0, 4.0)  # degrees
AWAY = (5.0, 9.0)  # degrees from the viewer, of eyes that leave for a moment
AWAY_OFTEN, AWAY_WITH_BLINK = 0.06, 0.4  # how often a saccade, and one in a blink, leads there
BLINK_WITH_SACCADE = 0.5  # how often eyes move behind shut lids
FLATNESS = 0.6  # eyes go up and down less far than to the sides
VIEWER = 3.0  # degrees around the viewer's eyes that still look at the viewer
QUICK = 3.0  # degrees that eyes turn within one frame; more takes two


class EyeMovements:
    """Memory is constant however long it goes on, and pieces of any lengths are the same movements.

    Args:
        rng: of all randomness.
        blinks: how often lids shut, 0 never, 1 every 2 to 5 seconds, 2 twice as often.
    """

    def __init__(self, rng: np.random.Generator, blinks: float = 1.0):
        self._blinking, self._looking = rng.spawn(2)
        self._blinks = blinks
        self._frame = 0
        self._shut, self._next_shut = -np.inf, self._draw_blink(0)
        self._from = self._to = np.zeros(2)
        self._away = False
        self._moved, self._moves = -np.inf, self._draw_saccade(0)  # frames of the saccades before and after this one

    def push(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """The next frames: closure of the lids (frames,), 0 to 1; each blink is fully shut on one frame, so that no
        rate of frames misses it. Gaze (frames, 2), degrees right and up of looking at the viewer."""
        closure, gaze = np.zeros(frames), np.zeros((frames, 2))
        for n in range(frames):
            closure[n], gaze[n] = self._closure(), self._gaze()
            self._frame += 1
        return closure, gaze

    def _closure(self) -> float:
        if self._frame > self._next_shut:
            self._shut, self._next_shut = self._next_shut, self._draw_blink(self._next_shut)
        until, since = self._next_shut - self._frame, self._frame - self._shut
        return smoothstep(max(0.0, 1 - min(until / LIDS_CLOSE, since / LIDS_OPEN) / FPS))

    def _gaze(self) -> np.ndarray:
        if self._frame >= self._moves:
            self._from, self._to = self._to, self._next_target(self._moves == self._next_shut)
            self._moved, self._moves = self._moves, self._draw_saccade(self._moves)
        under_way = self._frame == self._moved and np.hypot(*(self._to - self._from)) > QUICK
        return (self._from + self._to) / 2 if under_way else self._to

    def _draw_blink(self, after: float) -> float:
        """A frame."""
        pause = self._blinking.uniform(*BLINK_PAUSE)
        return after + round(pause * FPS / self._blinks) if self._blinks else np.inf

    def _draw_saccade(self, after: float) -> float:
        """A frame; that of the next blink often, if eyes have rested until then."""
        rested, with_blink = self._looking.uniform(*FIXATION), self._looking.random() < BLINK_WITH_SACCADE
        earliest, latest = (after + seconds * FPS for seconds in FIXATION)
        if with_blink and earliest <= self._next_shut <= latest:
            return self._next_shut
        return after + round(rested * FPS)

    def _next_target(self, in_blink: bool) -> np.ndarray:
        """Where eyes look next: a little beside, or away from the viewer, from where they come back."""
        leaves, size = self._looking.random(2)
        angle = self._looking.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), FLATNESS * np.sin(angle)])
        start = np.zeros(2) if self._away else self._to
        self._away = not self._away and leaves < (AWAY_WITH_BLINK if in_blink else AWAY_OFTEN)
        if self._away:
            return np.interp(size, (0, 1), AWAY) * direction
        target = start + np.interp(size, (0, 1), SMALL_SACCADE) * direction
        return target * min(1.0, VIEWER / np.hypot(*target))
