"""Training of the landmark network, on whatever shows faces with 68 exact landmarks.

    python -m training.train_landmarks --data faces.npz --output_dir runs/landmarks --steps 4000 --batch_size 256

`--data` is an .npz or .safetensors file with

    pictures    (N, S, S, 3) uint8, RGB, S about 160; each shows one face, upright to within some 40 degrees, about 80
                pixels wide, with as much again around it
    landmarks   (N, 68, 2) float32, x and y in pixels of the picture, (0, 0) in the middle of the top left pixel
    covered     (N,) bool, whether something covers the mouth; may be left out

or the folder of a corpus, which `--write` can turn into such a file. Rows of one person should be neighbours: the last
ones, `--held_out` of all, are measured and not trained on. All pictures lie on the device as one tensor, and crops are
cut out, turned, coloured, covered and spoilt there. The network ends up in `landmark_network` of the output folder;
copied to `eat_hf/inputs/face_models/landmark_network` it takes over from dlib.
"""

import argparse
import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from eat_hf.errors import UserError
from eat_hf.inputs.landmark_network import LandmarkNetwork
from eat_hf.inputs.landmarks import CROP_TEMPLATE

from .loop.options import Batch, LoopOptions, Losses
from .loop.trainer import train

SIDE = 160  # of pictures that are read from a corpus
EYES = (36, 45)  # their outer corners: the distance that errors are measured in
MOUTH = slice(48, 68)
# number of the point that a mirrored picture shows in the place of each point
MIRRORED = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46] + [
    39,
    38,
    37,
    36,
    41,
    40,
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    67,
    66,
    65,
]


