"""The sync loss (paper section 3.1, Eq. 7): generated lips must fit the sound, in the eyes of a frozen expert."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat_hf import SyncExpert

from .face_bank import EXPERT_SIZE
from .train_sync import WINDOW, lower_half

GREY = 110 / 255  # beyond the frame, as in the pictures that the expert learnt from
SMALLEST_COSINE = 1e-6


def crop_faces(frames: Tensor, squares: Tensor, size: int = EXPERT_SIZE) -> Tensor:
    """Cut squares out of frames, differentiably in the frames.

    A square is read at twice the size and averaged, so that fine detail does not alias.

    Args:
        frames: (N, C, H, W).
        squares: (N, 3) centre (x, y) and half a side, in units where a frame spans [-1, 1].

    Returns:
        (N, C, size, size) float32.
    """
    x, y, half = squares.float().unbind(1)
    zero = torch.zeros_like(half)
    theta = torch.stack([torch.stack([half, zero, x], 1), torch.stack([zero, half, y], 1)], 1)
    grid = F.affine_grid(theta, [*frames.shape[:2], 2 * size, 2 * size], align_corners=False)
    return F.avg_pool2d(F.grid_sample(frames.float() - GREY, grid, align_corners=False), 2) + GREY


class SyncLoss(nn.Module):
    """-log of the cosine between what the expert sees and what it hears, for every five frames of a clip (Eq. 7).

    Args:
        expert: is frozen, and stays in evaluation mode.
    """

    def __init__(self, expert: SyncExpert):
        super().__init__()
        self.expert = expert.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SyncLoss":
        """The expert's batch-norm statistics stay as they are."""
        return super().train(False)

    def forward(self, faces: Tensor, mel: Tensor) -> Tensor:
        """Mean over samples and windows of five frames.

        Args:
            faces: (N, T, 3, 96, 96) in [0, 1], from `crop_faces`; T is at least 5.
            mel: (N, T - 4, 1, 80, 16), what is heard from each frame on (`train_sync.mel_window`).
        """
        windows = faces.unfold(1, WINDOW, 1).movedim(-1, 2).flatten(0, 1)  # (N * (T - 4), 5, 3, 96, 96)
        out = self.expert(mel.flatten(0, 1), lower_half(windows))
        # embeddings of ReLUs: the cosine is never negative
        cosine = (out.audio.float() * out.face.float()).sum(1)
        return -cosine.clamp_min(SMALLEST_COSINE).log().mean()
