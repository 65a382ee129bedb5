import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io.wavfile
import torch
import typer
from conftest import voice
from media_files import encoded, scratched, small_picture, small_video, tracks, written
from PIL import Image
from safetensors.torch import save_file
from tiny_voice_emotion import save_classifier

from eat_hf import EATPipeline
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.cli import main as cli
from eat_hf.inputs.head_motion import TRACKS
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import read_video
from eat_hf.pipeline.bundled import MODEL_VARIABLE

pytestmark = pytest.mark.usefixtures("faces_found_once")

ROOT = Path(__file__).parents[2]


def eat_hf(*arguments, **options):
    """The command as its own process."""
    command = [sys.executable, "-m", "eat_hf.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def check_video(path, frames, seconds):
    """Its frames, after a look at its length and sound."""
    with av.open(str(path)) as container:
        [video], [sound] = container.streams.video, container.streams.audio
        assert video.frames == frames and video.average_rate == 25
        assert float(sound.duration * sound.time_base) == pytest.approx(seconds, abs=0.05)
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(sound)], 1)
        assert np.abs(heard).max() > 0.1
    return np.stack(list(read_video(path)))


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in text, text
    return lines[0]


@pytest.fixture
def in_process(capfd):
    """The command inside this process, for cases that would spend their time on importing: (status, out, err)."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments):
        with warnings.catch_warnings():
            try:
                cli.main([str(argument) for argument in arguments])
                status = 0
            except SystemExit as exit:
                status = exit.code
        return status, *capfd.readouterr()

    yield run
    signal.signal(signal.SIGTERM, handler)


def test_generate_writes_a_video_of_the_recordings_length(tiny_model, portrait_file, recording_file, tmp_path):
    run = eat_hf(
        *("generate", "--image", portrait_file, "--audio", recording_file, "--model", tiny_model),
        *("--emotion", "happy=0.7,surprised=0.3", "--intensity", "1.2", "--seed", "1", "--paste-back"),
        *("-o", tmp_path / "out.mp4"),
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(tmp_path / "out.mp4")
    assert "8/8" in run.stderr  # the progress bar
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.frames, video.width, video.height) == (8, 512, 512) and sound.rate == 24000
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_generate_says_what_takes_long(in_process, tiny_model, portrait_file, recording_file, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(EATPipeline, "compile", lambda pipeline: pipeline)  # nothing to wait for
    monkeypatch.setattr(EATPipeline, "stream", lambda *_, **__: sys.exit("it begins"))
    files = "--image", portrait_file, "--audio", recording_file, "--model", tiny_model, "-o", tmp_path / "out.mp4"
    _, _, err = in_process("generate", *files, "--dtype", "bfloat16", "--compile")
    assert "no instructions for bfloat16" in err and "compiled with its first frames" in err
    _, _, err = in_process("generate", *files)
    assert "instructions" not in err and "compiled" not in err


def test_generate_follows_the_voice(in_process, tiny_model, portrait_file, recording_file, tmp_path):
    classifier = save_classifier(tmp_path / "classifier")
    arguments = "--emotion", "voice", "--intensity", "voice", "--voice-emotion", classifier, "--voice-labels", "neu=sad"
    status, out, _ = in_process(
        *("generate", "--image", portrait_file, "--audio", recording_file, "--model", tiny_model, *arguments),
        *("-o", tmp_path / "out.mp4"),
    )
    assert status == 0 and out.strip() == str(tmp_path / "out.mp4")
    check_video(tmp_path / "out.mp4", 8, 0.32)


@pytest.mark.slow
def test_generate_in_half_precision(tiny_model, portrait_file, recording_file, tmp_path):
    files = "--image", portrait_file, "--audio", recording_file, "--model", tiny_model
    run = eat_hf("generate", *files, "--seed", "1", "--dtype", "bfloat16", "-o", tmp_path / "half.mp4")
    assert run.returncode == 0, run.stderr
    run = eat_hf("generate", *files, "--seed", "1", "-o", tmp_path / "full.mp4")
    assert run.returncode == 0, run.stderr
    half, full = (np.stack(list(read_video(tmp_path / f"{name}.mp4"))).astype(int) for name in ("half", "full"))
    assert half.shape == full.shape == (8, 256, 256, 3)
    assert np.corrcoef(half.ravel(), full.ravel())[0, 1] > 0.7 and (half != full).any()  # a random net, coarsely
    run = eat_hf("generate", *files, "--dtype", "int8", "-o", tmp_path / "int8.mp4")
    assert run.returncode == 2 and "'float32', 'bfloat16', 'float16'" in run.stderr and "Traceback" not in run.stderr


def test_a_full_disk_is_one_line_and_no_file(in_process, tiny_model, portrait_file, recording_file, tmp_path):
    given = ("generate", "--image", portrait_file, "--audio", recording_file, "--model", tiny_model)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # of one file; the video is larger
    try:
        status, out, err = in_process(*given, "-o", tmp_path / "out.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (status, out) == (2, "") and "Traceback" not in err
    assert "No space left" in err.strip().splitlines()[-1]
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, portrait_file, recording_file):
    folder = tmp_path_factory.mktemp("inputs")
    Image.effect_noise((300, 30), 60).convert("RGB").save(folder / "noface.png")
    (folder / "empty.wav").touch()
    (folder / "broken.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "text.png").write_text("text")
    scipy.io.wavfile.write(folder / "short.wav", 16000, voice(0.1))
    opus = encoded(voice(0.5, 48000)[None], 48000, "ogg", "libopus")
    (folder / "damaged.opus").write_bytes(scratched(opus, 0, 40))
    (folder / "damaged.avif").write_bytes(small_picture("AVIF")[:-400])
    (folder / "damaged.tiff").write_bytes(scratched(small_picture("TIFF"), 0.3))
    (folder / "damaged.mp4").write_bytes(scratched(small_video("mp4", "libx264"), 0.5, 100))
    return {"portrait": portrait_file, "recording": recording_file, "folder": folder}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--image {folder}/none.png --audio {recording}", "does not exist"),
        ("--image {folder}/text.png --audio {recording}", "not a picture"),
        ("--image {folder}/noface.png --audio {recording}", "No face"),
        ("--image {portrait} --audio {recording} --face 4", "no face number 4"),
        ("--image {portrait} --audio {folder}/empty.wav", "empty"),
        ("--image {portrait} --audio {folder}/broken.wav", "cannot be read"),
        ("--image {portrait} --audio {folder}/short.wav", "0.10 s"),
        ("--image {portrait} --audio {portrait}", "no sound"),
        ("--image {portrait} --audio {recording} -o {folder}/none/out.mp4", "does not exist"),
        ("--image {portrait} --audio {recording} -o out.gif", "must end in .mp4"),
        ("--image {portrait} --audio {recording} --head-motion nod", "natural, still"),
        ("--image {portrait} --audio {recording} --intensity much", "Expected a number"),
        ("--image {portrait} --audio {recording} --emotion sad --timeline 0:sad", "one of --emotion, --timeline"),
        ("--image {portrait} --audio {recording} --emotion voice", "Which model hears the voice's emotions"),
        ("--image {portrait} --audio {recording} --emotion voice --voice-emotion {folder}", "no model.safetensors"),
        ("--image {portrait} --audio {recording} --emotion sad --voice-labels hap", "written like hap=happy"),
        ("--image {portrait} --audio {recording} --model {folder}", "not a model folder"),
        ("--image {portrait} --audio {recording} --model {folder}/none", "does not exist"),
        ("--image {portrait} --audio {folder}/damaged.opus", "cannot be read"),
        ("--image {folder}/damaged.avif --audio {recording}", "picture"),
        ("--image {folder}/damaged.tiff --audio {recording}", "cannot be read"),
        ("--image {portrait} --audio {folder}/damaged.mp4", "damaged.mp4"),
        ("--image {portrait} --audio {recording} --head-motion {folder}/damaged.mp4", "damaged.mp4"),
        ("--image {portrait} --audio {recording} --seed x", "--seed"),
        ("--image {portrait}", "--audio"),
        ("--image {portrait} --audio {recording} --louder", "--louder"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(in_process, monkeypatch, inputs, tiny_model, tmp_path, arguments, words):
    """What libraries of C say would be seen, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MODEL_VARIABLE, str(tiny_model))
    status, out, err = in_process("generate", *arguments.format(**inputs).split())
    assert (status, out) == (2, "") and re.search(words, one_line(err))
    assert os.listdir(tmp_path) == []


