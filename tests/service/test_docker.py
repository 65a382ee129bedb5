"""The images, without Docker: their steps, in an environment of their own."""

import contextlib
import fnmatch
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import scipy.io.wavfile
import yaml
from conftest import voice

from eat_hf.media.videos import read_video

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "docker"
EXAMPLE = PROJECT / "examples" / "portrait.png"
IMAGES = ("Dockerfile", "Dockerfile.cuda")


def steps(image):
    """(instruction, rest) of a Dockerfile."""
    lines = (FOLDER / image).read_text().splitlines()
    return [line.split(" ", 1) for line in lines if line and not line.startswith("#")]


def copies(image):
    """(sources, target) of its COPY lines."""
    return [(rest.split()[:-1], rest.split()[-1]) for instruction, rest in steps(image) if instruction == "COPY"]


def copy(sources, target, root):
    """As COPY does: into a folder whose name ends with /, else as that name; of folders what is in them."""
    for source in sources.split():
        place = root / target / (Path(source).name if target.endswith("/") else "")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / source, place, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy(PROJECT / source, place)


@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_copies_is_there_and_sent(image):
    sent = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources, _ in copies(image):
        for source in sources:
            assert (PROJECT / source).exists()
            assert any(fnmatch.fnmatch(source, kept) or source.startswith(f"{kept}/") for kept in sent), source


def test_compose_builds_the_images():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    built = [(FOLDER / each["build"]["context"] / each["build"]["dockerfile"]).resolve() for each in services.values()]
    assert built == [FOLDER / image for image in IMAGES]


@pytest.mark.slow
@pytest.mark.parametrize("image", IMAGES)
def test_an_images_steps_serve(image, tmp_path):
    root, environment = tmp_path / "app", {**os.environ, "OMP_NUM_THREADS": "1"}
    root.mkdir()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    # what is here already need not be downloaded again
    environment["PYTHONPATH"] = next(path for path in sys.path if path.endswith("site-packages"))
    entry = []
    for instruction, rest in steps(image):
        if instruction == "COPY":
            copy(*rest.rsplit(" ", 1), root)
        elif instruction == "RUN" and "install.sh" in rest:
            # without another index: torch is here
            subprocess.run(rest.split()[:3], cwd=root, env=environment, check=True)
        elif instruction == "ENV":
            environment |= dict(pair.split("=") for pair in rest.replace("/app", str(root)).split())
        elif instruction == "ENTRYPOINT":
            entry = json.loads(rest)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen([*entry, "--port", str(port)], cwd=root, env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
            deadline = time.monotonic() + 600
            while True:
                with contextlib.suppress(httpx.TransportError):
                    assert client.get("/health").json()["status"] == "ok"
                    break
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
            scipy.io.wavfile.write(tmp_path / "voice.wav", 16_000, voice(0.4))
            files = {"image": EXAMPLE.read_bytes(), "audio": (tmp_path / "voice.wav").read_bytes()}
            answer = client.post("/v1/videos", files=files, data={"emotion": "happy", "size": "256"})
            assert answer.status_code == 200, answer.text
            (tmp_path / "video.mp4").write_bytes(answer.content)
            assert np.stack(list(read_video(tmp_path / "video.mp4"))).shape == (10, 256, 256, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
