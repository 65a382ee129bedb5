"""Stage 1a, first half: the latent of the paper's section 3.1, keypoints, head pose and expression of a picture.

    accelerate launch -m training.stage_1a_latent --corpus CORPUS --part detector --output_dir runs/detector
    accelerate launch -m training.stage_1a_latent --corpus CORPUS --part estimator --output_dir runs/estimator

The corpus has exact labels, so the detector and the estimator are taught them directly: no image reconstruction and,
as in the paper's enhancement, no deformation prior that would shrink expressions. On a corpus of real videos
(`training.real.prepare --model`) the labels, and the scores, are those of another pipeline: that is distillation.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from eat_hf import MotionEstimator
from eat_hf.animation.networks import KeypointDetector
from eat_hf.keypoints import degrees_from_logits, logits_from_degrees

from .data.augment import degrade, jitter_colour, transform_similarity
from .data.frames import FrameBank
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, LoopOptions, Losses
from .loop.trainer import main_process_first, train


@dataclass
class LatentOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    part: Literal["both", "detector", "estimator"] = field(default="both", metadata={"help": "What learns."})
    initial: str = field(default="", metadata={"help": "Output folder of an earlier run to start from."})


class LatentNetworks(nn.Module):
    """The detector and the estimator, trained side by side, or one of them alone."""

    def __init__(self, detector: KeypointDetector | None, estimator: MotionEstimator | None):
        super().__init__()
        self.detector, self.estimator = detector, estimator
        if estimator is not None:  # large first errors would kill the units behind them
            for head in (estimator.yaw, estimator.pitch, estimator.roll, estimator.translation, estimator.expression):
                nn.init.normal_(head.weight, std=0.002)
                nn.init.zeros_(head.bias)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(N, 3, 256, 256) -> keypoints (N, K, 3), angles (N, 3) degrees from angle_logits (N, 3, bins), translation
        (N, 3), expression (N, K, 3)."""
        out = {}
        if self.detector is not None:
            out["keypoints"] = self.detector(pixel_values).keypoints
        if self.estimator is not None:
            motion = self.estimator(pixel_values)
            logits = motion.yaw, motion.pitch, motion.roll
            out["angle_logits"] = torch.stack(logits, 1)
            out["angles"] = torch.stack(degrees_from_logits(*logits), -1)
            out["translation"] = motion.translation
            out["expression"] = motion.expression.unflatten(-1, (-1, 3))
        return out


def keypoint_weights(names: list[str]) -> Tensor:
    """(K,) lips and lids count more than the outline, for they carry speech and expression."""
    fine = [2.5 if "lip" in n or "mouth" in n else 2.0 if "lid" in n or "pupil" in n else 1.0 for n in names]
    weights = torch.tensor(fine)
    return weights / weights.mean()


def draw(bank: FrameBank, rng: np.random.Generator, count: int) -> Batch:
    index = rng.integers(len(bank.identity), size=count)
    names = ("keypoints", "canonical", "expression", "translation", "yaw", "pitch", "roll")
    pictures, labels = transform_similarity(bank.pixel_values(index), {name: bank.label(name, index) for name in names})
    pictures = degrade(jitter_colour(pictures)).contiguous(memory_format=torch.channels_last)
    return {"pixel_values": pictures, **labels}


class LatentTask(nn.Module):
    """Losses of the networks against exact labels.

    Args:
        weights: (K,) of the keypoints.
    """

    def __init__(self, networks: LatentNetworks, weights: Tensor):
        super().__init__()
        self.networks = networks
        self.register_buffer("weights", weights[:, None], persistent=False)
        self.register_buffer("axes", torch.tensor([1.0, 1.0, 0.5]), persistent=False)  # depth is seen least

    def forward(self, batch: Batch) -> Losses:
        out = self.networks(batch["pixel_values"])
        losses = {}
        if "keypoints" in out:
            error = (out["keypoints"] - batch["keypoints"]).abs() * self.axes
            losses["keypoints"] = 10 * (error * self.weights).mean()
        if "angles" in out:
            angles = torch.stack([batch[name] for name in ("yaw", "pitch", "roll")], -1)
            losses["head_pose"] = 0.1 * (out["angles"] - angles).abs().mean()
            # the expectation alone starts on a plateau; which bin is right is an easier first lesson
            bins = logits_from_degrees(angles).softmax(-1)
            losses["head_pose_bins"] = 0.3 * F.cross_entropy(out["angle_logits"].flatten(0, 1), bins.flatten(0, 1))
            losses["translation"] = 5 * (out["translation"] - batch["translation"]).abs().mean()
            losses["expression"] = 20 * ((out["expression"] - batch["expression"]).abs() * self.weights).mean()
        return losses


