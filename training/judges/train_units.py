"""A network that reads facial units off a frame: the judge of emotions that were asked for in words.

    python -m training.corpus.build --output corpus_units --judge --expression wishes ...
    accelerate launch -m training.judges.train_units --corpus corpus_units --output_dir runs/unit_judge

A small ResNet of transformers, from a frame to the weights of ARKit's 52 units, trained on the exact ones of other
people and other sentences than whatever it judges. It knows faces like the corpus' and nothing of words.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from eat_hf.errors import UserError

from ..corpus.heads import ARKIT_NAMES
from ..data.augment import degrade, transform_similarity, vary_colour
from ..data.frames import LABELS, FrameBank
from ..loop.command_line import parse_options, run_script
from ..loop.options import Batch, LoopOptions, Losses
from ..loop.trainer import main_process_first, train

EDGE, SIDE = 170, 128  # of a picture, and of its middle, which holds the face from brows to chin
MOVING = 0.02  # least standard deviation of a unit that is learnt


@dataclass
class UnitJudgeOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus_units", metadata={"help": "Corpus folder, with exact facial units."})
    split: str = field(default="judge", metadata={"help": "Split of it."})
    held_out: float = field(default=0.1, metadata={"help": "Share of the identities that measure and do not train."})


class UnitJudgeTask(nn.Module):
    """Squared errors of units, each in units of its own variance.

    Args:
        spread: (units,) standard deviations; units that hardly move do not count.
    """

    def __init__(self, judge: ResNetForImageClassification, spread: Tensor):
        super().__init__()
        self.judge = judge
        self.weights: Tensor
        self.register_buffer("weights", torch.where(spread > MOVING, spread, torch.inf) ** -2, persistent=False)

    def forward(self, batch: Batch) -> Losses:
        return {"units": (self.weights * (read_units(self.judge, batch["pictures"]) - batch["units"]).square()).mean()}


def read_units(judge: ResNetForImageClassification, pictures: Tensor) -> Tensor:
    """(N, 3, H, H) in [0, 1] -> (N, 52), weights near [0, 1] of the units in `judge.config.id2label`."""
    small = pictures.float()
    if small.shape[-1] != EDGE:
        small = F.interpolate(small, (EDGE, EDGE), mode="area")
    first = (EDGE - SIDE) // 2
    return judge(small[..., first : first + SIDE, first : first + SIDE] - 0.5).logits


@torch.no_grad()
def evaluate(task: UnitJudgeTask, bank: FrameBank, frames: np.ndarray) -> dict[str, float]:
    """On held-out people: mean correlation and mean absolute error of the units that move."""
    task.judge.eval()
    parts = np.array_split(frames, max(1, len(frames) // 32))
    device = task.weights.device
    read = torch.cat([read_units(task.judge, bank.pixel_values(part).to(device)) for part in parts]).cpu().numpy()
    true = bank.labels["arkit"][frames]
    moving = true.std(0) > MOVING
    pairs = list(zip(read.T[moving], true.T[moving], strict=True))
    return {
        "correlation": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])),
        "error": float(np.mean([np.abs(a - b).mean() for a, b in pairs])),
        "spread": float(np.mean([np.abs(b - b.mean()).mean() for _, b in pairs])),
        "units": int(moving.sum()),
    }


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(UnitJudgeOptions, "unit_judge", argv)
    with main_process_first():
        bank = FrameBank.load(options.corpus, options.split)
    if "arkit" not in bank.labels:
        raise UserError(f"{options.corpus} has no exact facial units; use the synthetic corpus.")
    people = np.unique(bank.identity)
    if len(people) < 2:
        raise UserError(f"{options.corpus} shows one person; the judge needs others to be measured on.")
    last = people[-max(1, round(len(people) * options.held_out)) :]
    held_out = np.flatnonzero(np.isin(bank.identity, last))
    training = np.flatnonzero(~np.isin(bank.identity, last))
    torch.manual_seed(options.seed)
    judge = ResNetForImageClassification(
        ResNetConfig(
            **recipe.components["unit_judge"],
            id2label=dict(enumerate(ARKIT_NAMES)),
            label2id={name: number for number, name in enumerate(ARKIT_NAMES)},
        )
    )
    task = UnitJudgeTask(judge, torch.from_numpy(bank.labels["arkit"][training].std(0)))

    def draw(rng: np.random.Generator, count: int) -> Batch:
        frames = rng.choice(training, count)
        labels = {name: bank.label(name, frames) for name in LABELS if name != "landmarks"}
        small = F.interpolate(bank.pixel_values(frames), (EDGE, EDGE), mode="area")  # and so the rest costs little
        pictures, _ = transform_similarity(small, labels, max_roll=8, max_scale=0.1, max_shift=0.06)
        return {"pictures": degrade(vary_colour(pictures, 0.15)), "units": bank.label("arkit", frames)}

    train(
        task,
        draw,
        options,
        {"unit_judge": judge},
        lambda: evaluate(task, bank, np.random.default_rng(0).permutation(held_out)[:800]),
    )


if __name__ == "__main__":
    run_script(main)
