"""A command as a process among others: it ends when a signal asks for it, and nobody but it speaks on its terminal."""

import faulthandler
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import TextIO, cast

from ..errors import InputWarning
from .messages import say

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SOON, AGAIN = 0.05, 5.0  # seconds until a signal that could not end the work, or did not, is raised once more

# Signals ------------------------------------------------------------------------------------------------------------


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; it unwinds, so that unfinished files are removed."""


class _Signals:
    """What has been asked of this process, from its one main thread."""

    received: int | None = None
    patient = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        if number in ENDING:
            first = self.received is None
            self.received = self.received or number
            # what is being removed since the first one shall be removed; `AGAIN` takes care of what hangs
            if first == self.patient:
                return
        # C code that is being imported swallows exceptions, prints them, or leaves half a module behind
        inside = _imports_c(frame)
        signal.setitimer(signal.ITIMER_REAL, SOON if inside else AGAIN)
        if not inside:
            raise Interrupted


_signals = _Signals()


def _imports_c(frame: FrameType | None) -> bool:
    while frame is not None:
        loads = frame.f_code.co_name in ("create_module", "exec_module")
        if loads and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end what is done meanwhile with the word "interrupted" and 128 + the signal's number.

    Whatever becomes of the exception on its way: code that swallows it is interrupted again, and an error that it
    turns into is not told. What was ignored when the process started, as `nohup` has it, stays ignored.
    """
    numbers = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    if not numbers or threading.current_thread() is not threading.main_thread():
        yield
        return
    _signals.received, _signals.patient = None, False
    before = {number: signal.signal(number, _signals.handle) for number in (*numbers, signal.SIGALRM)}
    hook, sys.unraisablehook = sys.unraisablehook, _tell_nobody_if_interrupted
    try:
        yield
    except BaseException:
        if _signals.received is None:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in before.items():  # nobody waits for an interpreter that hangs while it ends
            signal.signal(number, handler if _signals.received is None else signal.SIG_DFL)
    if _signals.received is not None:
        say("interrupted")
        raise SystemExit(128 + _signals.received)


def _tell_nobody_if_interrupted(unraisable: "sys.UnraisableHookArgs") -> None:
    if _signals.received is None:
        sys.__unraisablehook__(unraisable)


@contextmanager
def interrupted_later() -> Iterator[Callable[[], bool]]:
    """Work that ends well by itself soon after it sees that a signal came; gives what tells so."""
    _signals.patient = True
    try:
        yield lambda: _signals.received is not None
    finally:
        _signals.patient = False
    if _signals.received is not None:
        raise Interrupted


# The terminal -------------------------------------------------------------------------------------------------------


@contextmanager
def libraries_silenced() -> Iterator[None]:
    """Only this program's own sentences, bars and tracebacks reach the terminal.

    Libraries log, warn, and print from C code: FFmpeg's, OpenCV's, libtiff's. So loggers and foreign warnings are off,
    and what is written to descriptor 2 past `sys.stderr` is dropped, in child processes, too; but for what Python says
    when it crashes.
    """
    # a process may be started without them
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    muted = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # and those of transformers
    with warnings.catch_warnings(), _stderr_of_its_own():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            logging.disable(muted)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    say(f"warning: {message}")


@contextmanager
def _stderr_of_its_own() -> Iterator[None]:
    """`sys.stderr` writes to a copy of descriptor 2, which itself leads nowhere."""
    before: TextIO = sys.stderr
    if sys.stderr is not sys.__stderr__ or before.fileno() != 2:
        yield  # somebody else has taken it, such as a test
        return
    before.flush()
    copy = os.dup(2)
    own = cast(TextIO, os.fdopen(copy, "w", 1, before.encoding, "backslashreplace"))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = own
    faulthandler.enable(own)
    try:
        yield
    finally:
        faulthandler.disable()
        sys.stderr = before
        own.flush()
        os.dup2(copy, 2)
        own.close()
