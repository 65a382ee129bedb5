"""What the command line says. Names come from strangers: a terminal is never given what it would obey or not show."""

import sys

LONGEST = 1500  # characters of a message


def visible(text: str) -> str:
    """A text with control characters, lone surrogates, marks of direction and the like as escapes: \\x1b, \\u202e."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """One line on stderr, whatever is in it; the middle of a very long one is left out."""
    line = visible(text.strip())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} [...] {line[-LONGEST // 2 :]}"
    print(line, file=sys.stderr, flush=True)


def show(text: object) -> None:
    """Lines on stdout, such as the name of a file that was written."""
    print("\n".join(map(visible, str(text).split("\n"))))