@dataclass
class LandmarkOptions(LoopOptions):
    """Options of this script."""

    data: str = field(default="", metadata={"help": "File with pictures and landmarks, or a corpus' folder."})
    output_dir: str = field(default="runs/landmarks", metadata={"help": "Where the network goes."})
    device: str = field(default="", metadata={"help": "cpu or cuda; by default what there is."})
    held_out: float = field(default=0.08, metadata={"help": "Share of the data that measures and does not train."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Peak; warmed up, then a cosine to a hundredth."})
    batch_size: int = field(default=64, metadata={"help": "Faces a step."})
    write: str = field(default="", metadata={"help": "Write the data to this .safetensors file first."})


# Data ----------------------------------------------------------------------------------------------------------------


def read_data(place: str) -> dict[str, np.ndarray]:
    """Pictures, landmarks and covered, see above.

    Raises:
        UserError: the file or folder is not there or holds something else.
    """
    path = Path(place)
    if path.is_dir():
        return read_corpus(path)
    if not path.is_file():
        raise UserError(f"There is no data at {place}; give an .npz or .safetensors file or the folder of a corpus.")
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            data = dict(arrays)
    else:
        data = load_file(path)
    data.setdefault("covered", np.zeros(len(data.get("pictures", ())), bool))
    missing = {"pictures", "landmarks"} - set(data)
    if missing:
        raise UserError(f"{place} has no {' and no '.join(sorted(missing))}.")
    count = len(data["pictures"])
    side = data["pictures"].shape[1]
    wanted = {"pictures": (count, side, side, 3), "landmarks": (count, 68, 2), "covered": (count,)}
    for name, shape in wanted.items():
        if data[name].shape != shape:
            raise UserError(f"{name} of {place} must be of shape {shape}, not {data[name].shape}.")
    if data["pictures"].dtype != np.uint8:
        raise UserError(f"The pictures of {place} must be uint8, not {data['pictures'].dtype}.")
    return {name: data[name] for name in wanted}


def read_corpus(folder: Path) -> dict[str, np.ndarray]:
    """The same from the rendered clips of a corpus, every frame of them."""
    import cv2  # only a corpus needs what reads videos

    from .data.dataset import Corpus

    pictures, landmarks = [], []
    for clip in sorted(Corpus(str(folder)).clips(), key=lambda clip: str(clip.identity)):
        if not clip.rendered:
            continue
        frames = clip.frames()
        pictures += [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
        landmarks.append((clip.labels("landmarks")["landmarks"][..., :2] + 1) * SIDE / 2 - 0.5)
    if not pictures:
        raise UserError(f"{folder} has no rendered clips.")
    points = np.concatenate(landmarks).astype(np.float32)
    return {"pictures": np.stack(pictures), "landmarks": points, "covered": np.zeros(len(points), bool)}


# Crops ---------------------------------------------------------------------------------------------------------------


def uniform(low: float, high: float, *shape: int, device: torch.device) -> Tensor:
    return torch.empty(shape, device=device).uniform_(low, high)


def upright_similarity(points: Tensor, template: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and shift, complex (N,), that bring points (N, P, 2) nearest to those of the template (P, 2)."""
    a, b = torch.view_as_complex(points.contiguous()), torch.view_as_complex(template.contiguous())[None]
    centred, wanted = a - a.mean(1, keepdim=True), b - b.mean()
    factor = (centred.conj() * wanted).sum(1) / centred.abs().square().sum(1)
    return factor, b.mean() - factor * a.mean(1)


def cut_out(pictures: Tensor, factor: Tensor, shift: Tensor, size: int) -> Tensor:
    """The crops (N, 3, size, size) to which p -> factor * p + shift brings pictures (N, 3, S, S)."""
    axis = torch.arange(size, device=pictures.device, dtype=torch.float32)
    places = torch.complex(axis[None, :].expand(size, size), axis[:, None].expand(size, size))
    where = torch.view_as_real((places[None] - shift[:, None, None]) / factor[:, None, None])
    grid = (where + 0.5) * 2 / pictures.shape[-1] - 1
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def draw_crops(pictures: Tensor, points: Tensor, covered: Tensor, size: int) -> dict[str, Tensor]:
    """Crops as the network will meet them and worse: (N, 3, S, S) in [0, 1], (N, 68, 2), (N,) bool.

    Most lie as a second reading finds them, to within some degrees; the others as the first one does.
    """
    n, device = len(pictures), pictures.device
    flipped = torch.rand(n, device=device) < 0.5
    other = points[:, MIRRORED] * points.new_tensor([-1, 1]) + points.new_tensor([pictures.shape[-1] - 1, 0])
    pictures = torch.where(flipped[:, None, None, None], pictures.flip(-1), pictures)
    points = torch.where(flipped[:, None, None], other, points)

    template = torch.as_tensor(CROP_TEMPLATE * size, dtype=torch.float32, device=device)
    factor, shift = upright_similarity(points, template)
    worse = torch.where(torch.rand(n, device=device) < 0.4, 1.0, 0.25)
    roll = worse * uniform(-40, 40, n, device=device) * math.pi / 180
    scale = (worse * uniform(-0.3, 0.3, n, device=device)).exp()
    turn = torch.polar(scale, roll)
    centre = torch.complex(*[torch.full((n,), size / 2 - 0.5, device=device)] * 2)
    moved = size * torch.complex(*(worse * uniform(-0.12, 0.12, n, device=device) for _ in range(2)))
    factor, shift = turn * factor, turn * (shift - centre) + centre + moved
    crops = cut_out(pictures, factor, shift, size)
    places = torch.view_as_complex(points.contiguous()) * factor[:, None] + shift[:, None]
    points = torch.view_as_real(places)

    crops = vary_look(crops)
    crops, hidden = occlude(crops, points)
    return {"pictures": spoil(crops), "landmarks": points, "covered": covered | hidden}


def vary_look(x: Tensor) -> Tensor:
    """Brightness, contrast, tint, gamma, saturation up to grey, light from one side."""
    n, device = len(x), x.device
    grey = x.mean(1, keepdim=True)
    amount = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.2, 0.0, 1.0)
    x = grey + amount * uniform(0.4, 1.5, n, 1, 1, 1, device=device) * (x - grey)
    x = x * (1 + 0.15 * torch.randn(n, 3, 1, 1, device=device)) + 0.08 * torch.randn(n, 1, 1, 1, device=device)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + uniform(0.5, 1.5, n, 1, 1, 1, device=device) * (x - mean)
    axis = torch.linspace(-1, 1, x.shape[-1], device=device)
    slope = 0.25 * torch.randn(n, 2, 1, 1, 1, device=device)
    x = x * (1 + slope[:, 0] * axis + slope[:, 1] * axis[:, None])
    return x.clamp(1e-3, 1) ** uniform(0.6, 1.6, n, 1, 1, 1, device=device)


def occlude(x: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Lay something over a part of the faces: masks, scarves and hands over mouths, bars and patches elsewhere.

    Returns:
        The pictures, and (N,) bool: it lies over most of the mouth.
    """
    n, size, device = len(x), x.shape[-1], x.device
    mouth = points[:, MOUTH].mean(1)
    over_mouth = torch.rand(n, device=device) < 0.25
    elsewhere = points[:, :48][torch.arange(n, device=device), torch.randint(0, 48, (n,), device=device)]
    centre = torch.where(over_mouth[:, None], mouth, elsewhere) + 0.05 * size * torch.randn(n, 2, device=device)
    radii = size * uniform(0.06, 0.28, n, 2, device=device)
    radii = torch.where(over_mouth[:, None], radii + 0.12 * size, radii)
    angle = uniform(-math.pi, math.pi, n, device=device)
    power = torch.where(torch.rand(n, device=device) < 0.5, 2.0, 8.0)  # an ellipse, or a rectangle with round corners
    kept = over_mouth | (torch.rand(n, device=device) < 0.25)

    def inside(places: Tensor) -> Tensor:
        """(N, M, 2) -> (N, M) bool."""
        turn = torch.polar(torch.ones_like(angle), angle)[:, None]
        offset = torch.view_as_complex((places - centre[:, None]).contiguous()) * turn
        reach = (torch.view_as_real(offset).abs() / radii[:, None]) ** power[:, None, None]
        return (reach.sum(-1) < 1) & kept[:, None]

    axis = torch.arange(size, device=device, dtype=torch.float32)
    pixels = torch.stack([axis.repeat(size), axis.repeat_interleave(size)], -1)[None].expand(n, -1, -1)
    mask = inside(pixels).unflatten(1, (size, size))[:, None].float()
    mask = F.avg_pool2d(mask, 3, 1, 1)
    plain = torch.rand(n, 3, 1, 1, device=device)
    texture = F.interpolate(torch.rand(n, 3, 9, 9, device=device), (size, size), mode="bilinear") - 0.5
    skin = x.roll(1, 0).roll(size // 2, 2)  # something else of another picture, skin often
    cover = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.5, plain + 0.4 * texture, skin)
    return torch.lerp(x, cover.clamp(0, 1), mask), inside(points[:, MOUTH]).float().mean(1) > 0.6


def spoil(x: Tensor) -> Tensor:
    """Blur, small copies enlarged, blocks as JPEG leaves them, noise."""
    n, size, device = len(x), x.shape[-1], x.device
    pick = torch.rand(n, 1, 1, 1, device=device)
    small = int(torch.randint(size // 6, size // 2, ()))
    tiny = F.interpolate(x, (small, small), mode="area")
    x = torch.where(pick < 0.2, F.interpolate(tiny, (size, size), mode="bilinear", align_corners=False), x)
    blurred = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
    x = torch.where((pick > 0.2) & (pick < 0.4), blurred, x)
    steps = uniform(8, 40, n, 1, 1, 1, device=device)
    blocks = F.interpolate(F.avg_pool2d(x, 8), scale_factor=8)
    x = torch.where(pick > 0.8, blocks + ((x - blocks) * steps).round() / steps, x)
    return (x + uniform(0, 0.06, n, 1, 1, 1, device=device) * torch.randn_like(x)).clamp(0, 1)


# Learning ------------------------------------------------------------------------------------------------------------


class LandmarkTask(nn.Module):
    """Wing loss of the points, likelihood of their errors, cross-entropy of the covered mouth.

    Args:
        data: what `read_data` gives; it moves to the device with the task.
    """

    WING, CURVE = 0.08, 0.008  # in sides of the crop: beyond the one the loss is linear, below the other nearly so, too

    def __init__(self, network: LandmarkNetwork, data: dict[str, np.ndarray]):
        super().__init__()
        self.network = network
        self.pictures: Tensor
        self.landmarks: Tensor
        self.covered: Tensor
        for name, array in data.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)), persistent=False)

    def rows(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pictures = self.pictures[rows].permute(0, 3, 1, 2).float() / 255
        return pictures, self.landmarks[rows].float(), self.covered[rows]

    def forward(self, batch: Batch) -> Losses:
        size = self.network.config.size
        crops = draw_crops(*self.rows(batch["rows"]), size)
        read = self.network(crops["pictures"])
        distance = ((read.landmarks - crops["landmarks"]) / size).norm(dim=-1)  # (N, 68)
        wing = torch.where(
            distance < self.WING,
            self.WING * torch.log1p(distance / self.CURVE),
            distance - self.WING + self.WING * math.log1p(self.WING / self.CURVE),
        )
        certainty = distance.detach() * (-read.log_error).exp() + read.log_error
        covered = F.binary_cross_entropy_with_logits(read.covered, crops["covered"].float())
        return {"points": 10 * wing.mean(), "certainty": 0.1 * certainty.mean(), "covered": 0.2 * covered}


@torch.no_grad()
def evaluate(task: LandmarkTask, rows: np.ndarray) -> dict[str, float]:
    """Of held-out rows, drawn as in training: mean error over the eye distance, share in which `covered` is right."""
    torch.manual_seed(0)
    errors, right = [], []
    for part in np.array_split(rows, max(1, len(rows) // 64)):
        crops = draw_crops(*task.rows(torch.from_numpy(part).to(task.pictures.device)), task.network.config.size)
        read = task.network(crops["pictures"])
        eyes = (crops["landmarks"][:, EYES[0]] - crops["landmarks"][:, EYES[1]]).norm(dim=-1)
        errors.append((read.landmarks - crops["landmarks"]).norm(dim=-1).mean(1) / eyes)
        right.append(((read.covered > 0) == crops["covered"]).float())
    return {"error_over_eye_distance": float(torch.cat(errors).mean()), "covered_right": float(torch.cat(right).mean())}


def parse(argv: list[str] | None = None) -> LandmarkOptions:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    for option in dataclasses.fields(LandmarkOptions):
        kind = type(option.default)
        if kind in (str, int, float):  # nothing else, such as AdamW's betas, needs changing here
            parser.add_argument(f"--{option.name}", type=kind, default=option.default, help=option.metadata.get("help"))
    return LandmarkOptions(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no CUDA device; leave --device out.")
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    data = read_data(options.data)
    if options.write:
        save_file(data, options.write)
    count = len(data["pictures"])
    kept = count - max(1, round(count * options.held_out))
    if kept < 1:
        raise UserError(f"{options.data} has too few pictures to train on.")
    torch.manual_seed(options.seed)
    network = LandmarkNetwork()
    task = LandmarkTask(network, data)
    train(
        task,
        lambda rng, size: {"rows": torch.from_numpy(rng.integers(0, kept, size))},
        options,
        {"landmark_network": network},
        lambda: evaluate(task, np.arange(kept, count)),
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
