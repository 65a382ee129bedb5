"""Who may work now: requests that are under way take turns, so that a long one keeps nobody waiting."""

import contextvars
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

SLICE = 1.0  # seconds of work between looks for somebody who should go first
GRACE = 1.0  # seconds for which a place is kept between two steps of a request
HALF_LIFE = 60.0  # seconds after which half of what a visitor has used is forgotten
EVERY = 0.2  # seconds between looks for who has left
REMEMBERED = 10_000  # visitors


class Interrupted(BaseException):
    """Raised in a thread whose work is over; no `except Exception` swallows it."""


@dataclass(eq=False)
class Work:
    """A request that is under way.

    Attributes:
        ends: moment of the monotonic clock; it moves on while the request waits for its turn.
        gone: whether nobody waits for it any more.
        visitor: whom its time is counted for, the widest group first: an address, one of its sessions, the request.
        thread: identifier of the thread that is at it.
        interrupted: when, if it was.
        waiting: for its turn.
        since: when the work began that is not counted yet.
        turns: that it takes, if it does.
        process: that it is of.
        worked: seconds that are counted.
        sent_away: whether its place went to somebody else.
    """

    ends: float
    gone: Callable[[], bool] = lambda: False
    visitor: tuple[Hashable, ...] = ()
    turns: "Turns | None" = None
    thread: int = 0
    interrupted: float | None = None
    waiting: bool = False
    since: float = 0.0
    process: int = field(default_factory=os.getpid)
    worked: float = 0.0
    sent_away: bool = False


CURRENT: contextvars.ContextVar[Work | None] = contextvars.ContextVar("CURRENT", default=None)


class Turns:
    """Some requests work at a time, of a visitor one; others that are under way wait. The visitor who used the least
    time lately goes first: a newcomer does not wait for the end of long requests, but for their next step.

    Args:
        at_once: how many work.
    """

    def __init__(self, at_once: int):
        self.at_once = at_once
        self._changed = threading.Condition()
        self._working: dict[Work, float | None] = {}  # since when it rests between two steps
        self._waiting: list[Work] = []
        self._under_way: WeakSet[Work] = WeakSet()  # those two, and what rests for longer
        self._used: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # seconds, and when that was

    def take(self, work: Work) -> None:
        """Wait for the turn; not at all where the work has kept its place.

        Raises:
            Interrupted: its visitor has left, or it was sent away.
        """
        with self._changed:
            self._under_way.add(work)
            if work not in self._working:
                self._wait(work)
                work.since = time.monotonic()
            self._working[work] = None

    def _wait(self, work: Work) -> None:
        began, work.waiting = time.monotonic(), True
        self._waiting.append(work)
        try:
            while not self._may_go(work):
                if work.gone() or work.sent_away:
                    raise Interrupted
                self._changed.wait(EVERY)
        finally:
            self._waiting.remove(work)
            work.ends += time.monotonic() - began
            work.waiting = False

    def _may_go(self, work: Work) -> bool:
        now = time.monotonic()
        for other, resting in list(self._working.items()):
            if resting is not None and now > resting + GRACE:
                self._drop(other)
        return len(self._working) < self.at_once and min(self._able(), key=self._rank, default=None) is work

    def _able(self, leaving: Work | None = None) -> list[Work]:
        """Who waits for a place, and for no other request of the same visitor."""
        at_it = {other.visitor[:2] for other in self._working if other is not leaving and other.visitor}
        return [other for other in self._waiting if other.visitor[:2] not in at_it]

    def rest(self, work: Work) -> None:
        """Between two steps of the work; its place is kept for a moment."""
        with self._changed:
            if work in self._working:
                self._working[work] = time.monotonic()

    def give_way(self, work: Work) -> None:
        """Let others go first who have used less, if there are any."""
        with self._changed:
            if work not in self._working or time.monotonic() < work.since + SLICE:
                return
            self._count(work)
            if all(self._rank(other) >= self._rank(work) for other in self._able(leaving=work)):
                return
            self._drop(work)
        self.take(work)

    def send_away(self, worked: float) -> bool:
        """End what is under way and has had so many seconds of work, of the visitor who used the most lately; whether
        there is any."""
        with self._changed:
            now = time.monotonic()
            some = [w for w in self._under_way if not w.sent_away and self._worked(w, now) >= worked]
            if some:
                max(some, key=self._rank).sent_away = True
            return bool(some)

    def _worked(self, work: Work, now: float) -> float:
        return work.worked + ((self._working[work] or now) - work.since if work in self._working else 0)

    def leave(self, work: Work) -> None:
        """The work is over."""
        with self._changed:
            self._under_way.discard(work)
            if work in self._working:
                self._drop(work)

    def _drop(self, work: Work) -> None:
        self._count(work)
        del self._working[work]
        self._changed.notify_all()

    def _count(self, work: Work) -> None:
        now = self._working[work] or time.monotonic()
        work.worked += now - work.since
        for key in work.visitor:
            self._used[key] = (self._seconds(key, now) + now - work.since, now)
            self._used.move_to_end(key)
        while len(self._used) > REMEMBERED:
            self._used.popitem(last=False)
        work.since = now

    def _rank(self, work: Work) -> tuple[float, ...]:
        now = time.monotonic()
        return tuple(round(self._seconds(key, now), 2) for key in work.visitor)

    def _seconds(self, key: Hashable, now: float) -> float:
        used, then = self._used.get(key, (0.0, now))
        return used * 0.5 ** ((now - then) / HALF_LIFE)


def give_way() -> None:
    """Called by work wherever it can pause: others may go first, who have used less."""
    work = CURRENT.get()
    if work is not None and work.turns is not None and work.process == os.getpid():  # not by a GPU's worker
        work.turns.give_way(work)


class Pace:
    """In place of a progress bar, which nobody would see: work pauses wherever a bar would move.

    Args:
        iterable: what a bar would show the progress of.
        total: of a bar without one.
    """

    def __init__(self, iterable: Iterable[Any] = (), total: int | None = None):
        self.iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        for each in self.iterable:
            give_way()
            yield each

    def __enter__(self) -> "Pace":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, steps: int = 1) -> None:
        give_way()

    def set_description(self, text: str) -> None:
        pass

    def set_postfix(self, **values: str) -> None:
        pass
