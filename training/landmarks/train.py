"""Train the landmark network on rendered heads.

    accelerate launch -m training.landmarks.train --corpus CORPUS --output_dir runs/landmarks

The corpus knows where every landmark is. What it does not have is made here: faces far out of the crop's middle, turned
to any side, blurred, dark, small, mouths that something covers, and faces that are no people's (`animals`).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from eat_hf.inputs.landmark_network import FaceLandmarks
from eat_hf.inputs.landmarks import MIRROR

from ..data.augment import degrade, jitter_colour, normal, uniform
from ..data.frames import FrameBank
from ..loop.command_line import parse_options, run_script
from ..loop.options import Batch, LoopOptions, Losses
from ..loop.trainer import main_process_first, train
from .animals import fur, without_people

MOUTH = slice(48, 68)
EYES = (36, 45)  # outer corners, whose distance errors are measured in
ANIMALS = 0.3  # share of the samples that show no person


@dataclass
class LandmarkOptions(LoopOptions):
    """Options of the landmark network."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    family: str = field(default="", metadata={"help": "Learn from people of this family of heads alone."})
    initial: str = field(
        default="", metadata={"help": "Folder of a network to go on from; where points sit on a face stays its own."}
    )
    roll: float = field(default=50.0, metadata={"help": "Faces are turned by up to so many degrees."})


