"""Files that users name, and files that appear as a whole or not at all."""

import errno
import os
import tempfile
from pathlib import Path

from ..errors import UserError


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text; there is either the whole file or none.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with open(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)  # a temporary file is its owner's only; a report is like any other file
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _DiskErrors:
    """Turns errors of writing `path` into one sentence for the user."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, OSError):
            if error.errno in NO_SPACE:
                raise UserError(f"No space left to write {self.path}; free some or choose another disk.") from error
            raise UserError(f"Cannot write {self.path} ({one_line(error)}).") from error


def existing_file(path: str | os.PathLike, kind: str) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"A {kind} must be given as a path, not as {type(path).__name__}.")
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the {kind} itself.")
        if not path.exists():
            raise UserError(f"The {kind} {path} does not exist.")
        if path.stat().st_size == 0:
            raise UserError(f"The {kind} {path} is empty (0 bytes).")
        with path.open("rb"):
            return path
    except (PermissionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"The {kind} {path} cannot be opened ({one_line(error)}).") from error


def one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")
