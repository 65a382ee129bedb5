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
LIP, SKIN = 0.15, 0.3  # how thick a lip is at least, and what gives way behind it
BESIDE = 0.25  # beyond a corner of the mouth
FARTHEST = 0.15  # of the picture in [-1, 1], that is added at most


def lip_motion(
    plane: PatchPlane, inner: Tensor, outer: Tensor, missing: Tensor, outer_missing: Tensor, height: int, width: int
) -> Tensor:
    """What to add to where the pixels of patches around N mouths come from.

    Args:
        plane: where the patches lie.
        inner, outer: (N, P, 2) keypoints around the opening, and around the lips, clockwise from the left corner of the
            mouth, which both share; as many are on the upper lip as on the lower one.
        missing, outer_missing: (N, P, 2) how much farther each comes from than the field of motion says.

    Returns:
        (N, 2, height, width) x and y of the portrait, 0 at the patches' borders.
    """
    grid = pixel_grid(height, width, like=inner)
    along, down = grid[0, :, 0], grid[:, 0, 1]
    back = torch.linalg.inv(plane.axes)
    places, outer_places = ((points - plane.centre[:, None]) @ back for points in (inner, outer))
    missing, outer_missing = (values.clamp(-FARTHEST, FARTHEST) for values in (missing, outer_missing))
    count, half = inner.shape[1], inner.shape[1] // 2
    upper_lip, lower_lip = list(range(half + 1)), [0, *range(count - 1, half - 1, -1)]

    def edges(lip: list[int]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        inside = _between(places[:, lip], missing[:, lip], along)
        return inside, _between(outer_places[:, lip], outer_missing[:, lip], along)

    (upper, upper_missing), (upper_border, upper_border_missing) = edges(upper_lip)
    (lower, lower_missing), (lower_border, lower_border_missing) = edges(lower_lip)
    # lips that are pressed into one another meet half way
    parted, middle = lower > upper, (lower + upper) / 2
    upper, lower = torch.where(parted, upper, middle), torch.where(parted, lower, middle)
    above, below = (
        upper[:, None] - down[:, None],
        down[:, None] - lower[:, None],
    )  # (N, height, width)
    share = (-above / (-above - below).clamp_min(1e-4)).clamp(0, 1)  # 0 at the upper lip, 1 at the lower one
    added = upper_missing[:, :, None] + share[:, None] * (lower_missing - upper_missing)[:, :, None]
    weight = torch.ones_like(share)
    for beyond, thickness, border_missing, edge_missing in (
        (above, upper - upper_border, upper_border_missing, upper_missing),
        (below, lower_border - lower, lower_border_missing, lower_missing),
    ):
        thickness = thickness.clamp_min(LIP)[:, None]
        within = (beyond / thickness).clamp(0, 1)
        added = added + within[:, None] * (border_missing - edge_missing)[:, :, None]
        weight = weight * smoothstep((1 - (beyond - thickness) / SKIN).clamp(0, 1))
    left, right = places[:, 0, :1], places[:, half, :1]
    beside = (left - along).clamp_min(0) + (along - right).clamp_min(0)
    weight = weight * smoothstep((1 - beside / BESIDE).clamp(0, 1))[:, None]
    weight = weight * ((1 - down.abs()) / BESIDE).clamp(0, 1)[:, None]
    return added * weight[:, None]


def _between(points: Tensor, values: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """A line through points (N, m, 2) from left to right, at places along it (w,): how far down it is, (N, w), and
    values (N, m, 2) of the points, (N, 2, w)."""
    x = points[..., :1]
    share = ((along - x[:, :-1]) / x.diff(dim=1).clamp_min(1e-3)).clamp(0, 1)  # (N, m - 1, w)
    known = torch.cat([points[..., 1:], values], -1)
    line = known[:, 0, :, None] + known.diff(dim=1).mT @ share
    return line[:, 0], line[:, 1:]