def crop_faces(
    pictures: Tensor, landmarks: Tensor, size: int, roll: float, spread: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Square crops around faces, as a detector and a first look would cut them.

    Args:
        pictures: (N, 3, H, W). landmarks: (N, 68, 2) in [-1, 1].
        size: side of the crops. roll: degrees. spread: of place and scale, 0 for none.

    Returns:
        (N, 3, size, size), and the landmarks (N, 68, 2) in them.
    """
    n = len(pictures)
    low, high = landmarks.amin(1), landmarks.amax(1)
    middle = (low + high) / 2 + spread * 0.1 * normal(n, 2, like=pictures) * (high - low)
    reach = (high - low).amax(1) / 2 * uniform(n, 1.25 - 0.3 * spread, 1.25 + 0.5 * spread, like=pictures)
    angle = uniform(n, -roll, roll, like=pictures) * torch.pi / 180
    c, s = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2) * reach[:, None, None]
    theta = torch.cat([turn, middle[..., None]], 2)
    # fetched from a copy of about the crop's density: a coarser one would alias
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    crops = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return crops, torch.linalg.solve(turn, (landmarks - middle[:, None]).mT).mT


def cover_mouths(pictures: Tensor, landmarks: Tensor, share: float = 0.12) -> tuple[Tensor, Tensor]:
    """Something before some of the mouths: a smooth blob of one colour with some texture. Returns pictures and (N,) 1
    where most of the mouth is covered."""
    n, _, height, width = pictures.shape
    mouth = landmarks[:, MOUTH]
    middle, spread = mouth.mean(1), (mouth.amax(1) - mouth.amin(1)).amax(1)
    chosen = uniform(n, 0, 1, like=pictures) < 2 * share
    # half of them lie on the mouth, the others anywhere, so that a blob alone proves nothing
    on_mouth = uniform(n, 0, 1, like=pictures) < 0.5
    elsewhere = uniform(n, -0.9, 0.9, 2, like=pictures)
    place = torch.where(on_mouth[:, None], middle + 0.25 * spread[:, None] * normal(n, 2, like=pictures), elsewhere)
    radius = spread[:, None] * uniform(n, 0.5, 1.4, 2, like=pictures)
    y = torch.linspace(-1, 1, height, device=pictures.device)[None, :, None] - place[:, 1, None, None]
    x = torch.linspace(-1, 1, width, device=pictures.device)[None, None] - place[:, 0, None, None]
    power = uniform(n, 2, 6, 1, 1, like=pictures)
    outside = (x / radius[:, 0, None, None]).abs() ** power + (y / radius[:, 1, None, None]).abs() ** power
    blob = ((1.1 - outside) * 8).clamp(0, 1) * chosen[:, None, None]
    # skin, for hands, or any colour, for masks and cups
    skin = pictures.mean((2, 3), keepdim=True) * (1 + 0.15 * normal(n, 3, 1, 1, like=pictures))
    colour = torch.where(uniform(n, 0, 1, 1, 1, 1, like=pictures) < 0.4, skin, uniform(n, 0, 1, 3, 1, 1, like=pictures))
    coarse = F.interpolate(normal(n, 1, 8, 8, like=pictures), size=(height, width), mode="bilinear")
    covered = (pictures + blob[:, None] * (colour * (1 + 0.12 * coarse) - pictures)).clamp(0, 1)
    hidden = F.grid_sample(blob[:, None], mouth[:, None], align_corners=False).mean((1, 2, 3))
    return covered, (hidden > 0.5).float()


def draw(bank: FrameBank, rng: np.random.Generator, count: int, index: np.ndarray, size: int, roll: float) -> Batch:
    chosen = rng.choice(index, count)
    pictures, landmarks = bank.pixel_values(chosen), bank.label("landmarks", chosen)[..., :2]
    if rng.random() < 0.5:  # a photograph of less detail than the crop
        small = int(rng.integers(48, 160))
        pictures = F.interpolate(
            F.interpolate(pictures, size=small, mode="area"), size=pictures.shape[2], mode="bilinear"
        )
    pictures, landmarks = crop_faces(pictures, landmarks, size, roll if rng.random() < 0.5 else 12)
    pictures, covered = cover_mouths(jitter_colour(pictures), landmarks)
    # brush strokes and the like over some people, so that texture alone proves nothing
    strokes = (uniform(count, 0, 1, 1, 1, 1, like=pictures) < 0.25) * uniform(count, 0, 0.2, 1, 1, 1, like=pictures)
    pictures = pictures * (1 + strokes * fur(count, size, pictures))
    animals = int(rng.binomial(count, ANIMALS))
    person = (torch.arange(count, device=pictures.device) >= animals).float()
    pictures[:animals] = without_people(pictures[:animals], landmarks[:animals])
    grey = (uniform(count, 0, 1, 1, 1, 1, like=pictures) < 0.15).to(pictures.dtype)
    pictures = (pictures + grey * (pictures.mean(1, keepdim=True) - pictures)).clamp(0, 1)
    weight = person / person.mean().clamp(min=1 / count)  # of what only people have
    return {
        "pixel_values": degrade(pictures),
        "landmarks": landmarks,
        "covered": covered,
        "person": person,
        "weight": weight,
    }


class LandmarkTask(nn.Module):
    """Laplacian likelihood of every landmark, whose scale the network must know, the cover, and who is a person."""

    def __init__(self, model: FaceLandmarks):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Losses:
        out, weight = self.model(batch["pixel_values"]), batch["weight"]
        distance = (out.landmarks - batch["landmarks"]).norm(dim=-1)
        likelihood = distance.detach() / out.deviation + out.deviation.log()
        return {
            "landmarks": 10 * (weight * distance.mean(1)).mean(),
            "deviation": 0.05 * (weight * likelihood.mean(1)).mean(),
            "covered": 0.2 * F.binary_cross_entropy_with_logits(out.covered, batch["covered"], weight),
            "person": 0.2 * F.binary_cross_entropy_with_logits(out.person, batch["person"]),
        }


@torch.no_grad()
def evaluate(model: FaceLandmarks, bank: FrameBank, size: int, count: int = 512) -> dict[str, float]:
    """Mean error on held-out heads, in shares of the distance between the outer eye corners."""
    index = np.linspace(0, len(bank.identity) - 1, min(count, len(bank.identity))).astype(int)
    device = next(model.parameters()).device
    torch.manual_seed(0)
    errors = []
    for part in np.array_split(index, max(1, len(index) // 64)):
        pictures, landmarks = crop_faces(
            bank.pixel_values(part), bank.label("landmarks", part)[..., :2], size, roll=12, spread=0.5
        )
        found = model(pictures.to(device)).landmarks.cpu()
        eyes = (landmarks[:, EYES[0]] - landmarks[:, EYES[1]]).norm(dim=-1)
        errors.append((found - landmarks.cpu()).norm(dim=-1).mean(1) / eyes.cpu())
    return {"error_of_eye_distance": torch.cat(errors).mean().item()}


@torch.no_grad()
def keep_convention(model: FaceLandmarks, other: FaceLandmarks, bank: FrameBank, size: int, count: int = 256) -> None:
    """Move a network's points, each by one step on upright faces, to where another network has them in the mean.

    Where exactly a brow begins or a jaw ends is a convention, in which a corpus differs from what people drew.
    """
    index = np.linspace(0, len(bank.identity) - 1, min(count, len(bank.identity))).astype(int)
    landmarks = bank.label("landmarks", index)[..., :2]
    crops, _ = crop_faces(bank.pixel_values(index), landmarks, size, roll=0, spread=0)
    step = torch.cat([other(part).landmarks - model(part).landmarks for part in crops.cpu().split(64)]).mean(0)
    step = (step + step[MIRROR] * torch.tensor([-1.0, 1.0])) / 2
    model.to_shift.bias += step.flatten()


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(LandmarkOptions, "landmarks", argv)
    with main_process_first():
        bank = FrameBank.load(options.corpus, "train")
        held_out = FrameBank.load(options.corpus, "validation")
    bank = bank.to(PartialState().device)
    torch.manual_seed(options.seed)
    model = FaceLandmarks.from_pretrained(options.initial) if options.initial else recipe.build("face_landmarks")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # which its annotations forget
    size = model.config.input_size
    index = np.flatnonzero(bank.family == options.family) if options.family else np.arange(len(bank.identity))
    train(
        LandmarkTask(model),
        lambda rng, count: draw(bank, rng, count, index, size, options.roll),
        options,
        {"face_landmarks": model},
        lambda: evaluate(model, held_out, size),
    )
    if options.initial and PartialState().is_main_process:
        other = FaceLandmarks.from_pretrained(options.initial).eval()
        keep_convention(model.cpu().eval(), other, held_out, size)
        model.save_pretrained(Path(options.output_dir) / "face_landmarks")


if __name__ == "__main__":
    run_script(main)
