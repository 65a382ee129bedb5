"""Stage 1a as published: enhance the latent of the talking head (paper section 3.1, Table 3).

    accelerate launch -m training.stage_1a_enhancement --corpus CORPUS --output_dir runs/enhancement --config official
    accelerate launch -m training.stage_1a_enhancement --corpus CORPUS --output_dir runs/enhancement --initial runs

Keypoint detector, motion estimator and RePos-Net learn together, from scratch or from earlier runs, against a
discriminator. Two frames of one person are all they need, with the head pose that a teacher sees: keypoints and
expressions have no labels, they are whatever the renderer needs to make the driving frame out of the source. Pictures
are compared in the face region alone, and no deformation prior shrinks expressions; both let the latent carry emotion.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from eat_hf.animation.reenactment import Reenactment
from eat_hf.models.components import load_component

from .data.augment import mirror, vary_colour
from .data.frames import FrameBank
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, LoopOptions, Losses
from .loop.trainer import main_process_first, train
from .losses.discriminator import DiscriminatorTask, MultiScaleDiscriminator
from .losses.equivariance import Warp, equivariance_loss
from .losses.perceptual import PerceptualLoss
from .losses.pictures import face_region, feature_matching, generator_hinge, keypoint_prior, picture_grid, psnr


@dataclass
class EnhancementOptions(LoopOptions):
    """Options of this stage. Weights are the published ones."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    initial: str = field(
        default="", metadata={"help": "Folder with runs detector, estimator and renderer to start from; else scratch."}
    )
    perceptual_backbone: str = field(
        default="vgg19", metadata={"help": "Network of the perceptual loss, NAME or NAME=PLACE; none: without it."}
    )
    perceptual_weight: float = field(default=10.0, metadata={"help": "Of each layer at each scale."})
    gan_weight: float = field(default=1.0, metadata={"help": "Of the hinge loss against the discriminator."})
    feature_matching_weight: float = field(default=10.0, metadata={"help": "Of the discriminator's activations."})
    equivariance_weight: float = field(default=10.0, metadata={"help": "Of keypoints that move with the picture."})
    keypoint_weight: float = field(default=10.0, metadata={"help": "Of the prior on distances and depth of keypoints."})
    head_pose_weight: float = field(default=20.0, metadata={"help": "Of the angles, degrees."})
    deformation_weight: float = field(default=0.0, metadata={"help": "Of the deformation prior; face-vid2vid: 5."})
    background_weight: float = field(
        default=0.0, metadata={"help": "Share, 0 to 1, of errors outside the face region that pictures are judged by."}
    )
    evaluation_pairs: int = field(default=96, metadata={"help": "Held-out pairs to measure on."})
    discriminator_channels: tuple[int, ...] = field(
        default=(64, 128, 256, 512), metadata={"help": "Widths of the discriminator."}
    )
    discriminator_scales: tuple[int, ...] = field(
        default=(1,), metadata={"help": "Sizes at which it looks: the picture's sides divided by these."}
    )


def draw_pairs(bank: FrameBank, rng: np.random.Generator, count: int, calm_share: float = 0.6) -> Batch:
    """Source and driving pictures (N, 2, 3, 256, 256), angles (N, 2, 3) degrees and landmarks (N, 2, 68, 3)."""
    pairs = bank.draw_pairs(rng, count, calm_share)
    angles = [torch.stack([bank.label(name, index) for name in ("yaw", "pitch", "roll")], -1) for index in pairs]
    return {
        "pictures": torch.stack([bank.pixel_values(index) for index in pairs], 1),
        "angles": torch.stack(angles, 1),
        "landmarks": torch.stack([bank.label("landmarks", index) for index in pairs], 1),
    }


def draw(bank: FrameBank, rng: np.random.Generator, count: int) -> Batch:
    """Pairs with everything random about them: mirrored or not, colours, the warp of the driving picture."""
    pairs = draw_pairs(bank, rng, count)
    plain = pairs["pictures"], pairs["angles"], pairs["landmarks"]
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    pictures, angles, landmarks = (
        torch.where(mirrored.view(-1, *[1] * (a.dim() - 1)), b, a) for a, b in zip(plain, mirror(*plain), strict=True)
    )
    # one jitter for both pictures of a pair: the two halves of one tall picture
    source, driving = vary_colour(torch.cat(pictures.unbind(1), 2)).chunk(2, 2)
    warp = Warp.draw(count)
    return {
        "source": source,
        "driving": driving,
        "warped": warp.pictures(driving),
        "angles": angles,
        "face": face_region(landmarks[:, 1]),
        **warp.batch(),
    }


