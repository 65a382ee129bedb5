"""Many videos from a manifest: alone, shared by two processes, interrupted, and with jobs that fail."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest
import scipy.io.wavfile
from conftest import voice

from eat_hf.cli import jobs
from eat_hf.cli import main as cli
from eat_hf.cli.jobs import check, claim, read_manifest, run_manifest
from eat_hf.constants import EMOTIONS, VOICE_EMOTION_VARIABLE
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
            assert container.streams.video[0].frames == 8
    assert err.count("not made: line 6, ") == err.count("not made: line 7, ") == 1  # listed once, at the end
    failed = [json.loads(line) for line in (folder / "jobs.failed.jsonl").read_text().splitlines()]
    assert {Path(each["output"]).name for each in failed} == {"4.mp4", "5.mp4"}
    assert any("not a picture" in each["error"] for each in failed)
    assert any("joyful" in each["error"] for each in failed)
    assert not list(folder.glob(".*"))  # nothing half-written


def test_a_line_may_follow_the_voice(folder, monkeypatch):
    """The model that hears it lies beside the manifest, or is a repository."""
    monkeypatch.delenv(VOICE_EMOTION_VARIABLE, raising=False)
    (folder / "hears").mkdir()
    manifest = write(folder, "image,audio,output,emotion,intensity,voice_emotion,voice_labels",
                     "face.png,voice.wav,0.mp4,voice,voice,hears,\"hap=happy,ang=angry\"",
                     "face.png,voice.wav,1.mp4,voice,,some/repository,", "face.png,voice.wav,2.mp4,voice,,,",
                     "face.png,voice.wav,3.mp4,happy,voice,,")  # fmt: skip
    beside, of_hub, nameless, lively = read_manifest(manifest)
    options = jobs.prepare(beside, EMOTIONS).options
    assert (options.emotion, options.intensity, options.voice_emotion) == ("voice", "voice", str(folder / "hears"))
    assert options.voice_labels == {"hap": "happy", "ang": "angry"}
    assert of_hub.voice_emotion == "some/repository" and check(of_hub, EMOTIONS) == ("voice", 1.0)
    with pytest.raises(UserError, match="Which model hears"):
        check(nameless, EMOTIONS)
    assert check(lively, EMOTIONS) == ("happy", "voice")


def test_killed_it_goes_on_where_it_was(folder, tiny_model, runner):
    """Killed in the middle of a video that takes longer than anybody waits; the next run finds a short one."""
    lines = "face.png,voice.wav,0.mp4", "face.png,long.wav,1.mp4", "face.png,voice.wav,2.mp4"
    manifest = write(folder, "image,audio,output", *lines)
    scipy.io.wavfile.write(folder / "long.wav", 16000, voice(30))
    run = launch(1, manifest, tiny_model)
    assert run.stdout.readline().strip().endswith("0.mp4")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("?.mp4")}
    assert made.keys() == {"0.mp4"}
    shutil.copy(folder / "voice.wav", folder / "long.wav")
    assert runner(manifest) == (["1.mp4", "2.mp4"], [])
    assert not list(folder.glob(".*"))  # what the killed one left
    assert {path.name for path in folder.glob("?.mp4")} == {"0.mp4", "1.mp4", "2.mp4"}
    assert (folder / "0.mp4").stat().st_mtime_ns == made["0.mp4"]
    assert not (folder / "jobs.failed.jsonl").exists()


@pytest.fixture
def runner(tiny_pipeline):
    """`run_manifest` with the tiny pipeline: (names of what was made, failed jobs)."""

    def run(manifest):
        made, failed = run_manifest(manifest, lambda device: tiny_pipeline, lambda pipe: "neutral", emotions=EMOTIONS)
        return sorted(path.name for path in made), failed

    return run


def test_whatever_happens_to_one_job_the_others_are_made(folder, runner, monkeypatch, capsys):
    manifest = write(
        folder,
        "image;audio;output;emotion;intensity;seed",
        "face.png;voice.wav;crash.mp4;;;13",
        "face.png;voice.wav;good.mp4;happy;0,5;1.0",
        "none.png;voice.wav;1.mp4;;;",
        "face.png;voice.wav;2.mp4;joyful;;",
        "face.png;voice.wav;3.mp4;;2;",
        "face.png;voice.wav;4.mp4;;;-1",
        "face.png;voice.wav;5.mp4;;;x",
        "face.png;;6.mp4;;;",
        "face.png;voice.wav;none/7.mp4;;;",
        "face.png;voice.wav;twice.mp4;;;",
        "face.png;voice.wav;./twice.mp4;;;",
        "text.png;voice.wav;8.mp4;;;",
        ";;;;;",
    )
    real = jobs.make_video

    def crash(pipeline, ready, *arguments):
        if ready.job.seed == 13:
            raise IndexError("pop from\nan empty list")
        real(pipeline, ready, *arguments)

    monkeypatch.setattr(jobs, "make_video", crash)
    made, failed = runner(manifest)
    assert made == ["good.mp4"]
    reasons = {each.line: each.error for each in failed}
    for line, words in {
        2: "IndexError: pop from an empty list", 4: "none.png does not exist", 5: "Unknown emotion 'joyful'",
        6: "between 0 and 1.5", 7: "from 0 to 18446744073709551615", 8: "whole numbers", 9: "has no audio",
        10: "none does not exist", 11: "lines 11, 12", 12: "lines 11, 12", 13: "not a picture",
    }.items():  # fmt: skip
        assert words in reasons.pop(line)
    assert not reasons
    err = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(err)
    told = [line.partition(",")[0] for line in err if line.startswith("line ")]
    assert told.index("line 4") < told.index("line 2")  # what can be seen without the model comes first
    assert len([line for line in err if line.startswith("not made: line ")]) == 11
    written = [json.loads(line) for line in (folder / "jobs.failed.jsonl").read_text().splitlines()]
    assert len({each["output"] for each in written}) == 10  # two lines want twice.mp4
    [crashed] = [each for each in written if each["line"] == 2]
    assert "IndexError" in crashed["traceback"]


def test_mistakes_are_found_before_a_model_is_loaded(folder, capsys):
    manifest = write(folder, "image,audio,output,emotion", *(
        f"face.png,voice.wav,{n}.mp4,{'happy' if n % 1000 else 'hapy'}" for n in range(8000)
    ))  # fmt: skip

    def load(device):
        raise UserError("The model cannot be loaded.")

    with pytest.raises(UserError, match="cannot be loaded"):
        run_manifest(manifest, load, lambda pipe: "neutral", emotions=EMOTIONS)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 8 and told[1].startswith("line 1002, ") and "Unknown emotion 'hapy'" in told[1]
    assert not list(folder.glob(".*")) and not list(folder.glob("*.mp4"))


def test_a_job_that_another_run_makes_is_left_to_it(folder, runner, capsys):
    manifest = write(folder, "image,audio,output", *(f"face.png,voice.wav,{n}.mp4" for n in range(3)))
    with claim(folder / "1.mp4") as mine:
        assert mine
        with claim(folder / "1.mp4") as again:
            assert not again
        assert runner(manifest) == (["0.mp4", "2.mp4"], [])
    assert "1 videos are being made by another run" in capsys.readouterr().err
    assert runner(manifest) == (["1.mp4"], []) and not list(folder.glob(".*"))


def test_the_claim_of_a_killed_run_is_taken_over(folder, runner):
    manifest = write(folder, "image,audio,output", "face.png,voice.wav,a.mp4")
    program = (
        "import sys, time; from pathlib import Path; from eat_hf.cli.jobs import claim\n"
        "with claim(Path(sys.argv[1])) as mine:\n"
        "    Path(sys.argv[2]).write_text('half a video'); print(mine, flush=True); time.sleep(600)"
    )
    half = folder / ".a-0123abcd.part.mp4"
    run = subprocess.Popen([sys.executable, "-c", program, folder / "a.mp4", half], stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "True\n"
    assert runner(manifest) == ([], []) and half.exists()
    run.kill()
    run.communicate()
    assert runner(manifest) == (["a.mp4"], []) and not list(folder.glob(".*"))


def test_two_runs_share_a_manifest(folder, tiny_model, runner):
    """One here, which begins when the other has made its first video."""
    manifest = write(folder, "image,audio,output", *(f"face.png,voice.wav,{n}.mp4" for n in range(6)))
    other = launch(1, manifest, tiny_model)
    first = other.stdout.readline()
    made, failed = runner(manifest)
    out, err = other.communicate(timeout=300)
    assert other.returncode == 0 and failed == [], err
    theirs = [Path(line).name for line in (first + out).splitlines()]
    assert sorted([*made, *theirs]) == [f"{n}.mp4" for n in range(6)]  # each once
    assert not list(folder.glob(".*"))


def test_failures_of_other_runs_stay_in_the_report(folder, runner):
    lines = "face.png,voice.wav,a.mp4", "text.png,voice.wav,b.mp4", "face.png,voice.wav,c.mp4"
    manifest = write(folder, "image,audio,output", *lines)
    report = folder / "jobs.failed.jsonl"
    report.write_text("".join(json.dumps({"output": str(folder / f"{n}.mp4"), "error": "old"}) + "\n" for n in "abc"))
    with claim(folder / "c.mp4"):  # somebody else is at it
        assert runner(manifest)[0] == ["a.mp4"]
    told = {Path(each["output"]).name: each["error"] for each in map(json.loads, report.read_text().splitlines())}
    assert told.keys() == {"b.mp4", "c.mp4"} and told["c.mp4"] == "old" and "not a picture" in told["b.mp4"]


def test_unknown_columns_are_named_in_one_sentence(folder):
    with pytest.raises(
        UserError, match="has columns 'mood', 'colour'; columns are audio, audio_track, blinks, emotion"
    ) as caught:
        read_manifest(write(folder, "image,mood,audio,output,colour", "a,b,c,d.mp4,e"))
    assert "\n" not in str(caught.value)


def test_a_line_says_what_the_options_say(folder):
    manifest = write(folder, "image,audio,output,timeline,intensity,head_motion,face,paste_back",
                     '"face.png",voice.wav,a.mp4,"0:sad,1:happy",0.5,turn.safetensors,1,yes',
                     "face.png,voice.wav,b.mp4,,,still,,")  # fmt: skip
    first, second = read_manifest(manifest)
    assert (first.timeline, first.intensity, first.face, first.paste_back) == ("0:sad,1:happy", "0.5", 1, True)
    assert first.image == folder / "face.png" and first.head_motion == str(folder / "turn.safetensors")
    assert (second.timeline, second.intensity, second.head_motion, second.face) == (None, "1", "still", None)


def test_lines_say_how_much_heads_and_eyes_move(folder):
    manifest = write(folder, "image;audio;output;head_amount;blinks;gaze",
                     "face.png;voice.wav;a.mp4;0,5;2;0",
                     "face.png;voice.wav;b.mp4;;much;",
                     "face.png;voice.wav;c.mp4;3;;")  # fmt: skip
    first, second, third = read_manifest(manifest)
    assert (first.head_amount, first.blinks, first.gaze) == (0.5, 2, 0)
    assert "blinks is a number, not 'much'" in second.error
    with pytest.raises(UserError, match="head_amount must be a number from 0 to 2"):
        check(third)


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
