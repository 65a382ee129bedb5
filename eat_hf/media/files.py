"""Files that users name, and files and folders that appear as a whole or not at all."""

import contextlib
import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def existing_file(path: str | os.PathLike, kind: str) -> Path:
    """A path that can be opened.

    Args:
        kind: what it shall be, for messages.

    Raises:
        UserError: it is no file, empty, or cannot be opened.
    """
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
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"The {kind} {path} cannot be opened ({one_line(error)}).") from error


@contextlib.contextmanager
def explained_writing(path: Path) -> Iterator[None]:
    """Turn the operating system's errors of writing a path into one sentence for the user."""
    try:
        yield
    except OSError as error:
        if isinstance(error, UserError):
            raise
        if error.errno in NO_SPACE:
            raise UserError(f"No space left to write {path}; free some or choose another disk.") from error
        raise UserError(f"Cannot write {path} ({one_line(error)}).") from error


def _beside(path: Path) -> Path:
    """A hidden name that nothing has, in the same folder and with the same ending."""
    return path.with_name(f".{path.stem}-{secrets.token_hex(4)}.part{path.suffix}")


def remove_unfinished(path: str | os.PathLike) -> None:
    """Remove hidden files that writers of this name left when they were killed; none may be at work now."""
    path = Path(path)
    for left in path.parent.glob(glob.escape(f".{path.stem}-") + "?" * 8 + glob.escape(f".part{path.suffix}")):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def unfinished_file(path: str | os.PathLike) -> Iterator[Path]:
    """A hidden name to write to; then the file gets its own. On any error it vanishes, and an older file stays."""
    path = Path(path)
    unfinished = _beside(path)
    try:
        yield unfinished
        with explained_writing(path):
            os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):  # a name that cannot be written cannot be removed either
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """`unfinished_file`, for work that does nothing but write.

    Raises:
        UserError: it cannot be written.
    """
    with unfinished_file(path) as unfinished, explained_writing(Path(path)):
        yield unfinished


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A hidden folder to fill, by work that does nothing but write; then it gets the name `path`, which must be free or
    an empty folder. On any error all of it vanishes.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    unfinished = _beside(path)
    try:
        with explained_writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.mkdir()
            yield unfinished
            if path.exists():
                path.rmdir()
            unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text; there is either the whole file or none.

    Raises:
        UserError: it cannot be written.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def one_line(error: Exception) -> str:
    """What an exception says, for within a sentence."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")
