"""What a user got wrong, as opposed to what the program got wrong."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in the input, told in one sentence that says what to do about it.

    Python callers see an ordinary ValueError; the command line prints the sentence and exits with status 2.
    """


def visible(text: object, longest: int = 1500) -> str:
    """A stranger's text on one line, with what a terminal would obey or not show (control characters, lone surrogates,
    marks of direction and the like) as escapes: \\x1b, \\u202e. Of one with more characters the middle is left out.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    end = longest // 2 - 4
    return line if len(line) <= longest else f"{line[:end]} [...] {line[-end:]}"


def shown(value: object) -> str:
    """A value as it stands in a message: its repr, `visible` and short whatever it is."""
    try:
        return visible(repr(value[:200] if isinstance(value, str | bytes) else value), 110)
    except ValueError:  # whole numbers of thousands of digits have none
        return f"a huge {type(value).__name__}"


class InputWarning(UserWarning):
    """Something about the input that the user should know, though the work goes on."""


@contextmanager
def explain_memory(advice: str) -> Iterator[None]:
    """Turn running out of memory, the machine's or the GPU's, into a UserError with advice; all else passes."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from accelerate.utils.memory import should_reduce_batch_size  # it loads torch, which is not needed before

        if isinstance(error, MemoryError) or should_reduce_batch_size(error):
            raise UserError(f"There is not enough memory. {advice}") from error
        raise


class ConversionError(UserError):
    """A release file that is missing, unreadable, or not what the converter knows.

    Attributes:
        problems: where tensors are to blame, their names by the kind of problem; the message may name fewer.
    """

    def __init__(self, message: str, problems: dict[str, list[str]] | None = None):
        super().__init__(message)
        self.problems = problems or {}


class UnscorableClip(Exception):
    """A clip that cannot be scored; the message is the reason."""


class RepositoryError(UserError, OSError):
    """A folder or Hub repository that cannot be read or written, and what to do about it.

    Also an OSError, as other libraries of the Hub raise. The Hub client's own exception is its cause.
    """
