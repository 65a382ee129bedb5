"""Signals at every stage of the work, and who may speak on the terminal."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import scipy.io.wavfile
from conftest import voice
from tiny_words import add_words, make_tiny_clip

from eat_hf.adapters.emotion_adapter import CONFIG, WEIGHTS
from eat_hf.media.videos import write_video

BAR = re.compile(r"(it/s|s/it)\]")  # of progress, which is slow on a busy machine


@pytest.fixture
def long_recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "long.wav"
    scipy.io.wavfile.write(path, 16000, voice(15))  # nobody waits for all of its frames
    return path


def ended(arguments, number, ready, folder, timeout=200):
    """The command, sent a signal as soon as `ready` finds something; (status, lines on stderr without bars)."""
    command = [sys.executable, "-m", "eat_hf.cli", *map(str, arguments)]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True
    )
    until = time.monotonic() + timeout
    while not ready() and run.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(number)
    _, err = run.communicate(timeout=timeout)
    return run.returncode, [line for line in err.splitlines() if line.strip() and not BAR.search(line)]


def test_a_signal_while_frames_are_made_leaves_one_word_and_no_file(
    tiny_model, portrait_file, long_recording, tmp_path
):
    """SIGTERM comes while things are loaded, and scored; SIGHUP below."""
    arguments = ("generate", "--image", portrait_file, "--audio", long_recording, "--model", tiny_model)
    begun = lambda: list(tmp_path.glob(".out-*"))  # noqa: E731
    found = ended((*arguments, "-o", tmp_path / "out.mp4"), signal.SIGINT, begun, tmp_path)
    assert found == (130, ["interrupted"])
    assert os.listdir(tmp_path) == []


def test_a_signal_while_things_are_loaded(tiny_model, portrait_file, recording_file, tmp_path):
    """As soon as the process has taken the signal over, which its mask of caught signals tells."""
    arguments = ("generate", "--image", portrait_file, "--audio", recording_file, "--model", tiny_model, "-o", "a.mp4")
    command = [sys.executable, "-m", "eat_hf.cli", *map(str, arguments)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    caught = 0
    while not caught & 1 << signal.SIGTERM - 1 and run.poll() is None:
        with open(f"/proc/{run.pid}/status") as status:
            caught = next((int(line.split()[1], 16) for line in status if line.startswith("SigCgt")), 0)
    run.send_signal(signal.SIGTERM)
    assert run.communicate(timeout=200)[1].strip() == "interrupted" and run.returncode == 143
    assert os.listdir(tmp_path) == []


def test_a_signal_while_clips_are_scored_ends_the_workers(portrait, tmp_path):
    for name in ("generated", "reference"):
        (tmp_path / name).mkdir()
    clip = tmp_path / "generated" / "0.mp4"
    write_video(clip, [portrait] * 100)
    for name, n in itertools.product(("generated", "reference"), range(4)):
        if (copy := tmp_path / name / f"{n}.mp4") != clip:
            shutil.copy(clip, copy)
    (tmp_path / "empty").mkdir()
    arguments = ("evaluate", "--generated", "generated", "--reference", "reference", "--workers", "1")

    def scoring():
        """There is a worker: a process that the one with all imports has forked."""
        here = [p for p in os.listdir("/proc") if p.isdigit() and _folder(p) == str(tmp_path)]
        return any("forkserver" in _command(p) and "forkserver" in _command(_parent(p)) for p in here)

    found = ended((*arguments, "--fid-backbone", "none", "-o", "report.json"), signal.SIGTERM, scoring, tmp_path)
    assert found == (143, ["interrupted"])
    assert not scoring() and sorted(os.listdir(tmp_path)) == ["empty", "generated", "reference"]


def _command(process):
    try:
        with open(f"/proc/{process}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def _parent(process):
    try:
        with open(f"/proc/{process}/status") as file:
            return next(line.split()[1] for line in file if line.startswith("PPid:"))
    except OSError:
        return ""


def _folder(process):
    try:
        return os.readlink(f"/proc/{process}/cwd")
    except OSError:
        return None


@pytest.mark.slow
def test_interrupted_learning_keeps_the_best_so_far(tiny_model, portrait_file, recording_file, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    add_words(model, make_tiny_clip())
    arguments = ("learn-emotion", "--text", "a smile", "--image", portrait_file, "--audio", recording_file)
    log = tmp_path / "log"
    with log.open("w") as stderr:
        run = subprocess.Popen(
            [sys.executable, "-m", "eat_hf.cli", *map(str, arguments), "--model", str(model), "--steps", "5000",
             "-o", str(tmp_path / "smile")],
            env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
        while "step 5:" not in log.read_text() and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        out = run.communicate(timeout=200)[0]
    assert run.returncode == 130 and out.strip() == str(tmp_path / "smile")
    assert log.read_text().splitlines()[-1] == "interrupted"
    assert sorted(os.listdir(tmp_path / "smile")) == sorted(["README.md", CONFIG, WEIGHTS])


def python(program):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=200
    )  # fmt: skip


def test_code_that_swallows_the_interruption_is_interrupted_again():
    run = python("""
        import os, signal, time
        from eat_hf.cli.process import ended_by_signals
        with ended_by_signals():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(50)
            except:
                time.sleep(50)
    """)
    assert (run.returncode, run.stderr) == (130, "interrupted\n")


def test_an_error_that_comes_of_the_interruption_is_not_told():
    run = python("""
        import os, signal
        from eat_hf.cli.process import ended_by_signals
        with ended_by_signals():
            try:
                os.kill(os.getpid(), signal.SIGHUP)
                while True:
                    pass
            except BaseException as error:
                raise RuntimeError("the decoder stopped") from error
    """)
    assert (run.returncode, run.stderr) == (129, "interrupted\n")


def test_what_the_shell_ignores_stays_ignored():
    run = python("""
        import os, signal
        from eat_hf.cli.process import ended_by_signals
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        print("done")
    """)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


def test_libraries_are_silent_and_own_warnings_are_one_line():
    run = python(r"""
        import logging, os, sys, warnings
        from eat_hf.cli.process import libraries_silenced
        from eat_hf.errors import InputWarning
        with libraries_silenced():
            logging.getLogger("transformers").error("a line of transformers")
            logging.warning("a line of the root")
            warnings.warn("a line of numpy", RuntimeWarning)
            os.write(2, b"a line of C\n")
            warnings.warn("two lines\nof \x1b[31mours and \udc80", InputWarning)
        os.write(2, b"afterwards\n")
        print("\udc80")
    """)
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines() == [r"warning: two lines\nof \x1b[31mours and \udc80", "afterwards"]
    assert run.stdout == "\\udc80\n"
