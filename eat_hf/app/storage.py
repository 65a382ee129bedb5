"""What visitors leave on the disk: bounded in time and in all, in a folder that is this server's alone."""

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import time

from ..serving.limits import Limits

VARIABLE = "GRADIO_TEMP_DIR"  # where Gradio keeps uploads and results
SPARED_SECONDS = 120  # files that are younger are in use
EVERY = 5  # seconds between looks


def own_folder() -> str:
    """The folder of uploads and results; a new one, which nobody else may read and which goes with the server, unless
    one was chosen."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = folder = tempfile.mkdtemp(prefix="gradio_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return os.environ[VARIABLE]


class Storage:
    """Deletes what is too old, and the oldest while there is too much."""

    def __init__(self, folder: str, limits: Limits):
        self.folder, self.limits = folder, limits
        self._sweeping = threading.Lock()
        self._swept, self._kept = 0.0, 0

    def has_room(self, more: int = 0) -> bool:
        """Whether so many more bytes can be kept, after a sweep if the last one was a while ago."""
        with self._sweeping:
            if time.monotonic() - self._swept > EVERY or self._kept + more > self._most:
                self._kept = self._sweep(more)
                self._swept = time.monotonic()
            if self._kept + more > self._most:
                return False
            self._kept += more
            return True

    @property
    def _most(self) -> int:
        return self.limits.kept_megabytes * 1_000_000

    def _sweep(self, more: int) -> int:
        """Bytes that are left."""
        now, found = time.time(), []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):  # deleted by Gradio meanwhile
                    facts = os.lstat(path)
                    found.append((facts.st_ctime, facts.st_size, path))
        kept = sum(size for _, size, _ in found)
        for changed, size, path in sorted(found):
            age = now - changed
            if age > self.limits.kept_seconds or (kept + more > self._most and age > SPARED_SECONDS):
                with contextlib.suppress(OSError):
                    os.remove(path)
                    kept -= size
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(path))  # if it is empty now
        return kept
