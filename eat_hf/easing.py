"""Smooth beginnings and ends."""

from typing import TypeVar

Number = TypeVar("Number")


def smoothstep(x: Number) -> Number:
    """x in [0, 1] -> 0 to 1 with a slope of zero at both ends (3 x^2 - 2 x^3); numbers, arrays and tensors alike."""
    return x * x * (3 - 2 * x)  # type: ignore[operator]
