"""Keypoints must move with the picture: random smooth warps, as in the First Order Motion Model (section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from eat_hf.models.layers import coordinate_grid, pixel_grid

from ..loop.options import Batch


class Warp:
    """An affine map and a thin-plate spline, of N pictures: x -> A (x, 1) + sum of bends r^2 ln r over control points.

    Args:
        affine: (N, 2, 3).
        bend: (N, P * P, 2), how strongly each point of a P x P grid over the picture bends the plane around it.
    """

    def __init__(self, affine: Tensor, bend: Tensor):
        self.affine, self.bend = affine, bend
        side = round(bend.shape[1] ** 0.5)
        self.control = coordinate_grid(side, side, like=bend).flatten(0, 1)

    @classmethod
    def draw(cls, count: int, affine_scale: float = 0.05, bend_scale: float = 0.005, points: int = 5) -> "Warp":
        """Random warps around the identity; the numbers are standard deviations, as published."""
        affine = torch.eye(2, 3) + affine_scale * torch.randn(count, 2, 3)
        return cls(affine, bend_scale * torch.randn(count, points**2, 2))

    def points(self, points: Tensor) -> Tensor:
        """Where points (N or 1, P, 2) in [-1, 1] of warped pictures lie in the pictures: (N, P, 2)."""
        # element by element: matrix products of mixed precision would round places by half a pixel
        moved = (self.affine[:, None, :, :2] * points[:, :, None]).sum(-1) + self.affine[:, None, :, 2]
        squared = (points[:, :, None] - self.control).square().sum(-1)
        return moved + (0.5 * squared * (squared + 1e-12).log()) @ self.bend

    def pictures(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W) -> same: each pixel is fetched from where `points` says, off the frame from the mirror image."""
        height, width = pictures.shape[2:]
        where = self.points(pixel_grid(height, width, like=pictures).flatten(0, 1)[None])
        where = where.unflatten(1, (height, width))
        return F.grid_sample(pictures, where, padding_mode="reflection", align_corners=False)

    def batch(self) -> Batch:
        """For a batch, from which `Warp(batch["affine"], batch["bend"])` comes back."""
        return {"affine": self.affine, "bend": self.bend}


def equivariance_loss(keypoints: Tensor, warped_keypoints: Tensor, warp: Warp) -> Tensor:
    """L1 between keypoints of pictures and those of the warped pictures, brought back, in the picture's plane.

    keypoints, warped_keypoints: (N, K, 3) -> scalar.
    """
    return (keypoints[..., :2] - warp.points(warped_keypoints[..., :2])).abs().mean()