@torch.no_grad()
def evaluate(model: LatentNetworks, bank: FrameBank, limit: int = 640) -> dict[str, float]:
    """Errors on held-out heads, keypoints in pixels of the 256 frame.

    `driven_px` is the gate for the renderer: how far keypoints are off after their mean error over an identity's calm
    frames, which moves source and driving alike, is taken out. `still_px` is the same if expressions are ignored.
    """
    index = np.linspace(0, len(bank.identity) - 1, min(limit, len(bank.identity))).astype(int)
    device = next(model.parameters()).device
    outs = [model(bank.pixel_values(part).to(device)) for part in np.array_split(index, max(1, len(index) // 16))]
    out = {name: torch.cat([o[name] for o in outs]).cpu() for name in outs[0]}
    expression = bank.label("expression", index)
    results = {}
    if "keypoints" in out:
        error = (out["keypoints"] - bank.label("keypoints", index))[..., :2] * 128
        relative = error.clone()
        for identity in np.unique(bank.identity[index]):
            mine = torch.from_numpy(bank.identity[index] == identity)
            calm = mine & torch.from_numpy(bank.calm[index])
            relative[mine] -= error[calm if calm.any() else mine].mean(0)
        mouth = [n for n, name in enumerate(bank.keypoint_names) if "lip" in name or "mouth" in name]
        lids = [n for n, name in enumerate(bank.keypoint_names) if "lid" in name]
        results = {
            "keypoints_px": error.norm(dim=-1).mean().item(),
            "driven_px": relative.norm(dim=-1).mean().item(),
            "driven_mouth_px": relative[:, mouth].norm(dim=-1).mean().item(),
            "driven_lids_px": relative[:, lids].norm(dim=-1).mean().item(),
            "still_mouth_px": expression[:, mouth, :2].mul(128).norm(dim=-1).mean().item(),
        }
    if "angles" in out:
        angles = torch.stack([bank.label(name, index) for name in ("yaw", "pitch", "roll")], -1)
        results |= {
            "expression_px": (out["expression"] - expression)[..., :2].mul(128).norm(dim=-1).mean().item(),
            "expression_if_zero_px": expression[..., :2].mul(128).norm(dim=-1).mean().item(),
            "angles_degrees": (out["angles"] - angles).abs().mean().item(),
            "translation_px": (out["translation"] - bank.label("translation", index)).abs().mean().item() * 128,
        }
    return results


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(LatentOptions, "latent", argv)
    with main_process_first():
        bank = FrameBank.load(options.corpus, "train")
        held_out = FrameBank.load(options.corpus, "validation")
    bank = bank.to(PartialState().device)
    torch.manual_seed(options.seed)
    detector = estimator = None
    if options.part != "estimator":
        detector = recipe.build("keypoint_detector")
    if options.part != "detector":
        estimator = recipe.build("motion_estimator")
    model = LatentNetworks(detector, estimator)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # which its annotations forget
    both = {"keypoint_detector": detector, "motion_estimator": estimator}
    networks = {name: network for name, network in both.items() if network is not None}
    if options.initial:
        for name, network in networks.items():
            network.load_state_dict(type(network).from_pretrained(Path(options.initial) / name).state_dict())
    train(
        LatentTask(model, keypoint_weights(bank.keypoint_names)),
        lambda rng, count: draw(bank, rng, count),
        options,
        networks,
        lambda: evaluate(model, held_out),
    )


if __name__ == "__main__":
    run_script(main)
