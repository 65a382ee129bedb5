"""Videos of the examples: made once, by whoever comes first or before anybody does, and kept while the server runs."""

import hashlib
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from ..media.files import unfinished_file
from ..serving.turns import give_way
from .studio import PREVIEW_EVERY, Made

MOST = 50  # videos; those that nobody asked for lately go first


class Kept:
    """Videos by what they were asked for with."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="eat_examples_")
        self._videos: OrderedDict[str, Path] = OrderedDict()
        self._under_way: dict[str, Made | None] = {}  # ahead of visitors
        self._changing = threading.Lock()

    def find(self, key: str) -> Path | None:
        """A finished video."""
        with self._changing:
            if key in self._videos:
                self._videos.move_to_end(key)
            return self._videos.get(key)

    def make_ahead(self, key: str, name: str, make: Callable[[], Iterator[Made]]) -> None:
        """Make a video before anybody asks for it, if nobody has."""
        if self.find(key) is not None:
            return
        self._under_way[key] = None
        try:
            for made in self._make(key, name, make):
                self._under_way[key] = made
        finally:
            del self._under_way[key]

    def video(self, key: str, name: str, make: Callable[[], Iterator[Made]]) -> Iterator[Made]:
        """The steps of a video that is under way, or is made now; of a finished one the last."""
        seen = None
        while key in self._under_way:
            made = self._under_way.get(key)
            if made is not None and made.video is None and made is not seen:
                yield made
            seen = made
            give_way()
            time.sleep(PREVIEW_EVERY)
        path = self.find(key)
        if path is None:
            yield from self._make(key, name, make)
        else:
            yield Made(None, 1, 1, path)

    def _make(self, key: str, name: str, make: Callable[[], Iterator[Made]]) -> Iterator[Made]:
        for made in make():
            if made.video is not None:
                path = Path(self._folder.name, hashlib.sha256(key.encode()).hexdigest()[:16], name)
                path.parent.mkdir(exist_ok=True)
                with unfinished_file(path) as part:  # two may make it at once, and a third be reading it
                    part.write_bytes(made.video.read_bytes())
                with self._changing:
                    self._videos[key] = path
                    if len(self._videos) > MOST:
                        self._videos.popitem(last=False)[1].unlink(missing_ok=True)
            yield made
