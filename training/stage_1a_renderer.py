"""Stage 1a, second half: RePos-Net on pairs of frames of one person.

    accelerate launch -m training.stage_1a_renderer --corpus CORPUS --output_dir runs/motion --part motion
    accelerate launch -m training.stage_1a_renderer --corpus CORPUS --output_dir runs/renderer \\
        --initial runs/motion/repos_net

First the motion: the warped source picture must look like the driving picture and the flow must carry every landmark.
Then what is drawn, mouth and eyes, on their patches alone, with the motion as it is; pictures of 512 have all that the
patches can show; `--part eyes` renews the eyes alone. Keypoints are the exact ones with the noise that estimated ones
would have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import send_to_device
from torch import Tensor, nn

from eat_hf import DetailRenderer
from eat_hf.errors import UserError
from eat_hf.models.components import load_component
from eat_hf.models.detail_renderer import PARTS, Drawing, warp_picture
from eat_hf.models.eye_decoder import EyePoints
from eat_hf.models.layers import repeat_per_frame
from eat_hf.models.patches import polygon_area, sample

from .data.augment import jitter_colour
from .data.frames import FrameBank
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, LoopOptions, Losses
from .loop.trainer import main_process_first, train
from .losses.pictures import feature_weight, flow_loss, picture_grid, psnr, visibility

OCCLUDED = ("jaw", "temple", "chin", "forehead")  # the outline slides over the surface as the head turns
FINE = ("lip", "mouth", "lid", "brow", "nose")  # what speech and expressions move
MOST_TURNED = 28.0  # degrees
FITTED = 20_000  # frames that the guide to the teeth is fitted to
WIDE_OPEN = 0.03  # area of the opening of a mouth from which on frames are drawn as often as any
CHANGED = (
    0.15  # widths of the eye that lids are off where they mostly are, from which on frames are drawn as often as any
)
RARELY = 0.15  # how often others are
SMALLEST = 200.0  # pixels that are drawn of a patch, below which it counts for less


@dataclass
class RendererOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    initial: str = field(default="", metadata={"help": "A repos_net folder to start from."})
    part: Literal["motion", "drawing", "eyes"] = field(
        default="drawing", metadata={"help": "What to train: how the portrait moves, what is drawn, or its eyes alone."}
    )
    shared_noise: float = field(default=0.01, metadata={"help": "Keypoint noise that source and driving share."})
    own_noise: float = field(default=0.004, metadata={"help": "Keypoint noise of each by itself."})
    calm_share: float = field(
        default=0.6,
        metadata={"help": "Share of pairs whose source is near neutral and near frontal, as portraits are."},
    )
    kept_eyes: float = field(
        default=0.5, metadata={"help": "Weight of the moved portrait beside the true picture, for eyes that are drawn."}
    )
    evaluation_pairs: int = field(default=96, metadata={"help": "Held-out pairs to measure on."})


def open_mouths(bank: FrameBank, inner_mouth: Sequence[int]) -> np.ndarray:
    """(N,) weights of driving frames, from `RARELY` for shut mouths to 1: little is learnt of those."""
    area = polygon_area(torch.from_numpy(bank.labels["keypoints"][:, list(inner_mouth), :2]))
    return np.clip(area.numpy() / WIDE_OPEN, RARELY, 1)


def changed_eyes(bank: FrameBank, eyes: Sequence[int]) -> np.ndarray:
    """The same of eyes, from those as far open as most to those that are shut or wide open."""
    openness = EyePoints.of(torch.from_numpy(bank.labels["keypoints"]), list(eyes)).openness.numpy()
    return np.clip(np.abs(openness - np.median(openness)).max(1) / CHANGED, RARELY, 1)


def draw(
    bank: FrameBank, rng: np.random.Generator, count: int, calm_share: float, wanted: np.ndarray | None = None
) -> Batch:
    source, driving = bank.draw_pairs(rng, count, calm_share, MOST_TURNED, wanted)
    pictures = torch.stack([bank.pixel_values(source, None), bank.pixel_values(driving, None)], 1)
    batch = {
        "pictures": pictures,
        "keypoints": torch.stack([bank.label("keypoints", source), bank.label("keypoints", driving)], 1),
        "landmarks": torch.stack([bank.label("landmarks", source), bank.label("landmarks", driving)], 1),
    }
    if "arches" in bank.labels:  # not of real people
        batch["teeth"] = bank.label("arches", driving)
    return batch


def noisy(keypoints: Tensor, options: RendererOptions) -> tuple[Tensor, Tensor]:
    """(N, 2, K, 3) exact -> source and driving keypoints as an estimator would give them."""
    shared = options.shared_noise * torch.randn_like(keypoints[:, :1])
    own = options.own_noise * torch.randn_like(keypoints)
    source, driving = (keypoints + shared + own).unbind(1)
    return source, driving


def drawings_and_targets(drawings: dict[str, Drawing], driving: Tensor) -> Iterator[tuple[str, Drawing, Tensor]]:
    """What is drawn, by part, and how it is in the pictures (N, 3, S, S) that shall be drawn."""
    for name, drawing in drawings.items():
        yield name, drawing, sample(repeat_per_frame(driving, len(drawing.mask) // len(driving)), drawing.places)


def unlike(drawing: Drawing, target: Tensor) -> tuple[Tensor, Tensor]:
    """How far what is drawn is off the target (N, 3, h, w) where it shows, in colours and in edges."""
    area = drawing.mask.sum((1, 2, 3), keepdim=True).clamp_min(SMALLEST)
    error = drawing.mask * (drawing.drawn - target)
    edges = error.diff(dim=2).abs().sum((1, 2, 3)) + error.diff(dim=3).abs().sum((1, 2, 3))
    return (error.abs() / area).sum((1, 2, 3)).mean(), (edges / area.flatten()).mean()


class RendererTask(nn.Module):
    """Losses of both halves."""

    def __init__(self, model: DetailRenderer, options: RendererOptions, names: list[str]):
        super().__init__()
        self.model, self.options = model, options
        self.parts = ("eyes",) if options.part == "eyes" else PARTS
        frozen = {"volume_eam"}  # emotional adaptation comes in stage 2
        match options.part:
            case "drawing":
                frozen |= {"dense_motion"}
            case "motion":
                frozen |= {name for name, _ in model.named_children() if name != "dense_motion"}
            case "eyes":
                frozen |= {name for name, _ in model.named_children() if name != "eye_decoder"}
        self.only_run = [child.requires_grad_(False) for name, child in model.named_children() if name in frozen]
        self.fine = [n for n, name in enumerate(names) if any(part in name for part in FINE)]
        self.visible = torch.tensor([not any(part in name for part in OCCLUDED) for name in names])

    def train(self, mode: bool = True) -> "RendererTask":
        """What is only run stays in evaluation mode: its batch norms would go on learning."""
        super().train(mode)
        for network in self.only_run:
            network.eval()
        return self

    def augment(self, pairs: Batch) -> Batch:
        """Everything random about the pairs of `draw`: colours and the noise of keypoints."""
        exact = pairs["keypoints"]
        # one jitter for both pictures of a pair: the two halves of one tall picture
        source, driving = jitter_colour(torch.cat(pairs["pictures"].unbind(1), 2)).chunk(2, 2)
        source_keypoints, driving_keypoints = noisy(exact, self.options)
        batch = {
            "source": source.contiguous(memory_format=torch.channels_last),
            "driving": driving,
            "source_keypoints": source_keypoints,
            "driving_keypoints": driving_keypoints,
            "keypoints": exact,
            "landmarks": pairs["landmarks"],
            "keypoints_visible": visibility(exact[:, 1], self.visible),
            "landmarks_visible": visibility(pairs["landmarks"][:, 1], torch.arange(68) >= 17),
        }
        if "teeth" in pairs:
            # exact: of lines between teeth that are a pixel off nothing would be learnt but to blur them
            batch["teeth"] = pairs["teeth"]
        return batch

    def forward(self, batch: Batch) -> Losses:
        return self.motion(batch) if self.options.part == "motion" else self.drawing(batch)

    def flow(self, displacement: Tensor, batch: Batch) -> Tensor:
        keypoints, landmarks = (
            flow_loss(displacement, batch[points][:, 0], batch[points][:, 1], batch[f"{points}_visible"])
            for points in ("keypoints", "landmarks")
        )
        return keypoints + landmarks

    def motion(self, batch: Batch) -> Losses:
        field = self.model.move(batch["source"], batch["source_keypoints"], batch["driving_keypoints"])
        source, driving = (F.adaptive_avg_pool2d(batch[name], 128) for name in ("source", "driving"))
        warped = warp_picture(source, field.displacement)
        weight = feature_weight(batch["keypoints"][:, 1, self.fine], warped.shape[-1], gain=3.0)
        error = (warped - driving).abs() * weight
        return {
            "warp": 8 * error.clamp(max=1).mean(),
            "flow": 4 * self.flow(field.displacement, batch),
        }

    def drawing(self, batch: Batch) -> Losses:
        """What is drawn, where it shows: colours and edges, per picture, whatever the opening's size."""
        encoded, driving = self.model.encode(batch["source"]), batch["driving_keypoints"]
        with torch.no_grad():
            motion = self.model.move(batch["source"], batch["source_keypoints"], driving)
        losses = {}
        # the person's own teeth: where the guide would have them, single teeth could not be told apart
        drawings = self.model.draw(
            encoded,
            batch["source_keypoints"],
            driving[:, None],
            motion=motion,
            teeth=batch.get("teeth"),
            parts=self.parts,
        )
        for name, drawing, target in drawings_and_targets(drawings, batch["driving"]):
            losses[name], losses[f"{name}_gradient"] = unlike(drawing, target)
            if name == "eyes":
                # lashes that nobody can foretell would be blurred, if the moved portrait's own had no say
                colours, edges = unlike(drawing, drawing.moved)
                losses["eyes_kept"] = self.options.kept_eyes * (colours + edges)
        return losses


