"""Stage 1a, second half: RePos-Net on pairs of frames of one person.

    accelerate launch -m training.stage_1a_renderer --corpus CORPUS --output_dir runs/motion --motion_only true
    accelerate launch -m training.stage_1a_renderer --corpus CORPUS --output_dir runs/renderer \\
        --initial runs/motion/repos_net

First the motion alone, which is cheap: the warped source picture must look like the driving picture and the flow must
carry every landmark. Then the whole renderer, on parts of pictures around the face. Keypoints are the exact ones with
the noise that estimated ones would have.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import send_to_device
from torch import Tensor, nn

from eat_hf import DetailRenderer
from eat_hf.errors import UserError
from eat_hf.models.components import load_component
from eat_hf.models.detail_renderer import Crop, polygon_coverage, warp_picture

from .data.augment import jitter_colour
from .data.frames import FrameBank
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, LoopOptions, Losses
from .loop.trainer import main_process_first, train
from .losses.pictures import feature_weight, flow_loss, gradient_l1, picture_grid, psnr, visibility

OCCLUDED = ("jaw", "temple", "chin", "forehead")  # the outline slides over the surface as the head turns
FINE = ("lip", "mouth", "lid", "brow", "nose")  # what speech and expressions move
CELLS = 64  # of the feature map across the frame
MOST_TURNED = 28.0  # degrees
FITTED = 20_000  # frames that the guide to the teeth is fitted to
OPEN = 500  # colour values inside mouths below which a batch of them counts for less


@dataclass
class RendererOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    initial: str = field(default="", metadata={"help": "A repos_net folder to start from."})
    motion_only: bool = field(default=False, metadata={"help": "Train the motion network alone."})
    shared_noise: float = field(default=0.015, metadata={"help": "Keypoint noise that source and driving share."})
    own_noise: float = field(default=0.005, metadata={"help": "Keypoint noise of each by itself."})
    calm_share: float = field(
        default=0.6,
        metadata={"help": "Share of pairs whose source is near neutral and near frontal, as portraits are."},
    )
    crop_cells: int = field(default=32, metadata={"help": "Side of the part that is decoded, in 64ths of the frame."})


def draw(bank: FrameBank, rng: np.random.Generator, count: int, calm_share: float) -> Batch:
    source, driving = bank.draw_pairs(rng, count, calm_share, MOST_TURNED)
    pictures = torch.stack([bank.pixel_values(source), bank.pixel_values(driving)], 1)
    return {
        "pictures": pictures,
        "keypoints": torch.stack([bank.label("keypoints", source), bank.label("keypoints", driving)], 1),
        "landmarks": torch.stack([bank.label("landmarks", source), bank.label("landmarks", driving)], 1),
    }


def noisy(keypoints: Tensor, options: RendererOptions) -> tuple[Tensor, Tensor]:
    """(N, 2, K, 3) exact -> source and driving keypoints as an estimator would give them."""
    shared = options.shared_noise * torch.randn_like(keypoints[:, :1])
    own = options.own_noise * torch.randn_like(keypoints)
    source, driving = (keypoints + shared + own).unbind(1)
    return source, driving


class RendererTask(nn.Module):
    """Losses of both halves."""

    def __init__(self, model: DetailRenderer, options: RendererOptions, names: list[str]):
        super().__init__()
        self.model, self.options = model, options
        self.fine = [n for n, name in enumerate(names) if any(part in name for part in FINE)]
        self.drawn = list(model.config.inner_mouth)
        self.visible = torch.tensor([not any(part in name for part in OCCLUDED) for name in names])

    def augment(self, pairs: Batch) -> Batch:
        """Everything random about the pairs of `draw`: colours, noise of keypoints, the part that is decoded."""
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
        if not self.options.motion_only:
            centre = exact[:, 1, self.drawn[int(torch.randint(len(self.drawn), ()))], :2]
            elsewhere = torch.rand(len(centre), 1, device=centre.device) < 0.25
            anywhere = torch.empty_like(centre).uniform_(-1, 1)
            centre = torch.where(elsewhere, anywhere, centre + 0.15 * torch.randn_like(centre))
            size = self.options.crop_cells
            batch["corners"] = ((centre.flip(-1) + 1) / 2 * CELLS - size / 2).long().clamp(0, CELLS - size)
        return batch

    def forward(self, batch: Batch) -> Losses:
        return self.motion(batch) if self.options.motion_only else self.picture(batch)

    def eyes(self, pictures: Tensor, batch: Batch) -> Losses:
        """Of the whole pictures around the eyes, if they are drawn."""
        if self.model.eye_decoder is None:
            return {}
        points = batch["keypoints"][:, 1, list(self.model.config.eyes)]
        weight = feature_weight(points, pictures.shape[-1], reach=0.05, gain=1.0) - 1
        weight = weight / weight.mean()
        error = (pictures - batch["driving"]).abs() * weight
        edges = (difference(pictures) - difference(batch["driving"])).abs() * weight[..., 1:, 1:]
        return {"eyes": 6 * error.mean(), "eyes_gradient": 6 * edges.mean()}

    def flow(self, displacement: Tensor, batch: Batch) -> Tensor:
        keypoints, landmarks = (
            flow_loss(displacement, batch[points][:, 0], batch[points][:, 1], batch[f"{points}_visible"])
            for points in ("keypoints", "landmarks")
        )
        return keypoints + landmarks

    def motion(self, batch: Batch) -> Losses:
        source = batch["source"]
        field = self.model.move(source, batch["source_keypoints"], batch["driving_keypoints"])
        assert field.displacement is not None  # the extension, which this stage is for, always has it
        small = partial(F.avg_pool2d, kernel_size=2)
        warped = warp_picture(small(source), field.displacement)
        weight = feature_weight(batch["keypoints"][:, 1, self.fine], warped.shape[-1], gain=3.0)
        error = (warped - small(batch["driving"])).abs() * weight
        return {
            "warp": 8 * error.clamp(max=1).mean(),
            "flow": 4 * self.flow(field.displacement, batch),
        }

    def picture(self, batch: Batch) -> Losses:
        driving = batch["driving"]
        crop = Crop(batch["corners"], self.options.crop_cells, self.options.crop_cells)
        encoded, moved = self.model.encode(batch["source"]), batch["driving_keypoints"][:, None]
        out = self.model.render(encoded, batch["source_keypoints"], moved, crop=crop)
        assert out.synthesised is not None  # as where a crop is asked for
        target = crop.cut(driving, driving.shape[-1] // CELLS)
        weight = feature_weight(batch["keypoints"][:, 1, self.fine], driving.shape[-1], gain=4.0)
        weight = crop.cut(weight, driving.shape[-1] // CELLS)
        frames, warped, synthesised = (t[:, 0] for t in (out.frames, out.warped_picture, out.synthesised))
        with torch.no_grad():
            warp_error = F.avg_pool2d((warped - target).abs().mean(1, True), 5, 1, 2)
        # nothing else that is drawn is seen; openings are small, so their pixels count for more
        lips = batch["keypoints"][:, 1, self.drawn, :2]
        opening = crop.cut(polygon_coverage(lips, driving.shape[-1]), driving.shape[-1] // CELLS)
        mouths, found = opening.sum().clamp_min(OPEN), (frames - target).abs()
        edges = (difference(frames) - difference(target)).abs() * opening[..., 1:, 1:]
        return {
            "picture": 8 * (found * weight).mean(),
            "gradient": 4 * gradient_l1(frames, target),
            "synthesised": 3 * ((synthesised - target).abs() * weight * (0.5 + 15 * warp_error)).mean(),
            "warp": 2 * ((warped - target).abs() * weight).clamp(max=1).mean(),
            "flow": 2 * self.flow(out.displacement[:, 0], batch),
            "mouth": 4 * (found * opening).sum() / mouths,
            **self.eyes(out.eyes_picture[:, 0], batch),
            "mouth_gradient": 4 * edges.sum() / mouths,
        }


def difference(pictures: Tensor) -> Tensor:
    """Horizontal and vertical differences (N, 6, H - 1, W - 1) of pictures (N, 3, H, W)."""
    across = pictures[..., 1:, 1:] - pictures[..., 1:, :-1]
    down = pictures[..., 1:, 1:] - pictures[..., :-1, 1:]
    return torch.cat([across, down], 1)


@torch.no_grad()
def evaluate(model: DetailRenderer, bank: FrameBank, pairs: int = 96) -> dict[str, float]:
    """PSNR on held-out heads with exact keypoints: of the frame, around the mouth, of the warp alone, of the source."""
    rng = np.random.default_rng(0)
    names = bank.keypoint_names
    lips = [n for n, name in enumerate(names) if "lip" in name or "mouth" in name]
    scores: dict[str, list[Tensor]] = {"psnr": [], "psnr_mouth": [], "psnr_warp": [], "psnr_source": []}

    for _ in range(pairs // 8):
        batch = send_to_device(draw(bank, rng, 8, calm_share=1.0), model.device)
        source, driving = batch["pictures"].unbind(1)
        source_keypoints, driving_keypoints = batch["keypoints"].unbind(1)
        out = model(source, source_keypoints, driving_keypoints[:, None])
        mouth = (feature_weight(driving_keypoints[:, lips], 256, reach=0.05, gain=1.0) > 1.3).float()
        scores["psnr"].append(psnr(out.frames[:, 0], driving))
        scores["psnr_mouth"].append(psnr(out.frames[:, 0], driving, mouth))
        scores["psnr_warp"].append(psnr(out.warped_picture[:, 0], driving))
        scores["psnr_source"].append(psnr(source, driving))
    return {name: torch.cat(values).mean().item() for name, values in scores.items()}


@torch.no_grad()
def show(model: DetailRenderer, bank: FrameBank, pairs: int = 4) -> dict[str, np.ndarray]:
    """A picture: held-out pairs from top to bottom; source, driving, its rendering, the warped source side by side."""
    batch = send_to_device(draw(bank, np.random.default_rng(0), pairs, calm_share=1.0), model.device)
    source, driving = batch["pictures"].unbind(1)
    source_keypoints, driving_keypoints = batch["keypoints"].unbind(1)
    out = model(source, source_keypoints, driving_keypoints[:, None])
    return {"pairs": picture_grid(source, driving, out.frames[:, 0], out.warped_picture[:, 0])}


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
    if model.mouth_guide is not None and not options.initial:
        if "arches" not in bank.labels:
            raise UserError(f"{options.corpus} does not say where the teeth are; a renderer with teeth needs it.")
        index = np.linspace(0, len(bank.identity) - 1, min(FITTED, len(bank.identity))).astype(int)
        model.mouth_guide.fit(*(torch.from_numpy(bank.labels[name][index]) for name in ("keypoints", "arches")))
    model.to(memory_format=torch.channels_last)
    for parameter in model.volume_eam.parameters():
        parameter.requires_grad_(False)  # emotional adaptation comes in stage 2
    if options.motion_only:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("dense_motion."))
    task = RendererTask(model, options, names)
    train(
        task,
        lambda rng, count: task.augment(draw(bank, rng, count, options.calm_share)),
        options,
        {"repos_net": model},
        lambda: evaluate(model, held_out),
        lambda: show(model, held_out),
    )


if __name__ == "__main__":
    run_script(main)
