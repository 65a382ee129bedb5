"""`eat-hf benchmark`: what it says, not how fast anything is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import voice
from torch.utils.flop_counter import FlopCounterMode

from eat_hf.benchmark import (
    BenchmarkOptions,
    BenchmarkReport,
    TrainingReport,
    TrainingSpeed,
    gpu,
    measure,
    official_pipeline,
    plain_frames,
    plain_network,
    run_benchmark,
)
from eat_hf.cli import main as cli
from eat_hf.errors import UserError
from eat_hf.media.recordings import read_audio
from eat_hf.models.layers import ConvNormReLU

pytestmark = pytest.mark.usefixtures("faces_found_once")


@pytest.fixture(scope="module")
def options(portrait_file, tmp_path_factory):
    import scipy.io.wavfile

    path = tmp_path_factory.mktemp("sound") / "voice.wav"
    scipy.io.wavfile.write(path, 16000, voice(0.7))
    return BenchmarkOptions(str(portrait_file), str(path), 0.4, batches=(1, 4), repeats=1, long=(1,))


def count_flops(work):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


# processors without instructions for it take minutes in bfloat16
@pytest.mark.parametrize("dtypes", [("float32",), pytest.param(("float32", "bfloat16"), marks=pytest.mark.slow)])
def test_a_report_of_a_tiny_model(tiny_pipeline, tiny_model, options, dtypes, tmp_path, monkeypatch):
    monkeypatch.setitem(measure.PEAK_SIZES, "cpu", (128, 1, 8))
    options = replace(options, dtypes=dtypes)
    report = run_benchmark(tiny_pipeline, str(tiny_model), options, "eat-hf benchmark")
    stages = [(row.stage, row.dtype, row.batch) for row in report.rows]
    assert stages == [
        ("the plain way", "float32", 1),
        ("audio features", "", 0),
        ("portrait", "", 0),
        ("EDN", "", 0),
        ("A2ET", "float32", 1),
        ("A2ET", "float32", 4),
        *(("RePos-Net", dtype, batch) for dtype in dtypes for batch in (1, 4)),
        ("encoding", "", 0),
        *(("all, from files to mp4", dtype, 4) for dtype in dtypes),
    ]
    speed = {stage: row.per_second for stage, row in zip(stages, report.rows, strict=True)}
    for dtype in dtypes:
        whole = speed["all, from files to mp4", dtype, 4]
        assert report.ratios[f"All, in {dtype}"] == pytest.approx(whole / speed["the plain way", "float32", 1])
    # not needed: to encode the portrait once more, and to convolve repeated pixels one by one
    seen = tiny_pipeline.prepare_portrait(options.image)
    needed, encoding = (
        count_flops(lambda: tiny_pipeline.repos_net.render(seen.features, seen.keypoints, seen.keypoints[:, None])),
        count_flops(lambda: tiny_pipeline.repos_net.encode(torch.zeros(1, 3, 256, 256))),
    )
    assert report.flops_per_frame - report.flops_saved == needed and report.flops_saved > encoding
    rendered = next(row for row in report.rows if row.stage == "RePos-Net")
    assert rendered.share == pytest.approx(rendered.per_second * needed / report.peak["float32"])
    assert [x for x, _ in report.curves["seconds of sound"]] == [0.1, 0.2, 0.4]
    short, long = report.fresh
    assert (short.seconds, long.seconds) == (0.4, 1)
    for process in report.fresh:
        assert process.to_first_frame > process.from_loaded  # which is what loading takes
        assert 200 < process.peak_megabytes < 8000  # torch alone takes the first, and nothing here the second
    names = [path.name for path in report.save(tmp_path / "new")]
    assert names == [f"benchmark-{tiny_model.name}.json", f"benchmark-{tiny_model.name}.png", "BENCHMARK.md"]
    assert BenchmarkReport.load(tmp_path / "new" / names[0]) == report
    page = (tmp_path / "new/BENCHMARK.md").read_text()
    assert "times the plain way" in page and page.count("\n| ") == len(report.rows) + 2
    assert str(tiny_model.parent) not in page and "## Training" not in page
    replace(report, model="another").save(tmp_path / "new")
    TrainingReport("the command", report.machine, [TrainingSpeed("a2et", 8, 25.26, 0.034)]).save(tmp_path / "new")
    page = (tmp_path / "new/BENCHMARK.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## another",
        f"## {tiny_model.name}",
        "## Training",
    ]
    assert "| a2et | 8 | 25.3 | 3% |" in page


def test_the_script_for_gpus_writes_part_by_part_while_there_is_time(
    tiny_pipeline, tiny_model, options, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(measure.PEAK_SIZES, "cpu", (128, 1, 8))
    part = gpu.Part("tiny-gpu", lambda: tiny_pipeline, str(tiny_model), ("float32",), (2,), 0.3, False, 1)
    monkeypatch.setattr(gpu, "parts", lambda: [part, replace(part, name="later", takes=1000)])
    given = ["--device", "cpu", "--image", options.image, "--audio", options.audio, "-o", str(tmp_path)]
    gpu.main(given, seconds=100)
    report = BenchmarkReport.load(tmp_path / "benchmark-tiny-gpu.json")
    assert report.command == gpu.COMMAND and {row.batch for row in report.rows if row.stage == "RePos-Net"} == {2}
    assert "later: not measured" in capsys.readouterr().out
    assert "## tiny-gpu" in (tmp_path / "BENCHMARK.md").read_text()
    with pytest.raises(SystemExit) as stopped:
        gpu.main(["--device", "nothing"])
    assert stopped.value.code == 2 and "no device 'nothing'" in capsys.readouterr().err


def test_the_parts_of_a_gpu_take_less_than_four_minutes():
    parts = gpu.parts()
    assert [part.name for part in parts][:2] == ["eat-demo-gpu", "official-gpu"]
    assert sum(part.takes for part in parts) < gpu.SECONDS < 240


def test_another_precision_is_that_of_a_copy(tiny_pipeline):
    before = {name: tensor.clone() for name, tensor in tiny_pipeline.repos_net.state_dict().items()}
    view = measure.with_own_renderer(tiny_pipeline, torch.bfloat16)
    assert view.repos_net.dtype == torch.bfloat16 and view.a2et is tiny_pipeline.a2et
    now = tiny_pipeline.repos_net.state_dict()
    assert all(torch.equal(now[name], tensor) for name, tensor in before.items())  # not even rounded


def test_the_plain_way_makes_the_same_frames(tiny_pipeline, options):
    recording = read_audio(options.audio).first(0.4)
    clip = tiny_pipeline.plan_clip(options.image, recording, "happy", head_motion="still", generator=0, batch_size=4)
    frames = np.concatenate(list(tiny_pipeline.render_clip(clip)))
    plain = plain_frames(tiny_pipeline, recording, clip.portrait, clip.driving, [0, 7])
    assert np.abs(255 * plain.permute(0, 2, 3, 1).numpy() - frames[[0, 7]]).max() < 1


def test_the_plain_network_computes_the_same_and_leaves_the_other_as_it_is():
    torch.manual_seed(0)
    network = ConvNormReLU(2, 3).eval()
    x = torch.randn(1, 2, 4, 4)
    plain, before = plain_network(network), network.conv
    with torch.no_grad():
        torch.testing.assert_close(plain(x, enlarge=2), network(x, enlarge=2))
    slow, fast = (count_flops(lambda each=each: each(x, enlarge=2)) for each in (plain, network))
    assert slow == 2 * 8 * 8 * 2 * 3 * 9 > fast  # every tap of every pixel of the enlarged map
    assert network.conv is before and plain.conv.weight is before.weight


def test_the_official_model_is_the_same_every_time_whatever_the_batch(tiny_pipeline, options):
    sections = {}
    for name, network in tiny_pipeline.components.items():
        settings = {key: value for key, value in network.config.items() if not key.startswith("_")}
        sections[name] = {"class": type(network).__name__, **settings}
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    recording = read_audio(options.audio).first(0.4)

    def frames(batch_size):
        pipe = official_pipeline(sections)
        assert not any(network.training for network in pipe.components.values())
        pipe.set_progress_bar_config(disable=True)
        return pipe(options.image, recording, "happy", generator=0, batch_size=batch_size).frames

    first = frames(4)
    assert np.array_equal(frames(4), first)
    assert np.abs(frames(3).astype(int) - first).max() <= 1  # other sums round otherwise
    assert torch.equal(torch.rand(3), drawn)  # the caller's random numbers go on


def test_mistakes(tiny_pipeline, tiny_model, options, tmp_path, capsys):
    with pytest.raises(UserError, match="Unknown precision 'int8'; choose float32"):
        run_benchmark(tiny_pipeline, str(tiny_model), replace(options, dtypes=("int8",)))
    for arguments, words in (
        (("--image", tmp_path / "no.png"), "There is no file"),
        (("--batch", "1,x"), "whole numbers"),
        (("--batch", "0"), "at least 1"),
        (("--seconds", "0.5"), "at least 0.8"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["benchmark", "--model", str(tiny_model), *map(str, arguments)])
        assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_live_frames_are_timed(live_model, options, tmp_path, capsys):
    given = ["--model", str(live_model), "--image", options.image, "--audio", options.audio, "--device", "cpu"]
    cli.main(["benchmark", "--live", "--sessions", "1,2", *given, "-o", str(tmp_path / "found")])
    assert "Live, live_model" in capsys.readouterr().out
    rows = json.loads((tmp_path / "found" / "live.json").read_text())["rows"]
    assert [(row["size"], row["sessions"]) for row in rows] == [(256, 1), (256, 2)]
    for row in rows:
        assert 0 < row["median"] <= row["late"] and 0 <= row["dropped"] < 1 and row["share"] > 0
        assert 0.3 < row["latency"] < 0.5


def test_a_model_that_is_not_live_is_not_timed(tiny_model, options):
    given = ["--model", str(tiny_model), "--image", options.image, "--audio", options.audio]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["benchmark", "--live", *given])
