"""Emotion-FAN, the network that says which emotion a clip shows; Acc_emo is its verdict on generated clips.

    accelerate launch -m training.judges.train_emotion --corpus JUDGE_CORPUS --output_dir runs/emotion_fan

As published: ResNet-18 on face chips, three frames of a clip a sample, attention over frames, cross-entropy. The
authors start from a network that has seen a million faces; where the corpus has exact weights of facial units, as the
synthetic one does, they stand in for that: while it trains, the network also has to tell them. Trained on other people
and other sentences than the checkpoint it judges.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat_hf import EmotionFAN
from eat_hf.errors import UserError

from ..data.augment import uniform
from ..data.faces import FaceBank
from ..loop.command_line import parse_options, run_script
from ..loop.options import Batch, LoopOptions, Losses
from ..loop.trainer import main_process_first, train

FRAME_STEP = 3  # neighbouring frames are alike


@dataclass
class EmotionJudgeOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    split: str | None = field(default=None, metadata={"help": "Split of it; all clips by default."})
    image_size: int = field(default=224, metadata={"help": "Side of the face chips."})
    frames: int = field(default=3, metadata={"help": "Frames of a clip in a sample."})
    label_smoothing: float = field(default=0.05, metadata={"help": "Of the cross-entropy."})
    initial: str | None = field(default=None, metadata={"help": "Folder of an EmotionFAN to start from."})
    held_out: float = field(default=0.05, metadata={"help": "Share of the identities that measure and do not train."})
    unit_weight: float = field(default=40.0, metadata={"help": "Of the squared error of facial units, 0 without them."})


class JudgeTask(nn.Module):
    """The judge with a second task, which is dropped when it has learnt: facial units of every frame.

    Args:
        units: how many there are; without any there is no second task.
    """

    def __init__(self, judge: EmotionFAN, units: int, options: EmotionJudgeOptions):
        super().__init__()
        self.judge, self.options = judge, options
        self.units = nn.Linear(judge.pred_fc2.in_features // 2, units) if units else None

    def forward(self, batch: Batch) -> Losses:
        out = self.judge(batch["faces"])
        emotion = F.cross_entropy(out.logits, batch["labels"], label_smoothing=self.options.label_smoothing)
        if self.units is None:
            return {"emotion": emotion}
        units = F.mse_loss(self.units(out.features), batch["units"])
        return {"emotion": emotion, "units": self.options.unit_weight * units}


def augment(faces: Tensor) -> Tensor:
    """Colour, blur, noise and a small similarity transform per picture: (N, 3, S, S) in [0, 1]."""
    n = len(faces)
    angle, scale = uniform(n, -0.12, 0.12), uniform(n, 0.88, 1.1)
    theta = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin(), uniform(n, -0.07, 0.07)], 1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), uniform(n, -0.07, 0.07)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(faces.shape), align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    coloured = moved * (1 + 0.1 * torch.randn(n, 3, 1, 1)) + 0.06 * torch.randn(n, 1, 1, 1)
    blurred = F.avg_pool2d(F.pad(coloured, (1, 1, 1, 1), mode="replicate"), 3, 1)  # as generated faces often are
    return torch.where(torch.rand(n, 1, 1, 1) < 0.4, blurred, coloured).clamp(0, 1)


def mirrored_units(units: np.ndarray) -> list[int]:
    """Which unit each of ARKit's becomes in a mirror."""
    names = [str(unit) for unit in units]
    other = {"Left": "Right", "Right": "Left"}
    return [names.index(re.sub("(Left|Right)$", lambda side: other[side[0]], name)) for name in names]


@torch.no_grad()
def evaluate(model: EmotionFAN, bank: FaceBank, numbers: list[int]) -> dict[str, float]:
    """Accuracy over clips, all frames seen, as a whole and by emotion."""
    model.eval()
    hits: dict[str, list[bool]] = {name: [] for name in model.config.classes}
    for number in numbers:
        faces = torch.from_numpy(bank.of(number).copy()).permute(0, 3, 1, 2)[None].float() / 255
        guess = model.config.classes[int(model(faces.to(model.device)).logits[0].argmax())]
        emotion = bank.clips[number].emotion
        assert emotion is not None  # only clips that say so are learnt from
        hits[emotion].append(guess == emotion)
    results = {"accuracy": float(np.mean(sum(hits.values(), []))), "clips": len(numbers)}
    return results | {name: float(np.mean(values)) for name, values in hits.items() if values}


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(EmotionJudgeOptions, "emotion_judge", argv)
    with main_process_first():
        bank = FaceBank.load(options.corpus, "chips", options.image_size, options.split, every=FRAME_STEP)
    training, held_out = bank.held_out(options.held_out)
    torch.manual_seed(options.seed)
    model = (
        EmotionFAN.from_pretrained(options.initial)
        if options.initial
        else EmotionFAN(**recipe.components["emotion_fan"], image_size=options.image_size)
    )
    unlabelled = [clip.name for clip in bank.clips if clip.emotion not in model.config.classes]
    if unlabelled:
        raise UserError(
            f"{len(unlabelled)} clips of {options.corpus}, such as {unlabelled[0]}, are labelled with no emotion that "
            "the judge knows; train it on a corpus with emotions."
        )
    units = [clip.labels("arkit")["arkit"][::FRAME_STEP] for clip in bank.clips] if options.unit_weight else None
    swapped = mirrored_units(bank.clips[0].labels()["arkit_names"]) if units else None
    task = JudgeTask(model, units[0].shape[1] if units else 0, options)
    classes = model.config.classes

    def draw(rng: np.random.Generator, count: int) -> Batch:
        faces, labels, weights = [], [], []
        for number in rng.choice(training, count):
            frames = bank.of(number)
            chosen = np.sort(rng.choice(len(frames), options.frames, replace=len(frames) < options.frames))
            mirror = rng.random() < 0.5
            faces.append(frames[chosen][:, :, ::-1] if mirror else frames[chosen])
            labels.append(classes.index(bank.clips[number].emotion))
            told = units[number][chosen] if units else np.zeros((options.frames, 0), np.float32)
            weights.append(told[:, swapped] if units and mirror else told)
        pictures = torch.from_numpy(np.stack(faces)).permute(0, 1, 4, 2, 3).float() / 255
        return {
            "faces": augment(pictures.flatten(0, 1)).unflatten(0, (count, -1)),
            "labels": torch.tensor(labels),
            "units": torch.from_numpy(np.stack(weights)),
        }

    train(task, draw, options, {"emotion_fan": model}, lambda: evaluate(model, bank, held_out))


if __name__ == "__main__":
    run_script(main)
