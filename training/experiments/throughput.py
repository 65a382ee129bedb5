"""How fast every stage learns on this machine: samples a second, and the share of the time spent on batches.

    python -m training.experiments.throughput --corpus corpus --output checkpoints_card/eat-demo

Runs each stage's own script for some steps, the last half of which counts, and adds the table to BENCHMARK.md, as
`eat-hf benchmark --output` does with what it measures. Stages that start from others take them from `runs`, which
`training.release.unpack` makes of a finished model.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from eat_hf.benchmark import TrainingReport, TrainingSpeed, describe_machine
from eat_hf.errors import UserError

from ..loop.command_line import Recipe, parse_options, run_script

STAGES: dict[str, tuple[str, tuple[str, ...]]] = {  # what it is called: module of its script, arguments
    "latent": ("training.stage_1a_latent", ()),
    "renderer": ("training.stage_1a_renderer", ()),
    "enhancement": ("training.stage_1a_enhancement", ("--initial", "{runs}", "--perceptual_backbone", "none")),
    "speech": ("training.stage_1b_speech", ()),
    "a2et": ("training.stage_1b_a2et", ("--runs", "{runs}")),
    "emotion": ("training.stage_2_emotion", ("--runs", "{runs}")),
    "emotion, on pictures": ("training.stage_2_emotion", ("--runs", "{runs}", "--face_weight", "10")),
    "sync": ("training.judges.train_sync", ("--network", "expert")),
}


@dataclass
class ThroughputOptions:
    """Options."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus to train on."})
    runs: str = field(default="runs", metadata={"help": "Folder with the runs that stages start from."})
    output: str = field(default="", metadata={"help": "Folder of BENCHMARK.md; none: only show the table."})
    stages: list[str] = field(default_factory=lambda: list(STAGES), metadata={"help": "Which of them."})
    steps: int = field(default=20, metadata={"help": "Steps that count, after as many that warm up."})


def measure_stage(name: str, options: ThroughputOptions, recipe: Recipe) -> TrainingSpeed:
    """Train one stage for some steps, in a process of its own.

    Raises:
        UserError: the stage stopped.
    """
    module, arguments = STAGES[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", module, "--config", recipe.name]
        command += ["--corpus", options.corpus, *(argument.format(runs=options.runs) for argument in arguments)]
        command += ["--output_dir", folder, "--steps", str(2 * options.steps), "--log_every", str(options.steps)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"Stage {name!r} stopped: {done.stderr.strip().splitlines()[-1]}")
        last = json.loads(Path(folder, "log.jsonl").read_text().splitlines()[-1])
        record = json.loads(Path(folder, "results.json").read_text())["training"]
    return TrainingSpeed(name, record["batch_size"], last["samples_per_second"], last["loader_share"])


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    options, recipe = parse_options(ThroughputOptions, "throughput", argv)
    unknown = sorted(set(options.stages) - set(STAGES))
    if unknown:
        raise UserError(f"Unknown stage {unknown[0]!r}; choose among {', '.join(map(repr, STAGES))}.")
    machine = describe_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    rows = [measure_stage(name, options, recipe) for name in options.stages]
    report = TrainingReport(f"python -m training.experiments.throughput {' '.join(argv)}".strip(), machine, rows)
    head, lines = report.table()
    table = Table(*head)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    if options.output:
        report.save(Path(options.output))


if __name__ == "__main__":
    run_script(main)
