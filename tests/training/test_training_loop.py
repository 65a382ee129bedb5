"""The loop that all stages share: any number of processes, killed and resumed, logs, losses that are not finite."""

import json
import re
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import training_runs
from PIL import Image
from safetensors.torch import load_file
from training_runs import in_two_processes, kill_in_checkpoint, small_run, start

from eat_hf.errors import InputWarning, UserError
from training.loop import checkpoints as checkpoint_files
from training.loop import logging
from training.loop import trainer as loop

FAST = {"learning_rate": 0.05}  # what one step does must show in the losses of the next


def losses(folder):
    """(steps, losses): all losses that the log holds."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(lines[0]["step"], lines[-1]["step"] + 1, lines[0]["step"]))
    names = lines[0].keys() - {"step", *loop.SPEED}
    return np.array([[line[name] for name in sorted(names)] for line in lines])


def weights(folder):
    return load_file(folder / "network" / "diffusion_pytorch_model.safetensors")


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run on one process that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    small_run(folder, **FAST)
    return folder


def assert_same_run(folder, other):
    np.testing.assert_allclose(losses(folder), losses(other), atol=1e-4)
    for name, value in weights(other).items():
        torch.testing.assert_close(weights(folder)[name], value, atol=1e-4, rtol=1e-4)


def test_the_log_says_how_much_time_batches_took(tmp_path, monkeypatch):
    """By a clock on which nothing takes time but the sleep of whoever draws batches."""
    small_run(tmp_path / "fast", steps=6, log_every=3)
    now = [0.0]
    clock = SimpleNamespace(time=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    for module in (loop, logging, training_runs):  # not everybody's: other threads sleep, too
        monkeypatch.setattr(module, "time", clock)
    small_run(tmp_path / "slow", steps=6, log_every=3, slow=0.1)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("slow", "fast")]
    slow, fast = (json.loads(lines[-1]) for lines in logs)
    assert slow["samples_per_second"] == pytest.approx(80)  # 8 samples a step of a tenth of a second
    assert slow["loader_share"] == pytest.approx(1) and 0 <= fast["loader_share"] < 1


def test_two_processes_learn_what_one_does(whole, tmp_path):
    """Noise, a loss that only some samples have, and heads that one of the processes does not use."""
    assert in_two_processes(tmp_path, small_run, tmp_path, **FAST) == []
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
def test_batch_norm_on_several_cpus_sees_the_share_of_each(tmp_path):
    """The losses of the first step, before anything is learnt, are means over what each share has by itself."""
    options = {"batch_norm": True, "steps": 1, **FAST}
    assert in_two_processes(tmp_path / "two", small_run, tmp_path / "two", **options) == []
    small_run(tmp_path / "parts", gradient_accumulation_steps=2, **options)  # the same shares, one after the other
    small_run(tmp_path / "one", **options)
    found, expected, other = (losses(tmp_path / name)[0] for name in ("two", "parts", "one"))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - other).max() > 1e-2


def test_snapshots_are_averaged_networks_on_the_way(whole, tmp_path):
    small_run(tmp_path, snapshot_every=6, **FAST)
    assert_same_run(tmp_path, whole)  # to take them changes nothing
    snapshots = {path.name: path for path in (tmp_path / "snapshots").iterdir()}
    assert set(snapshots) == {"step_6", "step_12"}
    for name, value in weights(tmp_path).items():
        torch.testing.assert_close(weights(snapshots["step_12"])[name], value)
    assert not torch.equal(weights(snapshots["step_6"])["hidden.weight"], weights(tmp_path)["hidden.weight"])
    assert json.loads((snapshots["step_6"] / "results.json").read_text())["training"]["steps"] == 6


def test_a_batch_may_come_in_parts(tmp_path):
    """Two processes, each of which takes its share in two parts; the adversary learns in the same way."""
    options = {"adversary": True, **FAST}
    small_run(tmp_path / "one", **options)
    options["gradient_accumulation_steps"] = 2
    assert in_two_processes(tmp_path / "two", small_run, tmp_path / "two", **options) == []
    assert_same_run(tmp_path / "two", tmp_path / "one")


def test_an_adversary_learns_and_is_learnt_from(whole, tmp_path):
    """It learns: its loss falls, where one that keeps still would stay at 2. The network follows it, yet it is no part
    of the network: what is averaged and saved is the network alone."""
    small_run(tmp_path, adversary=True, checkpoint_every=12, **FAST)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert min(line["critic"] for line in lines) < lines[0]["critic"] - 0.05
    assert lines[0]["fit"] == losses(whole)[0, 0] and lines[-1]["fit"] != losses(whole)[-1, 0]
    assert weights(tmp_path).keys() == weights(whole).keys()
    saved = tmp_path / "checkpoints" / "checkpoint_12"
    assert (saved / "model_1.safetensors").exists() and (saved / "optimizer_1.bin").exists()


def test_batches_drawn_ahead_are_the_same(whole, tmp_path):
    small_run(tmp_path, workers=2, **FAST)
    np.testing.assert_array_equal(losses(tmp_path), losses(whole))


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(UserError, match="batch_size 8 .* 3 part"):
        small_run(tmp_path, gradient_accumulation_steps=3)


def test_a_killed_run_continues_exactly(tmp_path):
    """Killed twice, wherever it happens to be, also between log lines and before the first checkpoint; with an
    adversary, whose weights, optimiser and spectral norm go on as well."""
    options = {"batch_norm": True, "dropout": 0.2, "adversary": True, "checkpoint_every": 3, "log_every": 2, **FAST}
    small_run(tmp_path / "whole", **options)
    log = tmp_path / "killed" / "log.jsonl"
    for lines, hang in ((1, 3), (4, 9)):
        process = start(small_run, tmp_path / "killed", hang=hang, **options)
        while not (log.exists() and len(log.read_text().splitlines()) >= lines):
            time.sleep(0.02)
            assert process.is_alive()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and not (tmp_path / "killed" / "results.json").exists()
    small_run(tmp_path / "killed", **options)
    np.testing.assert_array_equal(losses(tmp_path / "killed"), losses(tmp_path / "whole"))
    # averaged weights, so the average was resumed, too; matrix products may round differently from process to process
    for name, value in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "killed")[name], value, rtol=1e-5, atol=1e-6)


def test_an_unfinished_checkpoint_is_ignored(whole, tmp_path):
    options = {"checkpoint_every": 3, **FAST}
    process = start(kill_in_checkpoint, tmp_path, 9, **options)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    # 3 was deleted to make room
    assert checkpoints(tmp_path) == ["checkpoint_6", "checkpoint_9"] and len(losses(tmp_path)) == 9
    assert not (tmp_path / "checkpoints" / "checkpoint_9" / checkpoint_files.WHOLE).exists()
    small_run(tmp_path, **options)
    np.testing.assert_array_equal(losses(tmp_path), losses(whole))
    assert checkpoints(tmp_path) == ["checkpoint_12", "checkpoint_9"]


@pytest.mark.parametrize("how", ["cut", "zeros", "empty", "end of zeros"])
def test_a_torn_newest_checkpoint_falls_back_to_the_one_before_it(whole, tmp_path, how):
    """Every file of it in turn, as a crash leaves what had not reached the disk."""
    options = {"checkpoint_every": 3, **FAST}
    small_run(tmp_path / "run", **options)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints" / "checkpoint_12").iterdir())
    assert len(names) >= 5
    for name in names:
        folder = tmp_path / name
        shutil.copytree(tmp_path / "run", folder)
        (folder / "results.json").unlink()
        path = folder / "checkpoints" / "checkpoint_12" / name
        data = path.read_bytes()
        half = data[: len(data) // 2]
        ruins = {"cut": half, "zeros": bytes(len(data)), "empty": b"", "end of zeros": half.ljust(len(data), b"\0")}
        path.write_bytes(ruins[how])
        with pytest.warns(InputWarning, match="checkpoint_12 cannot be read .* the one before it is tried"):
            small_run(folder, **options)
        np.testing.assert_array_equal(losses(folder), losses(whole))
        assert_same_run(folder, whole)
        assert checkpoints(folder) == ["checkpoint_12", "checkpoint_9"] and path.read_bytes() != b""


def test_no_checkpoint_is_removed_where_none_can_be_read(tmp_path):
    options = {"checkpoint_every": 3, **FAST}
    small_run(tmp_path, **options)
    (tmp_path / "results.json").unlink()
    for path in (tmp_path / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(InputWarning, match="cannot be read"), pytest.raises(UserError, match="No checkpoint"):
        small_run(tmp_path, **options)
    assert checkpoints(tmp_path) == ["checkpoint_12", "checkpoint_9"]


@pytest.mark.slow
def test_a_run_continues_on_fewer_processes(whole, tmp_path):
    options = {"checkpoint_every": 3, **FAST}
    in_two_processes(tmp_path, kill_in_checkpoint, tmp_path, 9, **options)
    assert len(losses(tmp_path)) == 9
    small_run(tmp_path, **options)
    assert_same_run(tmp_path, whole)


def test_checkpoints_rotate(tmp_path):
    small_run(tmp_path, checkpoint_every=2, keep_checkpoints=3)
    assert checkpoints(tmp_path) == ["checkpoint_10", "checkpoint_12", "checkpoint_8"]
    with pytest.raises(UserError, match="keep_checkpoints must be at least 2, not 1"):
        small_run(tmp_path, keep_checkpoints=1)


@pytest.mark.slow
def test_an_infinite_loss_stops_all_processes(whole, tmp_path):
    """Only the second process has the bad sample. What was learnt before is not lost."""
    options = {"checkpoint_every": 3, **FAST}
    failures = in_two_processes(tmp_path, small_run, tmp_path, spoil=8, **options)
    assert len(failures) == 2
    for failure in failures:
        assert re.search(r"FloatingPointError: Loss 'fit' became inf at step 8", failure), failure
    assert len(losses(tmp_path)) == 7 and checkpoints(tmp_path) == ["checkpoint_3", "checkpoint_6"]
    small_run(tmp_path, **options)
    assert_same_run(tmp_path, whole)


def test_an_infinite_gradient_stops_the_run():
    with pytest.raises(FloatingPointError, match="norm of the gradient became inf at step 7"):
        loop.check_finite({"fit": 1.0}, torch.tensor(torch.inf), 7)


def test_pictures_are_of_averaged_weights_and_change_nothing(whole, tmp_path):
    seen = []

    def show(network):
        seen.append(network.hidden.weight.clone())
        assert not network.training
        torch.rand(3)
        return {"grey": np.full((4, 6, 3), 128, np.uint8)}

    small_run(tmp_path, show=show, sample_every=6, **FAST)
    np.testing.assert_array_equal(losses(tmp_path), losses(whole))
    assert torch.equal(seen[-1], weights(tmp_path)["hidden.weight"]) and len(seen) == 2
    assert np.asarray(Image.open(tmp_path / "samples" / "grey_000006.png")).shape == (4, 6, 3)


def test_a_missing_tracker_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "get_available_trackers", lambda: [])
    with pytest.raises(UserError, match="--report_to tensorboard .* pip install tensorboard"):
        small_run(tmp_path, report_to="tensorboard")
    assert not list(tmp_path.iterdir())


def test_tensorboard_sees_losses_and_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = np.full((4, 6, 3), 128, np.uint8)
    small_run(tmp_path, report_to="tensorboard", show=lambda network: {"grey": picture}, sample_every=6)
    events = EventAccumulator(str(tmp_path / "eat_hf")).Reload()
    assert [event.step for event in events.Scalars("fit")] == list(range(1, 13))
    np.testing.assert_allclose([event.value for event in events.Scalars("fit")], losses(tmp_path)[:, 0], atol=1e-5)
    assert {"learning_rate", "held_out/weight"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images(events.Tags()["images"][0])] == [6, 12]
