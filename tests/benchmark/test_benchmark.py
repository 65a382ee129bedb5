"""`eat-hf benchmark`: what it says, not how fast anything is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import voice

from eat_hf.benchmark import (
    BenchmarkOptions,
    BenchmarkReport,
    TrainingReport,
    TrainingSpeed,
    maps_enlarged_first,
    plain_frames,
    run_benchmark,
)
from eat_hf.cli import main as cli
from eat_hf.errors import UserError
from eat_hf.media.recordings import read_audio


@pytest.fixture(scope="module")
def options(portrait_file, tmp_path_factory):
    import scipy.io.wavfile

    path = tmp_path_factory.mktemp("sound") / "voice.wav"
    scipy.io.wavfile.write(path, 16000, voice(1.2))
    return BenchmarkOptions(str(portrait_file), str(path), 0.8, batches=(1, 4), repeats=1, long=(3,))


def test_a_report_of_a_tiny_model(tiny_pipeline, tiny_model, options, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny_pipeline.repos_net.state_dict().items()}
    report = run_benchmark(tiny_pipeline, str(tiny_model), options, "eat-hf benchmark")
    stages = [(row.stage, row.dtype, row.batch) for row in report.rows]
    assert stages == [
        ("the plain way", "float32", 1),
        ("audio features", "", 0),
        ("portrait", "", 0),
        ("EDN", "", 0),
        ("A2ET", "float32", 1),
        ("A2ET", "float32", 4),
        *(("RePos-Net", dtype, batch) for dtype in ("float32", "bfloat16") for batch in (1, 4)),
        ("encoding", "", 0),
        ("all, from files to mp4", "float32", 4),
        ("all, from files to mp4", "bfloat16", 4),
    ]
    speed = {stage: row.per_second for stage, row in zip(stages, report.rows, strict=True)}
    assert all(rate > 0 for rate in speed.values())
    plain, whole = speed["the plain way", "float32", 1], speed["all, from files to mp4", "bfloat16", 4]
    assert report.ratios["All, in bfloat16"] == pytest.approx(whole / plain)
    assert 0 < report.flops_saved < report.flops_per_frame
    rendered = next(row for row in report.rows if row.stage == "RePos-Net")
    needed = report.flops_per_frame - report.flops_saved
    assert rendered.share == pytest.approx(rendered.per_second * needed / report.peak["float32"])
    assert [x for x, _ in report.curves["seconds of sound"]] == [0.2, 0.4, 0.8]
    short, long = report.fresh
    assert (short.seconds, long.seconds) == (0.8, 3)
    for process in report.fresh:
        assert process.to_first_frame > process.from_loaded > 0.01 and process.peak_megabytes > 100
    now = tiny_pipeline.repos_net.state_dict()
    assert all(torch.equal(now[name], tensor) for name, tensor in before.items())  # not even rounded

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


def test_the_plain_way_makes_the_same_frames(tiny_pipeline, options):
    recording = read_audio(options.audio).first(0.4)
    clip = tiny_pipeline.perform(options.image, recording, "happy", head_motion="still", generator=0)
    frames = np.concatenate(list(tiny_pipeline.render_performance(clip, 4)))
    plain = plain_frames(tiny_pipeline, recording, clip.portrait, clip.driving, [0, 7])
    assert np.abs(255 * plain.permute(0, 2, 3, 1).numpy() - frames[[0, 7]]).max() < 1


def test_maps_are_enlarged_first_only_within():
    from eat_hf.models import layers

    conv, small = torch.nn.Conv2d(2, 3, 3, padding=1), torch.randn(1, 2, 4, 4)
    known = layers.conv_of_enlarged
    with torch.no_grad(), maps_enlarged_first():
        plain = layers.conv_of_enlarged(conv, small, 2)
    assert layers.conv_of_enlarged is known
    torch.testing.assert_close(plain, known(conv, small, 2))


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
