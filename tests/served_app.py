"""The web demo in a process of its own, and what visitors bring to it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io.wavfile
from conftest import voice
from hub_server import Hub
from PIL import Image

from eat_hf.constants import FPS

ROOT = Path(__file__).parents[1]
HELD = 6  # frames of clips that can be held
PATIENCE = 300  # seconds after which a test gives up, on a machine however busy


def make_files(folder: Path, portrait: np.ndarray) -> dict[str, Path]:
    """Pictures and recordings, good and bad, by name."""
    face = Image.fromarray(portrait[:320, 60:380])
    face.save(folder / "face.png")
    face.resize((1600, 1600)).save(folder / "large.png")
    Image.new("RGB", (300, 300), "gray").save(folder / "grey.png")
    (folder / "text.png").write_text("no picture")
    lengths = {"short": 0.1, "word": 0.4, "held": HELD / FPS, "sentence": 3.0, "long": 5.0}
    for name, seconds in lengths.items():
        scipy.io.wavfile.write(folder / f"{name}.wav", 16000, voice(seconds))
    return {path.name: path for path in folder.iterdir()}


class Server:
    """The demo in its own process, with limits of the test's. Attributes: url; folder, of its temporary files; log."""

    def __init__(
        self, model: Path, files: dict[str, Path], hub: Hub, folder: Path, packages: Path | None = None, **limits: Any
    ):
        self.folder = folder / "temporary"
        self.folder.mkdir()
        self._hold, self._held = folder / "hold", folder / "held"
        self.log = folder / "log.txt"
        environment = {
            **os.environ,
            **hub.client_environment(folder / "hub", token=hub.add_user("server")),
            "TMPDIR": str(self.folder),
            "PYTHONPATH": os.pathsep.join([*filter(None, [packages and str(packages)]), str(ROOT), *sys.path]),
            "OMP_NUM_THREADS": "1",
            "HELD": str(HELD),
        }
        environment.pop("GRADIO_TEMP_DIR", None)
        program = [sys.executable, Path(__file__).with_name("app_server.py"), model]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*map(str, program), str(files["face.png"]), str(files["word.wav"]), json.dumps(limits)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
            )
        self.url = self.process.stdout.readline().strip().rstrip("/")
        assert self.url.startswith("http"), self.log.read_text()

    def memory(self) -> int:
        """Resident bytes."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def leftovers(self) -> list[str]:
        """Files of unfinished work."""
        return [path.name for path in self.folder.glob("eat_hf_*")]

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Clips of the voice `held.wav` do not end within; gives a function that waits until so many are under way."""
        self._held.write_text("")
        self._hold.touch()
        try:
            yield lambda count: eventually(lambda: len(self._held.read_text().splitlines()) >= count)
        finally:
            self._hold.unlink()

    def client(self):
        from gradio_client import Client

        return Client(self.url, verbose=False, download_files=tempfile.mkdtemp(dir=self.folder.parent))


def eventually(come: Callable[[], bool]) -> None:
    """Wait for something that must come, however busy the machine is."""
    until = time.monotonic() + PATIENCE
    while not come():
        assert time.monotonic() < until, "it has not come"
        time.sleep(0.05)
