"""Memory that work has freed goes back to the system, not into the C library's store."""

import ctypes
from collections.abc import Callable


def _trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; other libraries have none, and give back on their own."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows, which has no library without a name
        return None


TRIM = _trim()


def give_back() -> None:
    """Called when a request is over, whose hundreds of megabytes would be kept otherwise: by every thread that worked,
    in an amount that depends on which pieces happen to lie at the end of its store. Takes some 50 ms.
    """
    if TRIM is not None:
        TRIM(0)
