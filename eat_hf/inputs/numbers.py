"""Numbers that users give, and their ranges."""

from numbers import Integral, Real
from typing import Any, Literal

from ..errors import UserError, shown

SEEDS = (0, 2**64 - 1)  # what a torch.Generator takes
BATCHES = (1, 1024)  # frames at a time; more gain nothing and fill any memory
FACES = (0, 999)
TRACKS = (0, 999)  # of a sound file
AMOUNTS = (0, 2)  # of motion; 1 is as usual


def check_whole_number(value: Any, name: str, limits: tuple[int, int]) -> int:
    """The number as it is.

    Args:
        name: of the argument, for the message.
        limits: the least and the most.

    Raises:
        UserError: it is none, or out of range.
    """
    whole = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if whole is None or not limits[0] <= whole <= limits[1]:
        raise UserError(f"{name} must be a whole number from {limits[0]} to {limits[1]}, not {shown(value)}.")
    return whole


def check_number(value: Any, name: str, limits: tuple[float, float]) -> float:
    """The number as it is; arguments and errors as of `check_whole_number`."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not limits[0] <= value <= limits[1]:
        raise UserError(f"{name} must be a number from {limits[0]:g} to {limits[1]:g}, not {shown(value)}.")
    return value


FrameSize = int | Literal["portrait"]
SIZES: tuple[FrameSize, ...] = (256, 512, 1024, "portrait")


def check_size(size: object) -> FrameSize:
    """A side of frames that there is: pixels, or "portrait", what the portrait's own face has.

    Raises:
        UserError: it is none.
    """
    for known in SIZES:
        if size == known and not isinstance(size, bool):
            return known
    raise UserError(f"The size of frames is {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}, not {shown(size)}.")


def parse_size(text: str | None) -> FrameSize | None:
    """The same of the command line; None stays.

    Raises:
        UserError: it is none.
    """
    return None if text is None else check_size(int(text) if text.isdecimal() and len(text) < 5 else text)
