"""Lips part and meet in closed form: each moves with its own keypoints, up to the other one.

A smooth field of motion cannot take two lips apart that touch, nor close a smile: near both, what moves the one and
what moves the other cancel out. What is missing is added here.
"""

import torch
from torch import Tensor

from ..easing import smoothstep
from .layers import pixel_grid
from .patches import PatchPlane

# in halves of the patch's height, and of its width
LIP, SKIN = 0.15, 0.3  # beyond the edge of a lip: what moves with it, and what gives way behind that
BESIDE = 0.25  # beyond a corner of the mouth
FARTHEST = 0.15  # of the picture in [-1, 1], that is added at most


def lip_motion(plane: PatchPlane, corners: Tensor, missing: Tensor, height: int, width: int) -> Tensor:
    """What to add to where the pixels of patches around N mouths come from.

    Args:
        plane: where the patches lie.
        corners: (N, P, 2) keypoints around the opening, clockwise from the left corner of the mouth; as many are on the
            upper lip as on the lower one.
        missing: (N, P, 2) how much farther each comes from than the field of motion says.

    Returns:
        (N, 2, height, width) x and y of the portrait, 0 at the patches' borders.
    """
    grid = pixel_grid(height, width, like=corners)
    along, down = grid[0, :, 0], grid[:, 0, 1]
    places = (corners - plane.centre[:, None]) @ torch.linalg.inv(plane.axes)
    missing = missing.clamp(-FARTHEST, FARTHEST)
    half = corners.shape[1] // 2
    lips = list(range(half + 1)), [0, *range(corners.shape[1] - 1, half - 1, -1)]
    (upper, upper_missing), (lower, lower_missing) = (_between(places[:, lip], missing[:, lip], along) for lip in lips)
    # lips that are pressed into one another meet half way
    parted, middle = lower > upper, (lower + upper) / 2
    upper, lower = torch.where(parted, upper, middle), torch.where(parted, lower, middle)
    below_upper, above_lower = down[:, None] - upper[:, None], lower[:, None] - down[:, None]  # (N, height, width)
    share = (below_upper / (below_upper + above_lower).clamp_min(1e-4)).clamp(0, 1)
    beyond = (-below_upper).clamp_min(0) + (-above_lower).clamp_min(0)
    weight = smoothstep((1 - (beyond - LIP) / SKIN).clamp(0, 1))
    left, right = places[:, 0, :1], places[:, half, :1]
    beside = (left - along).clamp_min(0) + (along - right).clamp_min(0)
    weight = weight * smoothstep((1 - beside / BESIDE).clamp(0, 1))[:, None]
    weight = weight * ((1 - down.abs()) / BESIDE).clamp(0, 1)[:, None]
    added = upper_missing[:, :, None] + share[:, None] * (lower_missing - upper_missing)[:, :, None]
    return added * weight[:, None]


def _between(points: Tensor, values: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """A line through points (N, m, 2) from left to right, at places along it (w,): how far down it is, (N, w), and
    values (N, m, 2) of the points, (N, 2, w)."""
    x = points[..., :1]
    share = ((along - x[:, :-1]) / x.diff(dim=1).clamp_min(1e-3)).clamp(0, 1)  # (N, m - 1, w)
    known = torch.cat([points[..., 1:], values], -1)
    line = known[:, 0, :, None] + known.diff(dim=1).mT @ share
    return line[:, 0], line[:, 1:]
