"""Stage 1a, second half: RePos-Net on pairs of frames of one person.

    accelerate launch -m training.train_renderer --corpus CORPUS --output_dir runs/motion --motion_only true
    accelerate launch -m training.train_renderer --corpus CORPUS --output_dir runs/renderer \\
        --initial runs/motion/repos_net

First the motion alone, which is cheap: the warped source picture must look like the driving picture and the flow must
carry every landmark. Then the whole renderer, on parts of pictures around the face. Keypoints are the exact ones with
the noise that estimated ones would have.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eat_hf import RePosNet
from eat_hf.models.repos_net import Crop, warp_picture

from .augment import jitter_colour
from .data import FrameBank
from .loop import Batch, LoopOptions, Losses, train
from .losses import feature_weight, gradient_l1
from .options import parse_options

OCCLUDED = ("jaw", "temple", "chin", "forehead")  # the outline slides over the surface as the head turns
CELLS = 64  # of the feature map across the frame


@dataclass
class RendererOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    initial: str = field(default="", metadata={"help": "A repos_net folder to start from."})
    motion_only: bool = field(default=False, metadata={"help": "Train the motion network alone."})
    shared_noise: float = field(default=0.015, metadata={"help": "Keypoint noise that source and driving share."})
    own_noise: float = field(default=0.005, metadata={"help": "Keypoint noise of each by itself."})
    crop_cells: int = field(default=32, metadata={"help": "Side of the part that is decoded, in 64ths of the frame."})


def draw(bank: FrameBank, rng: np.random.Generator, count: int, calm_share: float = 0.6) -> Batch:
    source, driving = bank.draw_pairs(rng, count, calm_share)
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
    return (keypoints + shared + own).unbind(1)


def flow_loss(displacement: Tensor, source: Tensor, driving: Tensor, visible: Tensor) -> Tensor:
    """Every driving point (N, P, 3) must be fetched from where the source has it; points off the frame do not count."""
    where = driving[:, None, :, :2]
    flow = F.grid_sample(displacement, where, align_corners=False)[:, :, 0].mT
    inside = (driving[..., :2].abs().amax(-1) < 0.97) & visible
    error = (flow - (source - driving)[..., :2]).abs().sum(-1)
    return (error * inside).sum() / inside.sum().clamp_min(1)


class RendererLosses:
    """Losses of both halves; called with the model, a batch and the step."""

    def __init__(self, options: RendererOptions, names: list[str]):
        self.options = options
        self.face = [n for n, name in enumerate(names) if any(part in name for part in ("lip", "mouth", "lid", "brow"))]
        self.fine = [n for n, name in enumerate(names) if any(part in name for part in ("lip", "mouth", "lid"))]
        self.visible = torch.tensor([not any(part in name for part in OCCLUDED) for name in names])
        self.landmarks_visible = torch.arange(68) >= 17

    def __call__(self, model: RePosNet, batch: Batch, step: int) -> Losses:
        exact = batch["keypoints"]
        # one jitter for both pictures of a pair: the two halves of one tall picture
        source, driving = jitter_colour(torch.cat(batch["pictures"].unbind(1), 2)).chunk(2, 2)
        source_keypoints, driving_keypoints = noisy(exact, self.options)
        source = source.contiguous(memory_format=torch.channels_last)
        if self.options.motion_only:
            return self.motion(model, source, driving, source_keypoints, driving_keypoints, batch)
        return self.picture(model, source, driving, source_keypoints, driving_keypoints, batch)

    def flow(self, displacement: Tensor, batch: Batch) -> Tensor:
        keypoints = flow_loss(displacement, *batch["keypoints"].unbind(1), self.visible)
        landmarks = flow_loss(displacement, *batch["landmarks"].unbind(1), self.landmarks_visible)
        return keypoints + landmarks

    def motion(self, model, source, driving, source_keypoints, driving_keypoints, batch) -> Losses:
        model = getattr(model, "module", model)
        field = model.move(source, source_keypoints, driving_keypoints)
        small = partial(F.avg_pool2d, kernel_size=2)
        warped = warp_picture(small(source), field.displacement)
        weight = feature_weight(batch["keypoints"][:, 1, self.face], warped.shape[-1], gain=3.0)
        error = (warped - small(driving)).abs() * weight
        return {
            "warp": 8 * error.clamp(max=1).mean(),
            "flow": 4 * self.flow(field.displacement, batch),
        }

    def picture(self, model, source, driving, source_keypoints, driving_keypoints, batch) -> Losses:
        model = getattr(model, "module", model)
        centre = batch["keypoints"][:, 1, self.fine][:, torch.randint(len(self.fine), (1,)), :2].squeeze(1)
        elsewhere = torch.rand(len(centre), 1) < 0.25
        centre = torch.where(
            elsewhere, torch.empty_like(centre).uniform_(-1, 1), centre + 0.15 * torch.randn_like(centre)
        )
        size = self.options.crop_cells
        corners = ((centre.flip(-1) + 1) / 2 * CELLS - size / 2).long().clamp(0, CELLS - size)
        crop = Crop(corners, size)
        out = model.render(model.encode(source), source_keypoints, driving_keypoints[:, None], crop=crop)
        target = crop.cut(driving, driving.shape[-1] // CELLS)
        weight = feature_weight(batch["keypoints"][:, 1, self.fine], driving.shape[-1], gain=4.0)
        weight = crop.cut(weight, driving.shape[-1] // CELLS)
        frames, warped, synthesised, logits = (
            tensor[:, 0] for tensor in (out.frames, out.warped_picture, out.synthesised, out.mask_logits)
        )
        # the mask learns which of the two pictures is closer to the truth, wherever they differ enough to tell
        with torch.no_grad():
            warp_error = F.avg_pool2d((warped - target).abs().mean(1, True), 5, 1, 2)
            own_error = F.avg_pool2d((synthesised - target).abs().mean(1, True), 5, 1, 2)
            copy = torch.sigmoid(80 * (own_error - warp_error + 0.012))
            certainty = (10 * (own_error - warp_error).abs()).clamp(max=2) * weight
        mask = F.binary_cross_entropy_with_logits(logits, copy, reduction="none")
        return {
            "picture": 8 * ((frames - target).abs() * weight).mean(),
            "gradient": 4 * gradient_l1(frames, target),
            "synthesised": 3 * ((synthesised - target).abs() * weight * (0.5 + 15 * warp_error)).mean(),
            "warp": 2 * ((warped - target).abs() * weight).clamp(max=1).mean(),
            "mask": 0.3 * (mask * certainty).mean(),
            "flow": 2 * self.flow(out.displacement[:, 0], batch),
        }


@torch.no_grad()
def evaluate(model: RePosNet, bank: FrameBank, pairs: int = 96) -> dict[str, float]:
    """PSNR on held-out heads with exact keypoints: of the frame, around the mouth, of the warp alone, of the source."""
    rng = np.random.default_rng(0)
    names = bank.keypoint_names
    lips = [n for n, name in enumerate(names) if "lip" in name or "mouth" in name]
    scores: dict[str, list[Tensor]] = {"psnr": [], "psnr_mouth": [], "psnr_warp": [], "psnr_source": []}

    def psnr(a: Tensor, b: Tensor, where: Tensor | None = None) -> Tensor:
        error = (a - b).square().mean(1, True)
        where = torch.ones_like(error) if where is None else where
        return -10 * torch.log10((error * where).sum((1, 2, 3)) / where.sum((1, 2, 3)) + 1e-9)

    for _ in range(pairs // 8):
        batch = draw(bank, rng, 8, calm_share=1.0)
        source, driving = batch["pictures"].unbind(1)
        source_keypoints, driving_keypoints = batch["keypoints"].unbind(1)
        out = model(source, source_keypoints, driving_keypoints[:, None])
        mouth = (feature_weight(driving_keypoints[:, lips], 256, reach=0.05, gain=1.0) > 1.3).float()
        scores["psnr"].append(psnr(out.frames[:, 0], driving))
        scores["psnr_mouth"].append(psnr(out.frames[:, 0], driving, mouth))
        scores["psnr_warp"].append(psnr(out.warped_picture[:, 0], driving))
        scores["psnr_source"].append(psnr(source, driving))
    return {name: torch.cat(values).mean().item() for name, values in scores.items()}


def main() -> None:
    options, recipe = parse_options(RendererOptions, "renderer")
    bank = FrameBank.load(options.corpus, "train")
    held_out = FrameBank.load(options.corpus, "validation")
    torch.manual_seed(options.seed)
    names = bank.keypoint_names
    indices = {
        name: [names.index(keypoint) for keypoint in getattr(recipe, name)]
        for name in ("rigid_keypoints", "inner_mouth")
    }
    if options.initial:
        model = RePosNet.from_pretrained(options.initial)
    else:
        model = RePosNet(**recipe.components["repos_net"], **indices)
    model.to(memory_format=torch.channels_last)
    for parameter in model.volume_eam.parameters():
        parameter.requires_grad_(False)  # emotional adaptation comes in stage 2
    if options.motion_only:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("dense_motion."))
    results = train(
        model,
        lambda rng, count: draw(bank, rng, count),
        RendererLosses(options, names),
        options,
        lambda network: evaluate(network, held_out),
    )
    print(json.dumps(results, indent=2))
    model.save_pretrained(Path(options.output_dir) / "repos_net")


if __name__ == "__main__":
    main()
