"""What the command line says. Names come from strangers: a terminal is never given what it would obey or not show."""

import sys

from ..errors import visible


def say(text: str) -> None:
    """One line on stderr, whatever is in it; the middle of a very long one is left out."""
    print(visible(text.strip()), file=sys.stderr, flush=True)


def show(text: object) -> None:
    """Lines on stdout, such as the name of a file that was written."""
    print("\n".join(visible(line, 100_000) for line in str(text).split("\n")))
