"""Time limits that end the work itself, whatever it is busy with, and also when nobody waits for it any more."""

import ctypes
import functools
import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import UserError

EVERY = 0.2  # seconds between looks
AGAIN = 10.0  # seconds until work that goes on is interrupted anew


class Interrupted(BaseException):
    """Raised in a thread whose time is up; no `except Exception` swallows it."""


@dataclass(eq=False)
class Step:
    """Work of a thread that is going on.

    Attributes:
        thread: its identifier.
        ends: moment of the monotonic clock.
        gone: whether nobody waits for it any more.
        interrupted: when, if it was.
    """

    thread: int
    ends: float
    gone: Callable[[], bool]
    interrupted: float | None = None


class Watch:
    """Ends work in threads: at its next step of Python, for which the longest single operation of a library may have to
    be waited for. One thread looks after all of it.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._steps: set[Step] = set()
        self._looking: threading.Thread | None = None

    def run(self, work: Callable[[], Any], ends: float, gone: Callable[[], bool], sentence: str) -> Any:
        """What `work` returns.

        Raises:
            UserError: with that sentence, if it was not done by `ends`, or is of no use to anybody.
        """
        if time.monotonic() > ends or gone():
            raise UserError(sentence)
        step = Step(threading.get_ident(), ends, gone)
        try:
            try:
                self._add(step)
                return work()
            finally:
                self._remove(step)
        except Interrupted:
            self._remove(step)  # it may have been interrupted itself
            raise UserError(sentence) from None

    def _add(self, step: Step) -> None:
        with self._changing:
            self._steps.add(step)
            if self._looking is None:
                self._looking = threading.Thread(target=self._look, daemon=True, name="time limits")
                self._looking.start()

    def _remove(self, step: Step) -> None:
        with self._changing:
            if step in self._steps:
                self._steps.discard(step)
                if step.interrupted is not None:  # and has not noticed yet: the thread's next work shall not either
                    _interrupt(step.thread, None)

    def _look(self) -> None:
        while True:
            time.sleep(EVERY)
            with self._changing:
                now = time.monotonic()
                for step in self._steps:
                    waited = step.interrupted is None or now > step.interrupted + AGAIN
                    if waited and (now > step.ends or step.gone()):
                        step.interrupted = now
                        _interrupt(step.thread, Interrupted)


def _interrupt(thread: int, error: type[BaseException] | None) -> None:
    """Have a thread raise an error at its next step of Python; None takes back what has not been raised."""
    given = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)


def timed(
    handler: Callable, seconds: float, watch: Watch, waiting: Callable[[], Callable[[], bool]], sentence: str
) -> Callable:
    """An event handler, a function or generator, that ends after so many seconds of work.

    Args:
        waiting: called when it starts; gives a function that tells whether nobody waits any more.
        sentence: for the `UserError` that it then raises.
    """

    @functools.wraps(handler)
    def call(*arguments, **named):
        ends, gone = time.monotonic() + seconds, waiting()
        return watch.run(lambda: handler(*arguments, **named), ends, gone, sentence)

    @functools.wraps(handler)
    def iterate(*arguments, **named):
        ends, gone = time.monotonic() + seconds, waiting()
        steps, done = iter(handler(*arguments, **named)), object()
        try:
            while (value := watch.run(lambda: next(steps, done), ends, gone, sentence)) is not done:
                yield value
        finally:
            steps.close()

    return iterate if inspect.isgeneratorfunction(handler) else call
