"""Predicted expressions as pictures: rendered by RePos-Net, compared with real frames (paper sections 3.1 and 3.2).

Stage 1b-ii and stage 2 add these terms to those on latents: perceptual, L1 inside the face box, and synchrony with the
sound. A clip without pictures, as most of the synthetic corpus are, has its latent terms alone.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat_hf import SyncExpert
from eat_hf.animation.reenactment import Reenactment
from eat_hf.errors import UserError
from eat_hf.keypoints import compose_keypoints, head_rotation
from eat_hf.models.components import load_component
from eat_hf.models.judges.sync_loss import WINDOW, SyncLoss, crop_faces

from ..loop.command_line import Recipe, latent_folder
from ..loop.options import Batch, Losses, PictureOptions
from .perceptual import PerceptualLoss


class PictureTerms(nn.Module):
    """Renders predicted expressions and compares the frames with the real ones.

    Everything in it is frozen; `networks.repos_net.volume_eam` may be set free. It stays in evaluation mode.

    Args:
        networks: of stage 1a.
        perceptual, sync: None without that term.
        face_weight, sync_weight: of the terms; `perceptual` has its own.
    """

    def __init__(
        self,
        networks: Reenactment,
        perceptual: PerceptualLoss | None = None,
        sync: SyncLoss | None = None,
        face_weight: float = 0.0,
        sync_weight: float = 0.0,
    ):
        super().__init__()
        self.networks = networks.requires_grad_(False).eval()
        self.perceptual, self.sync = perceptual, sync
        self.face_weight, self.sync_weight = face_weight, sync_weight

    def train(self, mode: bool = True) -> "PictureTerms":
        """Batch-norm statistics stay as they are at inference."""
        return super().train(False)

    def render(self, batch: Batch, expression: Tensor, guidance: Tensor | None = None) -> Tensor:
        """Frames (B, F, 3, 256, 256) of the portraits `source`, in the clips' own head poses.

        Args:
            expression: E' (B, F, 3K), in units of V ** p.
            guidance: e (B, width), None before emotional adaptation.
        """
        source = batch["source"].float() / 255
        with torch.no_grad():
            _, source_keypoints = self.networks.source_keypoints(source, self.networks.motion(source))
            features = self.networks.repos_net.encode(source)
        driving = compose_keypoints(
            batch["canonical"][:, None],
            head_rotation(batch["yaw"], batch["pitch"], batch["roll"]),
            batch["translation"],
            expression * batch["scale"][:, None, None],
            self.networks.frame,
        )
        return self.networks.repos_net.render(features, source_keypoints, driving, guidance).frames

    def forward(self, batch: Batch, expression: Tensor, guidance: Tensor | None = None) -> Losses:
        """Weighted losses by name, means over the samples that have pictures; arguments are those of `render`."""
        chosen = batch["has_pictures"] > 0
        names = {"perceptual": self.perceptual, "face": self.face_weight, "sync": self.sync}
        if not chosen.any():
            return {name: expression.new_zeros(()) for name, term in names.items() if term}
        seen = {name: value[chosen] for name, value in batch.items()}
        found = self.render(seen, expression[chosen], None if guidance is None else guidance[chosen])
        count = found.shape[1]
        frames, real = found.flatten(0, 1).float(), seen["real"].flatten(0, 1).float() / 255
        squares = seen["face_squares"].flatten(0, 1)
        losses = {}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(frames, real)
        if self.face_weight or self.sync is not None:
            faces = crop_faces(frames, squares)
            if self.face_weight:
                losses["face"] = self.face_weight * F.l1_loss(faces, crop_faces(real, squares))
            if self.sync is not None:
                losses["sync"] = self.sync_weight * self.sync(faces.unflatten(0, (-1, count)), seen["sync_mel"])
        # those of this process have the same weight, and those without pictures none
        share = batch["picture_weight"].mean()
        return {name: share * loss for name, loss in losses.items()}


def load_picture_terms(options: PictureOptions, runs: Path, recipe: Recipe, frames: int) -> PictureTerms | None:
    """The terms that the options ask for; None if they ask for none.

    Raises:
        UserError: there is no sync expert, too few frames for it, or no perceptual network.
    """
    if not options.compare_pictures():
        return None
    names = "keypoint_detector", "motion_estimator", "repos_net"
    detector, estimator, repos_net = (load_component(latent_folder(runs, name)) for name in names)
    frame = recipe.components["expression_basis"]["expression_frame"]
    networks = Reenactment(detector, estimator, repos_net, frame)
    return make_picture_terms(options, networks, frames)


def make_picture_terms(options: PictureOptions, networks: Reenactment, frames: int) -> PictureTerms:
    """The terms that the options ask for, rendered by some networks.

    Raises:
        UserError: there is no sync expert, too few frames for it, or no perceptual network.
    """
    perceptual = sync = None
    if options.perceptual_weight and options.perceptual_backbone != "none":
        perceptual = PerceptualLoss(options.perceptual_backbone, options.perceptual_weight)
    if options.sync_weight:
        if not (Path(options.sync_expert) / SyncExpert.config_name).is_file():
            raise UserError(
                f"The sync loss needs --sync_expert FOLDER, the folder sync_expert of a run of "
                f"training.judges.train_sync --network expert; {options.sync_expert or 'nothing'!r} was given."
            )
        if frames < WINDOW:
            raise UserError(f"The sync loss looks at {WINDOW} frames, so --frames must be at least that, not {frames}.")
        sync = SyncLoss(SyncExpert.from_pretrained(options.sync_expert))
    return PictureTerms(networks, perceptual, sync, options.face_weight, options.sync_weight)