def test_a_process_ends_with_one_line_and_status_2(tmp_path):
    # the package is found from other folders, installed or not
    run = eat_hf("generate", "--louder", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 2 and run.stdout == "" and "--louder" in one_line(run.stderr)
    assert os.listdir(tmp_path) == []


def test_an_unknown_emotion_is_one_line_and_status_2(in_process, inputs, tiny_model, tmp_path):
    status, out, err = in_process(
        *("generate", "--image", inputs["portrait"], "--audio", inputs["recording"], "--model", tiny_model),
        *("--emotion", "joyful", "-o", tmp_path / "out.mp4"),
    )
    assert status == 2 and out == "" and os.listdir(tmp_path) == []
    assert "'joyful'" in one_line(err) and "surprised" in err


def test_the_input_is_never_overwritten(in_process, inputs, tiny_model, tmp_path):
    before = inputs["portrait"].read_bytes()
    target = tmp_path / "in.mp4"
    target.write_bytes(before)
    status, _, err = in_process("generate", "--image", inputs["portrait"], "--audio", target, "-o", target)
    assert status == 2 and "overwrite" in one_line(err) and target.read_bytes() == before


def test_a_sound_track_can_be_chosen(in_process, inputs, tiny_model, tmp_path):
    low, loud = 0.25 * voice(0.4)[None], voice(0.4)[None]
    path = written(tmp_path / "tracks.mkv", tracks([(low, 16000, "flac", "mono"), (loud, 16000, "flac", "mono")]))
    arguments = ("generate", "--image", inputs["portrait"], "--audio", path, "--model", tiny_model, "--no-watermark")
    heard = []
    for choice in ([], ["--audio-track", 1]):
        status, _, err = in_process(*arguments, *choice, "-o", tmp_path / "out.mp4")
        assert status == 0 and "track" not in err
        heard.append(np.abs(read_audio(tmp_path / "out.mp4").waveform).max())
    assert heard[0] == pytest.approx(np.abs(low).max(), rel=0.1) and heard[1] == pytest.approx(4 * heard[0], rel=0.1)
    status, _, err = in_process(*arguments, "--audio-track", 2, "-o", tmp_path / "none.mp4")
    assert status == 2 and "no audio track 2" in one_line(err) and not (tmp_path / "none.mp4").exists()


def test_several_faces_are_a_warning(in_process, portrait, recording_file, tiny_model, tmp_path):
    Image.fromarray(np.concatenate([portrait, portrait[:, ::-1]], 1)).save(tmp_path / "two.png")
    arguments = ("generate", "--image", tmp_path / "two.png", "--audio", recording_file, "--model", tiny_model)
    status, _, err = in_process(*arguments, "-o", tmp_path / "out.mp4")
    assert status == 0 and err.startswith("warning: 2 faces were found")
    status, _, err = in_process(*arguments, "-o", tmp_path / "other.mp4", "--face", "1")
    assert status == 0 and "warning" not in err
    first, other = (check_video(tmp_path / name, 8, 0.32) for name in ("out.mp4", "other.mp4"))
    assert np.abs(first.astype(int) - other).mean() > 1  # it is not the same face


def test_a_programming_error_keeps_its_traceback(in_process, monkeypatch, inputs, tiny_model, tmp_path):
    monkeypatch.setattr("eat_hf.pipeline.pipeline_eat.plan_clip", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        in_process(
            *("generate", "--image", inputs["portrait"], "--audio", inputs["recording"], "--model", tiny_model),
            *("-o", tmp_path / "out.mp4"),
        )
    assert os.listdir(tmp_path) == []


def test_info_names_parts_shares_emotions_and_licence(in_process, tiny_pipeline, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    status, out, _ = in_process("info", model)
    assert status == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    sizes = {name: int(row[1].replace(",", "")) for name, row in rows.items() if len(row) > 1 and row[1][0].isdigit()}
    counts = {name: sum(p.numel() for p in c.parameters()) for name, c in tiny_pipeline.components.items()}
    for name in ("keypoint_detector", "emotion_mapper", "edn", "motion_estimator", "speech_encoder"):
        assert sizes[name] == counts[name]
    # the adaptation modules inside the renderer and A2ET are counted apart
    network = ("repos_net", "keypoint_detector", "a2et", "emotion_mapper", "edn")
    assert sizes["EAM"] > 0 and sizes["a2et"] < counts["a2et"]
    assert sum(sizes[name] for name in (*network, "EAM")) == sizes["network"] == sum(counts[n] for n in network)
    assert sum(float(rows[name][2].rstrip("%")) for name in (*network, "EAM")) == pytest.approx(100, abs=0.05)
    assert "emotions: angry, contempt" in out and "licence: apache-2.0" in out


def test_adapters_on_the_command_line(in_process, tiny_pipeline, tiny_model, inputs, tmp_path):
    EmotionAdapter.create(tiny_pipeline.base, ["smirk"], "happy", {"steps": 3}).save(tmp_path / "smirk")
    status, out, _ = in_process("info", tmp_path / "smirk")
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    own = tiny_pipeline.emotion_mapper.heads[0], tiny_pipeline.edn
    head, edn = (sum(p.numel() for p in part.parameters()) for part in own)
    assert status == 0 and "emotion adapter: smirk" in out and "training: steps 3" in out
    assert rows["head"][3] == f"{head:,}" and rows["EDN"][1] == f"{edn:,}"
    total, base = (int(rows[name][1].replace(",", "")) for name in ("adapter", "base"))
    assert rows["adapter"][2] == f"{total / base:.2%}" and rows["base"][2] == "100.00%"

    common = ("generate", "--image", inputs["portrait"], "--audio", inputs["recording"], "--model", tiny_model)
    mixed = ("--adapter", tmp_path / "smirk", "--emotion", "smirk=1,sad=1", "--head-motion", "still")
    status, _, err = in_process(*common, *mixed, "-o", tmp_path / "out.mp4")
    assert status == 0, err
    status, _, err = in_process(*common, "--emotion", "happy=1,sad=1", "--head-motion", "still",
                                "-o", tmp_path / "happy.mp4")  # fmt: skip
    assert status == 0, err
    smirk, happy = (check_video(tmp_path / name, 8, 0.32).astype(int) for name in ("out.mp4", "happy.mp4"))
    assert np.abs(smirk - happy).mean() < 3  # so far it is a copy of happy
    status, _, err = in_process(*common, "--adapter", tmp_path, "-o", tmp_path / "other.mp4")
    assert status == 2 and "is not an adapter" in one_line(err)
    assert not (tmp_path / "other.mp4").exists()


def test_the_environment_names_the_default_model(in_process, monkeypatch, tiny_model):
    monkeypatch.setenv(MODEL_VARIABLE, str(tiny_model))
    assert in_process("info")[0] == 0


def test_help_is_quick_and_loads_nothing_heavy():
    program = (
        "import sys; from eat_hf.cli.main import main\n"
        "try: main(['generate', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'cv2', 'dlib', 'av'} & set(sys.modules)\n"
        "print('heavy:', heavy)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--head-motion" in run.stdout and "heavy: set()" in run.stdout


def commands():
    """Every command of the parser, by name."""
    return typer.main.get_command(cli.command_line()).commands


def test_every_command_helps_and_explains_each_option(in_process):
    found = commands()
    assert {"generate", "learn-emotion", "convert", "convert-judge", "evaluate", "benchmark", "info"} <= set(found)
    for name, command in found.items():
        status, out, err = in_process(name, "--help")
        assert status == 0 and err == "" and " ".join(command.help.split())[:40] in " ".join(out.split())
        for parameter in command.params:
            text = parameter.help
            assert text and len(text) > 8, f"{name} {parameter.name}"
            assert parameter.opts[0] in out
            assert " ".join(text.split())[:12] in " ".join(out.split()), f"{name} {parameter.name}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seed", 2**64), "from 0 to 18446744073709551615"),
        (("--seed", -1), "from 0 to 18446744073709551615"),
        (("--face", -1), "face must be a whole number from 0"),
        (("--emotion", "happy=1e308"), "from 0 to 1000"),
        (("--emotion", "happy=nan"), "from 0 to 1000"),
        (("--emotion", "happy=1,happy=2"), "stands twice"),
        (("--emotion", "happy=1,"), "is written like"),
        (("--emotion", ""), "none was given"),
        (("--intensity", "1e9"), "between 0 and 1.5"),
        (("--intensity", "inf"), "between 0 and 1.5"),
        (("--intensity", "1e308:1"), "from 0 up to 86400"),
        (("--timeline", ",".join(f"{n}:happy" for n in range(1001))), "more than 1000 entries"),
        (("--timeline", "-1:happy"), "from 0 up to 86400"),
        (("--timeline", "nan:happy"), "from 0 up to 86400"),
        (("--head-motion", "rate0.safetensors"), "fps must be a number from 1 to 1000"),
        (("--head-motion", "far.safetensors"), "yaw must stay within 360"),
        (("--head-motion", "x" * 300), "there is no file"),
        (("--image", "x" * 300), "name too long"),
        (("--model", "x" * 300), "does not exist"),
        (("-o", "x" * 300 + ".mp4"), "No file can have the name"),
        (("-o", "folder.mp4"), "is a folder"),
        (("-o", "fifo.mp4"), "no ordinary file"),
        (("-o", "full.mp4"), "no ordinary file"),
        (("-o", "/dev/full"), "must end in .mp4"),
        (("-o", "none/a.mp4"), "does not exist; create it"),
        (("-o", ""), "must end in .mp4"),
    ],
)
def test_values_out_of_range_are_one_line(in_process, monkeypatch, inputs, tiny_model, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    zeros = {name: torch.zeros((2, 3) if name == "translation" else 2) for name in TRACKS}
    for name, fps, tensors in (("rate0", "0.0", zeros), ("far", "25.0", zeros | {"yaw": torch.full((2,), 1e30)})):
        save_file(tensors, tmp_path / f"{name}.safetensors", {"relative": "True", "fps": fps})
    before = sorted(os.listdir())
    given = ("--image", inputs["portrait"], "--audio", inputs["recording"], "--model", tiny_model)
    status, out, err = in_process("generate", *given, *arguments)
    last = err.strip().splitlines()[-1]
    assert (status, out) == (2, "") and last.startswith("eat-hf: ") and words in last and len(last) < 1600
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("benchmark", "--seconds", "nan"), "at least 0.8"),
        (("benchmark", "--seconds", "1e308"), "at most 3600"),
        (("benchmark", "--batch", 10**9), "at most 1024"),
        (("benchmark", "--batch", ","), "at least one"),
        (("benchmark", "--long", "-5"), "at least 1"),
        (("benchmark", "--dtype", "int8"), "Unknown precision"),
        (("benchmark", "--device", "gpu"), "--device"),
        (("evaluate", "--workers", 0, "--generated", ".", "--reference", "."), "--workers must be"),
        (("evaluate", "--workers", 10**9, "--generated", ".", "--reference", "."), "--workers must be"),
        (("learn-emotion", "--steps", -1), "--steps must be"),
        (("learn-emotion", "--steps", 10**9), "--steps must be"),
        (("learn-emotion", "--seed", -1), "--seed must be"),
        (("learn-emotion", "--name", ""), "cannot be called"),
        (("learn-emotion", "--name", "a=b"), "cannot be called"),
        (("learn-emotion", "--name", "happy"), "already"),
        (("convert-judge", "--kind", "syncnet", "--checkpoint", "broken.wav", "-o", "judge"), "cannot be read"),
    ],
)
def test_other_commands_have_ranges_too(in_process, monkeypatch, inputs, tiny_model, tmp_path, arguments, words):
    monkeypatch.chdir(inputs["folder"])
    if arguments[0] in ("benchmark", "learn-emotion"):
        arguments += ("--image", inputs["portrait"], "--audio", inputs["recording"], "--model", tiny_model)
    if arguments[0] == "learn-emotion":
        arguments += ("--text", "a smile", "-o", tmp_path / "smile")
    status, out, err = in_process(*arguments)
    last = err.strip().splitlines()[-1]
    assert (status, out) == (2, "") and words in last and last.startswith("eat-hf: ")