@torch.no_grad()
def evaluate(model: DetailRenderer, bank: FrameBank, pairs: int) -> dict[str, float]:
    """PSNR on held-out heads with exact keypoints: of the frame, of the warp alone, of the source; of what is drawn
    between the lips and of the eyes, where it shows."""
    rng = np.random.default_rng(0)
    scores: dict[str, list[Tensor]] = {}

    def note(name: str, *pictures: Tensor) -> None:
        scores.setdefault(f"psnr{name}", []).append(psnr(*pictures))

    for _ in range(pairs // 8):
        batch = send_to_device(draw(bank, rng, 8, calm_share=1.0), model.device)
        source, driving = batch["pictures"].unbind(1)
        source_keypoints, moved = batch["keypoints"][:, 0], batch["keypoints"][:, 1:]
        encoded = model.encode(source)
        out = model.render(encoded, source_keypoints, moved)
        note("", out.frames[:, 0], driving)
        note("_warp", out.warped_picture[:, 0], driving)
        note("_source", source, driving)
        for name, drawing, target in drawings_and_targets(model.draw(encoded, source_keypoints, moved), driving):
            seen = drawing.mask.sum((1, 2, 3)) > SMALLEST
            note(f"_{name}", drawing.drawn[seen], target[seen], drawing.mask[seen])
    return {name: torch.cat(values).mean().item() for name, values in scores.items()}


@torch.no_grad()
def show(model: DetailRenderer, bank: FrameBank, pairs: int = 4) -> dict[str, np.ndarray]:
    """Held-out pairs from top to bottom: source, driving, its rendering, the warped source side by side; and eyes and
    mouths: as they are, as they are drawn, and moved."""
    batch = send_to_device(draw(bank, np.random.default_rng(0), 4 * pairs, calm_share=1.0), model.device)
    source, driving = batch["pictures"].unbind(1)
    source_keypoints, moved = batch["keypoints"][:, 0], batch["keypoints"][:, 1:]
    encoded = model.encode(source)
    few = slice(pairs)
    out = model(source[few], source_keypoints[few], moved[few])
    sheets = {"pairs": picture_grid(source[few], driving[few], out.frames[:, 0], out.warped_picture[:, 0])}
    for name, part, target in drawings_and_targets(model.draw(encoded, source_keypoints, moved), driving):
        drawn = part.moved + part.mask * (part.drawn - part.moved)
        sheets[name] = picture_grid(target, drawn, part.moved)
    return sheets


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(RendererOptions, "renderer", argv)
    with main_process_first():
        bank = FrameBank.load(options.corpus, "train")
        held_out = FrameBank.load(options.corpus, "validation")
    bank = bank.to(PartialState().device)
    torch.manual_seed(options.seed)
    names = bank.keypoint_names
    model = load_component(options.initial) if options.initial else recipe.build("repos_net", names)
    if not isinstance(model, DetailRenderer):
        raise UserError(f"This stage learns from exact motion: it trains a DetailRenderer, no {type(model).__name__}.")
    guide = model.mouth_decoder.guide
    if not guide.map.any():
        if "arches" not in bank.labels:
            raise UserError(f"{options.corpus} does not say where the teeth are, which this renderer must know.")
        index = np.linspace(0, len(bank.identity) - 1, min(FITTED, len(bank.identity))).astype(int)
        guide.fit(*(torch.from_numpy(bank.labels[name][index]) for name in ("keypoints", "arches")))
    model.to(memory_format=torch.channels_last)
    task = RendererTask(model, options, names)
    wanted = None
    if options.part == "drawing":
        wanted = open_mouths(bank, model.config.inner_mouth)
    elif options.part == "eyes":
        wanted = changed_eyes(bank, model.config.eyes)
    train(
        task,
        lambda rng, count: task.augment(draw(bank, rng, count, options.calm_share, wanted)),
        options,
        {"repos_net": model},
        lambda: evaluate(model, held_out, options.evaluation_pairs),
        lambda: show(model, held_out),
    )


if __name__ == "__main__":
    run_script(main)
