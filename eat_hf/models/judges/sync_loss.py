"""The sync loss (paper section 3.1, Eq. 7): generated lips must fit the sound, in the eyes of a frozen expert."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sync_expert import SyncExpert

EXPERT_SIZE = 96
WINDOW = 5  # frames
MEL_ROWS, MEL_RATE = 16, 80
GREY = 110 / 255  # beyond the frame, as in the pictures that the expert learnt from
SMALLEST_COSINE = 1e-6


# What it sees ---------------------------------------------------------------------------------------------------------


def expert_boxes(landmarks: np.ndarray) -> np.ndarray:
    """The face boxes of a clip, from the brows' height down to below the chin, all of one size: landmarks (T, 68, 2) ->
    (T, 4) left, top, right, bottom, in the same units."""
    low, high = landmarks.min(1), landmarks.max(1)
    side = 1.1 * (high - low).max(1).mean()
    centre = (low + high) / 2
    return np.concatenate([centre - side / 2, centre + side / 2], 1)


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


def lower_half(faces: Tensor) -> Tensor:
    """(B, 5, 3, 96, 96) -> (B, 15, 48, 96), frame after frame."""
    return faces[..., faces.shape[-2] // 2 :, :].flatten(1, 2)


# What it hears --------------------------------------------------------------------------------------------------------


def mel_window(sound: np.ndarray, frame: int) -> np.ndarray:
    """What is heard while five frames from `frame` on are seen: `sync_mel` of the clip (rows, 80) -> (16, 80)."""
    start = MEL_RATE * frame // 25
    rows = sound[start : start + MEL_ROWS]
    return np.pad(rows, ((0, MEL_ROWS - len(rows)), (0, 0)), mode="edge")


def mel_input(rows: np.ndarray) -> Tensor:
    """(B, 16, 80) -> (B, 1, 80, 16)."""
    return torch.from_numpy(rows).transpose(1, 2)[:, None]


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
            mel: (N, T - 4, 1, 80, 16), what is heard from each frame on (`mel_window`).
        """
        windows = faces.unfold(1, WINDOW, 1).movedim(-1, 2).flatten(0, 1)  # (N * (T - 4), 5, 3, 96, 96)
        out = self.expert(mel.flatten(0, 1), lower_half(windows))
        # embeddings of ReLUs: the cosine is never negative
        cosine = (out.audio.float() * out.face.float()).sum(1)
        return -cosine.clamp_min(SMALLEST_COSINE).log().mean()