@pytest.mark.parametrize("name", ["\x1b[31mred", "bell\x07", "\u202egnp", "two\nlines", "\udc80", "\x9b2J"])
def test_names_that_a_terminal_would_obey_are_shown_as_escapes(in_process, inputs, tiny_model, name):
    given = ("--audio", inputs["recording"], "--model", tiny_model)
    for arguments in (
        ("generate", "--image", name, *given),
        ("generate", "--image", inputs["portrait"], *given, "--emotion", name),
        ("generate", "--image", inputs["portrait"], *given, "-o", f"{name}/a.mp4"),
        ("generate", "--image", inputs["portrait"], *given, "--adapter", name),
        ("generate", "--manifest", name),
        ("info", name),
        ("detect-watermark", name),
        ("evaluate", "--generated", name, "--reference", name),
        ("evaluate", "--generated", ".", "--reference", ".", "--protocol", name),
        (name,),
        ("generate", f"--{name}"),
    ):
        status, out, err = in_process(*arguments)
        assert status == 2 and out == "" and one_line(err).isprintable(), (arguments, err)


def test_what_an_adapter_says_is_shown_as_escapes(in_process, tiny_pipeline, tmp_path):
    EmotionAdapter.create(tiny_pipeline.base, ["smirk"], "happy", {"by": "\x07\x1b[2J"}).save(tmp_path / "smirk")
    status, out, err = in_process("info", tmp_path / "smirk")
    assert (status, err) == (0, "") and "emotion adapter: smirk" in out and r"by \x07\x1b[2J" in out
    assert all(line.isprintable() for line in out.split("\n"))


@pytest.mark.parametrize("name", ["take3:final.mp4", "file:a.mp4", "-a.mp4", "sub/ü ö.mp4", "%03d.mp4", "a.MP4"])
def test_unusual_names_of_the_video(in_process, monkeypatch, inputs, tiny_model, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    os.mkdir("sub")
    status, out, err = in_process(
        *("generate", "--image", inputs["portrait"], "--audio", inputs["recording"], "--model", tiny_model),
        f"--output={name}",
    )
    assert status == 0 and out == f"{name}\n", err
    assert [str(p) for p in Path().rglob("*") if p.is_file()] == [name]
    check_video(tmp_path / name, 8, 0.32)


def test_without_arguments_it_helps(in_process, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eat-hf"])
    status, out, _ = in_process()
    assert status == 0 and "generate" in out
