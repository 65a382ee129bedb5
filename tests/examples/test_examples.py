"""Every script of `examples` does what it says, in the folder in which it is called."""

import runpy
import sys
from pathlib import Path

import av
import pytest

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
