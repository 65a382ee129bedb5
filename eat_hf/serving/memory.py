"""Memory that requests have freed goes back to the system, not into the C library's store."""

import ctypes
import gc
from collections.abc import Callable


def _trimmer() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; other libraries have none, and give back on their own."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows, which has no library without a name
        return None


TRIM = _trimmer()


def give_back() -> None:
    """Called a moment after a request is over, whose hundreds of megabytes would be kept otherwise: by every thread
    that worked, in an amount that depends on which pieces happen to lie at the end of its store. Takes some 0.1 s.
    """
    gc.collect()  # frames and their buffers hang together in circles
    if TRIM is not None:
        TRIM(0)
