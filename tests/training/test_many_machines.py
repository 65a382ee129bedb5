"""Training on several machines: two launches of Accelerate that know of each other by an address alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import free_port, small_run

TESTS = Path(__file__).resolve().parents[1]


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_nodes_train_as_one_process_does(tmp_path):
    """The command of docs/training.md, with gloo on CPUs in place of GPUs."""
    environment = {
        **os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), *filter(None, sys.path)]),
    }  # fmt: skip
    port = str(free_port())
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "2",
             "--num_processes", "2", "--machine_rank", str(rank), "--main_process_ip", "127.0.0.1",
             "--main_process_port", port, "--mixed_precision", "no", "--dynamo_backend", "no",
             str(TESTS / "node_run.py"), str(tmp_path / "nodes")],
            env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [node.communicate(timeout=1200)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    small_run(tmp_path / "alone", steps=6)
    together, alone = log(tmp_path / "nodes"), log(tmp_path / "alone")
    assert [line["step"] for line in together] == list(range(1, 7))
    for one, other in zip(together, alone, strict=True):
        assert one["fit"] == pytest.approx(other["fit"], rel=1e-4)
