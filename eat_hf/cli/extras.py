"""Commands that need more packages than the core has."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a package that cannot be imported inside into a sentence that names the extra which brings it.

    Raises:
        UserError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "eat_hf").partition(".")[0] == "eat_hf":
            raise  # a mistake of ours
        raise UserError(
            f"This command needs the package {error.name}; install it: pip install 'eat_hf[{extra}]'"
        ) from error
