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
import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "docker"
IMAGES = ("Dockerfile", "Dockerfile.cuda")


def steps(image):
    """(instruction, rest) of a Dockerfile."""
    lines = (FOLDER / image).read_text().splitlines()
    return [line.split(" ", 1) for line in lines if line and not line.startswith("#")]


def copies(image):
    """(sources, target) of its COPY lines."""
    return [(rest.split()[:-1], rest.split()[-1]) for instruction, rest in steps(image) if instruction == "COPY"]


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
    for sources, target in copies(image):
        for source in sources:
            place = root / (target if len(sources) == 1 and not target.endswith("/") else Path(target) / source)
            if target.endswith("/"):
                place = root / target / Path(source).name
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy
            copy(PROJECT / source, place)
    (install,) = [rest for instruction, rest in steps(image) if instruction == "RUN" and "install.sh" in rest]
    words = install.split()[:3]  # without another index: torch is here
    subprocess.run(words, cwd=root, env=environment, check=True)
    for instruction, rest in steps(image):
        if instruction == "ENV":
            environment |= dict(pair.split("=") for pair in rest.replace("/app", str(root)).split())
    (entry,) = [json.loads(rest) for instruction, rest in steps(image) if instruction == "ENTRYPOINT"]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen([*entry, "--port", str(port)], cwd=root, env=environment)
    try:
        deadline = time.monotonic() + 600
        while True:
            with contextlib.suppress(httpx.TransportError):
                assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "ok"
                break
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
