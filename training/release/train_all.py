"""Train a whole model from nothing: the corpus, every stage, the pipeline and its card's numbers.

    python -m training.release.train_all --config demo --work runs --ict-facekit ict_facekit.npz

The config's `recipe` lists the steps, each a script of this folder with its arguments and how many minutes it takes on
two CPU cores and on one GPU. A step that is done is not done again, one that was interrupted goes on where it was.
"""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from eat_hf.errors import UserError
from eat_hf.media.files import write_atomically

from ..loop.command_line import Recipe, Step, parse_options, run_script

DONE = "steps.json"  # in the work folder: what is done, and how long it took


@dataclass
class AllOptions:
    """Options."""

    work: str = field(default="runs", metadata={"help": "Folder of corpora, runs and the finished model."})
    ict_facekit: str = field(
        default="", metadata={"help": "ICT FaceKit's npz file or its folder, for half of the people; empty: without."}
    )
    plan: bool = field(default=False, metadata={"help": "Say what would be done and how long it takes, do nothing."})


def arguments_of(step: Step, options: AllOptions) -> list[str]:
    """The command line of a step, with `{work}` filled in, and the second family of heads where people are made."""
    arguments = [part.format(work=options.work) for part in shlex.split(step.arguments)]
    if step.run == "corpus.build" and options.ict_facekit:
        arguments += ["--ict-facekit", options.ict_facekit]
    return arguments


def show_plan(recipe: Recipe, done: dict[str, dict]) -> None:
    """A table of the steps on the terminal."""
    table = Table(title=f"{recipe.name}: minutes a step")
    for column in ("step", "script", "two cores", "one GPU", "here"):
        table.add_column(column, justify="left" if column in ("step", "script") else "right")
    for step in recipe.recipe:
        here = f"{done[step.name]['seconds'] / 60:.1f}" if step.name in done else ""
        table.add_row(step.name, step.run, f"{step.minutes_cpu:g}", f"{step.minutes_gpu:g}", here)
    totals = (sum(step.minutes_cpu for step in recipe.recipe), sum(step.minutes_gpu for step in recipe.recipe))
    table.add_row("all", "", *(f"{total:g}" for total in totals), "")
    Console(stderr=True).print(table)


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(AllOptions, "train_all", argv)
    if not recipe.recipe:
        raise UserError(f"The config {recipe.name} has no recipe of a whole model.")
    work = Path(options.work)
    record = work / DONE
    done = json.loads(record.read_text()) if record.is_file() else {}
    show_plan(recipe, done)
    if options.plan:
        return
    for number, step in enumerate(recipe.recipe, 1):
        command = ["-m", f"training.{step.run}", *arguments_of(step, options)]
        if step.name in done:
            if done[step.name]["command"] != command:
                raise UserError(
                    f"The step {step.name} in {work} was done with other arguments; use another work folder, or take "
                    f"it out of {record} to do it again."
                )
            continue
        print(f"[{number}/{len(recipe.recipe)}] {step.name}: python {shlex.join(command)}", flush=True)
        begun = time.monotonic()
        if status := subprocess.run([sys.executable, *command], check=False).returncode:
            raise UserError(f"The step {step.name} ended with status {status}; the same command goes on from there.")
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        done[step.name] = {"command": command, "seconds": round(time.monotonic() - begun, 1), "device": device}
        work.mkdir(parents=True, exist_ok=True)
        write_atomically(record, json.dumps(done, indent=2) + "\n")
    show_plan(recipe, done)


if __name__ == "__main__":
    run_script(main)
