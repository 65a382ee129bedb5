"""What a user got wrong, as opposed to what the program got wrong."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in the input, told in one sentence that says what to do about it.

    Python callers see an ordinary ValueError; the command line prints the sentence and exits with status 2.
    """


def shown(value: object) -> str:
    """A value as it stands in a message: its repr, which shows no control character, short whatever it is."""
    try:
        text = repr(value[:200] if isinstance(value, str | bytes) else value)
    except ValueError:  # whole numbers of thousands of digits have none
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:90]} [...] {text[-20:]}"


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
