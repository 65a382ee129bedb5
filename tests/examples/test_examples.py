"""Every script of `examples` does what it says, in the folder in which it is called."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from eat_hf.inputs.faces import detect_faces

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MADE = {
    "generate": ["happy.mp4"],
    "timeline": ["timeline.mp4"],
    "adapters": ["bittersweet.mp4", "crying.mp4"],
    "words": ["at_once.mp4", "crying_adapter", "learnt.mp4"],
    "stream": ["stream.mp4"],
    "emotions": ["emotions.webp"],
    "batch": ["happy.mp4", "happy_0.5_surprised_0.5.mp4", "jobs.csv", "sad.mp4"],
}
SLOW = ("adapters", "words", "batch", "emotions")  # several videos each


def test_all_are_here_and_short():
    scripts = list(EXAMPLES.glob("*.py"))
    assert {script.stem for script in scripts} == set(MADE)
    assert all(len(script.read_text().splitlines()) < 30 for script in scripts)


def test_portraits_have_a_face_and_everything_has_a_source():
    portraits = sorted([*EXAMPLES.glob("*.jpg"), *EXAMPLES.glob("*.png")])
    assert len(portraits) >= 5
    for portrait in portraits:
        assert len(detect_faces(np.asarray(Image.open(portrait).convert("RGB")))) == 1, portrait
    named = set(re.findall(r"`([\w.]+)`", (EXAMPLES / "README.md").read_text()))
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"} <= named


def cells_of_the_tour():
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text())
    assert notebook["nbformat"] == 4 and not any(cell.get("outputs") for cell in notebook["cells"])
    return [compile("".join(c["source"]), "tour", "exec") for c in notebook["cells"] if c["cell_type"] == "code"]


def test_the_notebook_is_one():
    assert len(cells_of_the_tour()) > 3


@pytest.mark.slow
def test_the_notebook_runs(recording_file, tmp_path, monkeypatch):
    """In a folder like the checkout's, with short recordings."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    for voice in ("speech.wav", "speech_man.wav"):
        shutil.copy(recording_file, tmp_path / "examples" / voice)
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in cells_of_the_tour():
        exec(cell, names)
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"happy.mp4", "timeline.mp4", "words.mp4", "crying.mp4"}
    assert np.asarray(names["sheet"]).std() > 20 and names["sheet"].size == (1024, 512)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in MADE])
def test_the_script_runs(name, portrait_file, recording_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(portrait_file), str(recording_file)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert sorted(path.name for path in tmp_path.iterdir()) == MADE[name]
    said = capsys.readouterr().out
    for video in tmp_path.glob("*.mp4"):
        assert video.name in said
        with av.open(str(video)) as container:
            assert container.streams.video[0].frames == 8 and container.streams.audio
