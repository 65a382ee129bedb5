"""A live session that keeps up: all sound is heard, and frames for which there is no time are left out."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..animation.clip_plan import ClipPlan
from ..media.watermark import Watermark
from ..pipeline.live import LiveSession

AT_ONCE = 5  # frames that are rendered at most of what was heard since the last look,
ROUND = 0.2  # and seconds that this takes, unless a single frame takes longer


@dataclass(frozen=True)
class LiveFrame:
    """Attributes:
    number: of the frame, which shows the time number / 25 of the sound.
    picture: (H, W, 3) uint8, with the invisible mark.
    dropped: frames that were left out up to now.
    delay: seconds since the sound came that made it certain.
    """

    number: int
    picture: np.ndarray
    dropped: int
    delay: float


class LiveStream:
    """Feeds a session from one thread, while another brings sound.

    Whatever sound is there is heard at once; of the frames that become certain with it, as many are rendered as there
    is time for, evenly spread, the newest among them, and the others left out. So a machine that is too slow shows
    fewer frames, and is never behind by more than it takes to render those.

    Args:
        session: that nobody else pushes to.
        sampling_rate: of the sound, Hz.
        show: called with every frame, in order, from the stream's thread. While it waits, sound is what waits.
        backlog: seconds of sound that may wait.

    Attributes:
        made, dropped: frames.
        heard: seconds of sound; worked: seconds that hearing it and making the frames took.
    """

    def __init__(
        self, session: LiveSession, sampling_rate: int, show: Callable[[LiveFrame], Any], backlog: float = math.inf
    ):
        self.session, self.sampling_rate = session, sampling_rate
        self.made = self.dropped = 0
        self.heard = self.worked = 0.0
        self._cost = 0.0  # seconds that a frame takes
        self._show, self._backlog = show, backlog
        self._mark = Watermark()
        self._changed = threading.Condition()
        self._waiting: list[np.ndarray] = []
        self._seconds, self._came = 0.0, 0.0  # of the sound that waits; when the last of it came
        self._over = self._stopped = False

    def push(self, samples: np.ndarray) -> None:
        """Bring the next sound, (channels, n) float in [-1, 1] or integer, always of as many channels."""
        with self._changed:
            self._waiting.append(samples)
            self._seconds += samples.shape[1] / self.sampling_rate
            self._came = time.monotonic()
            self._changed.notify_all()

    def has_room(self, seconds: float = 0) -> bool:
        """Whether more sound may be brought, after so many seconds at most."""
        with self._changed:
            return self._changed.wait_for(lambda: self._seconds < self._backlog or self._stopped, seconds)

    def finish(self) -> None:
        """No more sound comes; `run` ends with its last frame."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody looks any more; `run` ends with the frames that it is at."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self) -> None:
        """Make frames until the sound is over.

        Raises:
            UserError: it is no sound.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._over or self._stopped)
                heard, came, over = self._waiting, self._came, self._over
                self._waiting, self._seconds = [], 0.0
                self._changed.notify_all()
            began = time.monotonic()
            if heard and not self._stopped:
                samples, first = np.concatenate(heard, 1), self.session.frames
                self._make(first, self.session.hear(samples, self.sampling_rate), came, self._affordable)
                self.heard += samples.shape[1] / self.sampling_rate
            if over and not self._stopped:
                # nothing presses any more: the frames of the last moment are all made
                first = self.session.frames
                self._make(first, self.session.hear_end(), came, None)
            self.worked += time.monotonic() - began
            if over or self._stopped:
                return

    @property
    def _affordable(self) -> int:
        """Frames that there is time for at a time."""
        return AT_ONCE if not self._cost else max(1, min(AT_ONCE, int(ROUND / self._cost)))

    def _make(self, first: int, plan: ClipPlan | None, came: float, most: int | None) -> None:
        """Render and show a plan, whose first frame is of number `first`, or as many of its frames."""
        if plan is None:
            return
        count, began = len(plan), time.monotonic()
        chosen = np.arange(count)
        if most is not None and count > most:
            chosen = np.linspace(count - 1, 0, most)[::-1].round().astype(int)
        frames = self.session.render(plan.only([int(place) for place in chosen]))
        cost = (time.monotonic() - began) / len(chosen)
        self._cost = 0.5 * (self._cost + cost) if self._cost else cost
        self.dropped += count - len(chosen)
        for place, picture in zip(chosen, frames, strict=True):
            if self._stopped:
                return
            self.made += 1
            delay = time.monotonic() - came
            self._show(LiveFrame(first + int(place), self._mark(picture), self.dropped, delay))
