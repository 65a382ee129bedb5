"""Many videos from a manifest: alone, shared by two processes, interrupted, and with jobs that fail."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from eat_hf.cli import main as cli
from eat_hf.cli.jobs import read_manifest
from eat_hf.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(portrait_file, recording_file, tmp_path):
    """A folder with a portrait, a recording and what is no picture."""
    shutil.copy(portrait_file, tmp_path / "face.png")
    shutil.copy(recording_file, tmp_path / "voice.wav")
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


def write(folder, *lines):
    manifest = folder / "jobs.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def launch(processes, manifest, model):
    starter = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes), "--num_machines", "1"]
    command = [*starter, "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "eat_hf.cli"]
    return subprocess.Popen(
        [sys.executable, *(command if processes > 1 else ["-m", "eat_hf.cli"]), "generate",
         "--manifest", str(manifest), "--model", str(model)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip


def test_two_processes_share_the_jobs_and_one_that_fails_stops_none(folder, tiny_model):
    lines = [f"face.png,voice.wav,{n}.mp4,{emotion},{n}" for n, emotion in enumerate(("happy", "sad", "angry", ""))]
    manifest = write(folder, "image,audio,output,emotion,seed", *lines, "text.png,voice.wav,4.mp4,,",
                     "face.png,voice.wav,5.mp4,joyful,")  # fmt: skip
    (folder / "0.mp4").write_text("was made before")
    run = launch(2, manifest, tiny_model)
    out, err = run.communicate(timeout=300)
    assert run.returncode != 0 and "2 of 5 videos could not be made" in err
    assert sorted(Path(line).name for line in out.splitlines() if line.endswith(".mp4")) == ["1.mp4", "2.mp4", "3.mp4"]
    assert (folder / "0.mp4").read_text() == "was made before"
    for n in (1, 2, 3):
        with av.open(str(folder / f"{n}.mp4")) as container:
            assert container.streams.video[0].frames > 0
    failed = [json.loads(line) for line in (folder / "jobs.failed.jsonl").read_text().splitlines()]
    assert {Path(each["output"]).name for each in failed} == {"4.mp4", "5.mp4"}
    assert any("not a picture" in each["error"] for each in failed)
    assert any("joyful" in each["error"] for each in failed)
    assert not list(folder.glob(".*"))  # nothing half-written


def test_killed_it_goes_on_where_it_was(folder, tiny_model):
    manifest = write(folder, "image,audio,output", *(f"face.png,voice.wav,{n}.mp4" for n in range(6)))
    run = launch(1, manifest, tiny_model)
    assert run.stdout.readline().strip().endswith("0.mp4")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("?.mp4")}
    assert 1 <= len(made) < 6
    time.sleep(0.01)
    assert launch(1, manifest, tiny_model).wait(300) == 0
    assert {path.name for path in folder.glob("?.mp4")} == {f"{n}.mp4" for n in range(6)}
    assert all((folder / name).stat().st_mtime_ns == when for name, when in made.items())
    assert not (folder / "jobs.failed.jsonl").exists()


def test_a_line_says_what_the_options_say(folder):
    manifest = write(folder, "image,audio,output,timeline,intensity,head_motion,face,paste_back",
                     '"face.png",voice.wav,a.mp4,"0:sad,1:happy",0.5,turn.safetensors,1,yes',
                     "face.png,voice.wav,b.mp4,,,still,,")  # fmt: skip
    first, second = read_manifest(manifest)
    assert (first.timeline, first.intensity, first.face, first.paste_back) == ("0:sad,1:happy", "0.5", 1, True)
    assert first.image == folder / "face.png" and first.head_motion == str(folder / "turn.safetensors")
    assert (second.timeline, second.intensity, second.head_motion, second.face) == (None, "1", "still", None)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "cannot be read"),
        (("image,audio,output",), "lists no jobs"),
        (("image,audio", "a,b"), "lacks the column output"),
        (("image,audio,output,mood", "a,b,c.mp4,sad"), "has a column 'mood'"),
        (("image,audio,output", "a,,c.mp4"), "Line 2 of .* has no audio"),
        (("image,audio,output,seed", "a,b,c.mp4,x"), "Line 2 .* whole numbers"),
        (("image,audio,output,paste_back", "a,b,c.mp4,perhaps"), "paste_back is true or false"),
        (("image,audio,output", "a,b,c.mp4", "d,b,c.mp4"), "writes c.mp4 more than once"),
        (("image,audio,output", "a,b,c.mp4,d"), "more values than columns"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path, lines, words):
    with pytest.raises(UserError, match=words):
        read_manifest(write(tmp_path, *lines) if lines else tmp_path / "none.csv")


def test_a_manifest_takes_the_place_of_other_options(folder, capsys):
    manifest = write(folder, "image,audio,output", "face.png,voice.wav,a.mp4")
    for arguments, words in (
        (["--manifest", str(manifest), "--emotion", "sad"], "not in other options"),
        (["--image", str(folder / "face.png")], "Give --audio"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["generate", *arguments])
        assert stopped.value.code == 2 and words in capsys.readouterr().err
