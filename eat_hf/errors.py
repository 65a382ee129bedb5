"""What a user got wrong, as opposed to what the program got wrong."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in the input, told in one sentence that says what to do about it.

    Python callers see an ordinary ValueError; the command line prints the sentence and exits with status 2.
    """


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
