"""Time limits that end the work itself, whatever it is busy with, and also when nobody waits for it any more."""

import ctypes
import functools
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

from ..errors import UserError
from .memory import give_back
from .turns import CURRENT, Interrupted, Turns, Work

EVERY = 0.2  # seconds between looks
LET_GO = 1.0  # seconds after which nobody holds what a request has used
AGAIN = 10.0  # seconds until work that goes on is interrupted anew
CROWDED = (
    "The server is crowded: this was ended to make room for somebody who has been waiting. Ask for less at a time, or "
    "try again later."
)


class Watch:
    """Ends work in threads: at its next step of Python, for which the longest single operation of a library may have to
    be waited for. One thread looks after all of it.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._under_way: set[Work] = set()
        self._looking: threading.Thread | None = None
        self._over: float | None = None  # since when a request is, whose memory is not given back yet

    def run(self, work: Work, step: Callable[[], Any], sentence: str) -> Any:
        """What a step of the work returns; a step at a time.

        Raises:
            UserError: with that sentence, if the work's time is up, or it is of no use to anybody.
        """
        if _is_over(work):
            raise UserError(_why(work, sentence))
        work.thread = threading.get_ident()
        current = CURRENT.set(work)
        try:
            try:
                self._add(work)
                if work.turns is not None:
                    work.turns.take(work)
                return step()
            finally:
                self._remove(work)
        except Interrupted:
            self._remove(work)  # it may have been interrupted itself
            raise UserError(_why(work, sentence)) from None
        finally:
            CURRENT.reset(current)
            if work.turns is not None:
                work.turns.rest(work)

    def _add(self, work: Work) -> None:
        with self._changing:
            self._under_way.add(work)
            if self._looking is None:
                self._looking = threading.Thread(target=self._look, daemon=True, name="time limits")
                self._looking.start()

    def _remove(self, work: Work) -> None:
        with self._changing:
            if work in self._under_way:
                self._under_way.discard(work)
                if work.interrupted is not None:  # and has not noticed yet: the thread's next work shall not either
                    _interrupt(work.thread, None)

    def leave(self, work: Work) -> None:
        """The work is over."""
        if work.turns is not None:
            work.turns.leave(work)
            self._over = self._over or time.monotonic()

    def _look(self) -> None:
        while True:
            time.sleep(EVERY)
            if self._over is not None and time.monotonic() > self._over + LET_GO:
                self._over = None
                give_back()
            with self._changing:
                now = time.monotonic()
                for work in self._under_way:
                    waited = work.interrupted is None or now > work.interrupted + AGAIN
                    if waited and not work.waiting and _is_over(work):
                        work.interrupted = now
                        _interrupt(work.thread, Interrupted)


def _is_over(work: Work) -> bool:
    return time.monotonic() > work.ends or work.sent_away or work.gone()


def _why(work: Work, sentence: str) -> str:
    return CROWDED if work.sent_away else sentence


def _interrupt(thread: int, error: type[BaseException] | None) -> None:
    """Have a thread raise an error at its next step of Python; None takes back what has not been raised."""
    given = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)


def timed(
    handler: Callable,
    seconds: float,
    watch: Watch,
    asked: Callable[[], tuple[Callable[[], bool], tuple]],
    sentence: str,
    turns: Turns | None = None,
) -> Callable:
    """An event handler, a function or generator, that ends after so many seconds of work.

    Args:
        asked: called when it starts; gives a function that tells whether nobody waits any more, and whose request it
            is, see `Work`.
        sentence: for the `UserError` that it then raises.
        turns: that its requests take.
    """

    @functools.wraps(handler)
    def call(*arguments, **named):
        work = Work(time.monotonic() + seconds, *asked(), turns)
        try:
            return watch.run(work, lambda: handler(*arguments, **named), sentence)
        finally:
            watch.leave(work)

    @functools.wraps(handler)
    def iterate(*arguments, **named):
        work = Work(time.monotonic() + seconds, *asked(), turns)
        steps, done = iter(handler(*arguments, **named)), object()
        try:
            while (value := watch.run(work, lambda: next(steps, done), sentence)) is not done:
                yield value
        finally:
            steps.close()
            watch.leave(work)

    return iterate if inspect.isgeneratorfunction(handler) else call
