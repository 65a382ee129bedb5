"""Files that users name, and files and folders that appear as a whole or not at all."""

import contextlib
import ctypes
import errno
import glob
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import UserError, visible

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
    """A hidden name that nothing has, in the same folder and with the same ending; it says which process writes."""
    return path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")


UNFINISHED = re.compile(r"\..+-(\d+)-[0-9a-f]{8}\.part(\..+)?")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            writer = UNFINISHED.fullmatch(entry.name)
            if writer and not _runs(int(writer[1])):
                with contextlib.suppress(OSError):
                    shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it is somebody else's
    return True


_swept: set[tuple[int, Path]] = set()  # a process looks at a folder of files once: there may be very many


def _sweep_once(folder: Path) -> None:
    if (os.getpid(), folder) not in _swept:
        _swept.add((os.getpid(), folder))
        remove_leftovers(folder)


def _to_disk(path: Path) -> None:
    """Have a file, or a folder and all in it, survive a loss of power."""
    places = [path]
    if path.is_dir():
        places += sorted(path.rglob("*"), reverse=True)
    for place in places:
        if not place.is_symlink() and (place.is_file() or os.name == "posix"):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


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
    _sweep_once(path.parent)
    try:
        yield unfinished
        with explained_writing(path):
            _to_disk(unfinished)
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
    with _unfinished_folder(path) as unfinished:
        yield unfinished
        _to_disk(unfinished)
        if path.exists():
            path.rmdir()
        unfinished.rename(path)


@contextlib.contextmanager
def _unfinished_folder(path: Path) -> Iterator[Path]:
    unfinished = _beside(path)
    try:
        with explained_writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            unfinished.mkdir()
            yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def replaced_folder(
    path: str | os.PathLike, marker: str, ours: Callable[[Path], bool] = lambda _: True
) -> Iterator[Path]:
    """A hidden folder to fill, by work that does nothing but write; then it takes the place of the folder `path`, if
    there is one, at one go. On any error, and when the process is killed, the older folder stays as it was.

    Where the file system cannot exchange folders, or the folder is the one that the process works in, files are moved
    one by one, and `marker` is missing until the last of them has come.

    Args:
        marker: the file in the folder without which nobody reads it.
        ours: whether what the older folder has under a relative path belongs to what is replaced, and goes; all else,
            such as .git, stays.

    Raises:
        UserError: it cannot be written, or `path` is a file.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give the name of a folder.")
    with _unfinished_folder(path) as unfinished:
        yield unfinished
        _to_disk(unfinished)
        if not path.exists():
            unfinished.rename(path)
            return
        new = [each.relative_to(unfinished) for each in unfinished.rglob("*") if not each.is_dir()]
        if Path(os.path.realpath(os.curdir)) == path or not os.access(path.parent, os.W_OK):
            _move_into(path, unfinished, new, marker, ours)
            return
        _link_others(path, unfinished, ours)
        shutil.copymode(path, unfinished)
        if not _exchange(path, unfinished):
            _move_into(path, unfinished, new, marker, ours)


def _link_others(old: Path, new: Path, ours: Callable[[Path], bool]) -> None:
    """Give `new` all of `old` that is not `ours`, without copying it where links can be made."""
    for place, folders, files in os.walk(old):
        for name in (*folders, *files):
            path = Path(place, name)
            target = new / path.relative_to(old)
            if ours(path.relative_to(old)) or os.path.lexists(target):
                continue
            if path.is_dir() and not path.is_symlink():
                target.mkdir(parents=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target, follow_symlinks=False)
            except OSError:
                shutil.copy2(path, target, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> bool:
    """Have two folders change their names, in one step of the system; False where it cannot do that."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _move_into(path: Path, unfinished: Path, new: list[Path], marker: str, ours: Callable[[Path], bool]) -> None:
    (path / marker).unlink(missing_ok=True)
    for old in sorted(path.rglob("*"), reverse=True):
        relative = old.relative_to(path)
        if relative not in new and ours(relative) and (old.is_symlink() or not old.is_dir()):
            old.unlink()
    for relative in sorted(new, key=lambda each: each == Path(marker)):
        (path / relative).parent.mkdir(parents=True, exist_ok=True)
        os.replace(unfinished / relative, path / relative)


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text; there is either the whole file or none.

    Raises:
        UserError: it cannot be written.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def one_line(error: Exception) -> str:
    """What an exception says, for within a sentence: `visible`, since it may say what a stranger wrote."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return visible(" ".join(text.split())).rstrip(".")