class EnhancementTask(nn.Module):
    """Losses of the three networks; gives its adversary real and fake pictures."""

    def __init__(
        self,
        networks: Reenactment,
        discriminator: MultiScaleDiscriminator,
        perceptual: PerceptualLoss | None,
        options: EnhancementOptions,
    ):
        super().__init__()
        self.networks, self.perceptual, self.options = networks, perceptual, options
        self.judge = discriminator.__call__  # a method, lest its parameters become this task's

    def forward(self, batch: Batch) -> tuple[Losses, Batch]:
        options, driving = self.options, batch["driving"]
        frames, canonical, keypoints, motion = self.networks(batch["source"], driving)
        # outside the face region the frame itself: nothing to see there for any of the losses
        fake = driving + batch["face"].clamp_min(options.background_weight) * (frames - driving)
        found = self.judge(fake)
        with torch.no_grad():
            real = self.judge(driving)
        warped = self.networks.keypoints_of_moved(batch["warped"], canonical)
        angles = torch.cat(batch["angles"].unbind(1))  # source first, as motion has them
        losses = {
            "gan": options.gan_weight * generator_hinge(found.scores),
            "feature_matching": options.feature_matching_weight * feature_matching(real.features, found.features),
            "equivariance": options.equivariance_weight
            * equivariance_loss(keypoints, warped, Warp(batch["affine"], batch["bend"])),
            "keypoints": options.keypoint_weight * keypoint_prior(keypoints),
            "head_pose": options.head_pose_weight * (motion.angles - angles).abs().sum(-1).mean(),
            "deformation": options.deformation_weight * motion.expression.abs().sum(-1).mean(),
        }
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(fake, driving)
        return losses, {"real": driving, "fake": fake.detach()}


@torch.no_grad()
def evaluate(networks: Reenactment, bank: FrameBank, pairs: int) -> dict[str, float]:
    """On held-out heads: PSNR of frames and of the face region, of the source alone, too; error of the head pose."""
    rng = np.random.default_rng(0)
    names = ("psnr", "psnr_face", "psnr_source", "psnr_face_source", "angles_degrees")
    scores: dict[str, list[Tensor]] = {name: [] for name in names}
    for start in range(0, pairs, 8):
        batch = send_to_device(draw_pairs(bank, rng, min(8, pairs - start), calm_share=1.0), networks.repos_net.device)
        source, driving = batch["pictures"].unbind(1)
        frames, _, _, motion = networks(source, driving)
        face = face_region(batch["landmarks"][:, 1])
        scores["psnr"].append(psnr(frames, driving))
        scores["psnr_face"].append(psnr(frames, driving, face))
        scores["psnr_source"].append(psnr(source, driving))
        scores["psnr_face_source"].append(psnr(source, driving, face))
        scores["angles_degrees"].append((motion.angles - torch.cat(batch["angles"].unbind(1))).abs().mean(1))
    return {name: torch.cat(values).mean().item() for name, values in scores.items()}


@torch.no_grad()
def show(networks: Reenactment, bank: FrameBank, pairs: int = 4) -> dict[str, np.ndarray]:
    """A picture: held-out pairs from top to bottom; source, driving and its rendering side by side."""
    batch = draw_pairs(bank, np.random.default_rng(0), pairs, calm_share=1.0)
    source, driving = batch["pictures"].to(networks.repos_net.device).unbind(1)
    return {"pairs": picture_grid(source, driving, networks(source, driving)[0])}


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(EnhancementOptions, "enhancement", argv)
    with main_process_first():
        bank = FrameBank.load(options.corpus, "train")
        held_out = FrameBank.load(options.corpus, "validation")
        perceptual = None
        if options.perceptual_backbone != "none":
            perceptual = PerceptualLoss(options.perceptual_backbone, options.perceptual_weight)
    torch.manual_seed(options.seed)
    if options.initial:
        runs = Path(options.initial)
        detector = load_component(runs / "detector/keypoint_detector")
        estimator = load_component(runs / "estimator/motion_estimator")
        repos_net = load_component(runs / "renderer/repos_net")
    else:
        detector = recipe.build("keypoint_detector")
        estimator = recipe.build("motion_estimator")
        repos_net = recipe.build("repos_net", bank.keypoint_names)
    for parameter in repos_net.volume_eam.parameters():
        parameter.requires_grad_(False)  # emotional adaptation comes in stage 2
    frame = recipe.components["expression_basis"]["expression_frame"]
    networks = Reenactment(detector, estimator, repos_net, frame)
    discriminator = MultiScaleDiscriminator(options.discriminator_channels, options.discriminator_scales)
    train(
        EnhancementTask(networks, discriminator, perceptual, options),
        lambda rng, count: draw(bank, rng, count),
        options,
        {"keypoint_detector": detector, "motion_estimator": estimator, "repos_net": repos_net},
        lambda: evaluate(networks, held_out, options.evaluation_pairs),
        lambda: show(networks, held_out),
        DiscriminatorTask(discriminator),
    )


if __name__ == "__main__":
    run_script(main)
