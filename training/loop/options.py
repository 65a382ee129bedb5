"""Options of a stage: dataclass defaults, then the stage's section of a YAML config, then the command line."""

import argparse
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from torch import Tensor
from transformers import HfArgumentParser

Options = TypeVar("Options")
CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass
class Recipe:
    """A YAML config of `training/configs`: sizes of components, the pipeline's settings and options of stages.

    Its name is what was given to find it: that of a config here, or the path of a file.
    """

    name: str
    components: dict[str, dict[str, Any]]
    pipeline: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    rigid_keypoints: list[str] = field(default_factory=list)
    inner_mouth: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, name_or_path: str) -> "Recipe":
        path = Path(name_or_path)
        if not path.exists():
            path = CONFIGS / f"{name_or_path}.yaml"
        return cls(name_or_path, **yaml.safe_load(path.read_text()))


def latent_folder(runs: Path, component: str) -> Path:
    """Where stage 1a left its keypoint_detector, motion_estimator or repos_net: enhanced, if the run `enhancement` is
    among `runs`, for the three only fit each other; else from the runs that taught them one by one."""
    run = {"keypoint_detector": "detector", "motion_estimator": "estimator", "repos_net": "renderer"}[component]
    return runs / ("enhancement" if (runs / "enhancement" / component).exists() else run) / component


def parse_options(kind: type[Options], stage: str, argv: list[str] | None = None) -> tuple[Options, Recipe]:
    """Read `--config NAME_OR_FILE` (default: demo) and the options of `kind` for a stage.

    `--stage NAME` takes another section of the config than the script's own, as for a second run of the same script.

    Raises:
        SystemExit: the command line, or the config's section of the stage, names an option that the stage lacks; or
            the config has no section of the name given.
    """
    argv = sys.argv[1:] if argv is None else argv
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", default="demo")
    first.add_argument("--stage")
    known, rest = first.parse_known_args(argv)
    recipe = Recipe.load(known.config)
    if known.stage and known.stage not in recipe.stages:
        first.error(f"the config {known.config} has no stage {known.stage!r}, only {', '.join(recipe.stages)}")
    stage = known.stage or stage
    parser = HfArgumentParser(kind, description=f"Stage {stage!r}. Also: --config NAME_OR_FILE (default: demo).")
    section = recipe.stages.get(stage, {})
    unknown = sorted(set(section) - {option.name for option in fields(kind)})
    if unknown:
        parser.error(f"the config {known.config} sets {', '.join(unknown)}, which stage {stage!r} does not have")
    parser.set_defaults(**section)
    for action in parser._actions:  # an option that the config sets need not be given again
        if action.dest in section:
            action.required = False
    (options,) = parser.parse_args_into_dataclasses(rest)
    return options, recipe


Batch = dict[str, Tensor]


Losses = dict[str, Tensor]


@dataclass
class LoopOptions:
    """Options of every stage."""

    output_dir: str = field(metadata={"help": "Where checkpoints, logs and the trained model go."})
    steps: int = field(default=1000, metadata={"help": "Optimiser steps."})
    batch_size: int = field(default=16, metadata={"help": "Samples a step, over all processes."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Parts of a batch, one after another."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak; warmed up, then a cosine to 1 % of it."})
    warmup_steps: int = field(default=50, metadata={"help": "Linear warm-up."})
    betas: tuple[float, float] = field(default=(0.9, 0.99), metadata={"help": "Of AdamW."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Of AdamW."})
    clip_norm: float = field(default=5.0, metadata={"help": "Largest gradient norm."})
    ema_decay: float = field(default=0.995, metadata={"help": "Of the averaged weights that are saved; 0: the last."})
    seed: int = field(default=0, metadata={"help": "Of weights and batches."})
    workers: int = field(default=0, metadata={"help": "Processes that draw batches ahead; 0: drawn between steps."})
    checkpoint_every: int = field(default=500, metadata={"help": "Steps between checkpoints to resume from."})
    keep_checkpoints: int = field(default=2, metadata={"help": "The last so many are kept, at least 2."})
    log_every: int = field(default=50, metadata={"help": "Steps between log lines."})
    snapshot_every: int = field(default=0, metadata={"help": "Steps between networks kept as they are; 0: none."})
    sample_every: int = field(default=500, metadata={"help": "Steps between pictures, of stages that show some."})
    report_to: Literal["none", "tensorboard", "trackio", "all"] = field(
        default="none", metadata={"help": "Tracker beside log.jsonl; all: those that are installed."}
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = field(default="no", metadata={"help": "Of the networks."})
