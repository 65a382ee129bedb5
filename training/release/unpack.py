"""Take a finished pipeline apart into runs, so that experiments start from it without training its stages first.

    python -m training.release.unpack --model checkpoints_card/eat-demo --output runs

The reverse of `training.release.assemble`. A2ET and RePos-Net are given back as stage 1 left them: stage 2 changes
nothing in them but the EAMs, which become new ones, that is, the identity.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from eat_hf import EATPipeline
from eat_hf.errors import UserError
from eat_hf.media.files import write_atomically
from eat_hf.models.eam import EmotionalAdaptationModule
from eat_hf.pipeline.bundled import find_model

from ..loop.command_line import parse_options, run_script

STAGE_1 = {  # run: component
    "detector": "keypoint_detector",
    "estimator": "motion_estimator",
    "renderer": "repos_net",
    "speech": "speech_encoder",
    "pca": "expression_basis",
    "a2et": "a2et",
}
EMOTION = ("emotion_mapper", "a2et", "edn")


@dataclass
class UnpackOptions:
    """Options."""

    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline: folder or Hub id."})
    output: str = field(default="runs", metadata={"help": "Folder of runs; must be empty or absent."})
    seed: int = field(default=0, metadata={"help": "Of the new EAMs."})


def unpack(options: UnpackOptions) -> None:
    """Raises UserError: the output has something in it."""
    output = Path(options.output)
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty; give an --output of its own, lest runs of two models mix.")
    torch.manual_seed(options.seed)  # of the new EAMs
    place = find_model(options.model)
    pipeline = EATPipeline.from_pretrained(place)
    record = Path(place) / "training.json"
    measured = json.loads(record.read_text()) if record.is_file() else {}

    def save(run: str, component: str) -> None:
        getattr(pipeline, component).save_pretrained(output / run / component)
        write_atomically(output / run / "results.json", json.dumps(measured.get(run, {}), indent=2) + "\n")

    for component in EMOTION:
        save("emotion", component)
    for module in (*pipeline.a2et.modules(), *pipeline.repos_net.modules()):
        if isinstance(module, EmotionalAdaptationModule):
            module.reset_parameters()
    for run, component in STAGE_1.items():
        if getattr(pipeline, component) is not None:  # a converted release may lack the speech encoder
            save(run, component)


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(UnpackOptions, "unpack", argv)
    unpack(options)


if __name__ == "__main__":
    run_script(main)
