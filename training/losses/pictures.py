"""Losses on pictures, keypoints and what a discriminator says of pictures."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eat_hf.models.affine_motion import squared_distances
from eat_hf.models.layers import pixel_grid


def gradient_l1(prediction: Tensor, target: Tensor, scales: int = 2) -> Tensor:
    """Mean L1 between horizontal and vertical differences, on a pyramid: (N, C, H, W) each -> scalar."""
    total = prediction.new_zeros(())
    for scale in range(scales):
        if scale:
            prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
        error = prediction - target
        total = total + (error[..., 1:] - error[..., :-1]).abs().mean()
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return total


def feature_weight(keypoints: Tensor, size: int, reach: float = 0.1, gain: float = 5.0) -> Tensor:
    """1 everywhere and up to 1 + gain around the given keypoints: (N, P, 3) -> (N, 1, size, size)."""
    points = pixel_grid(size, size, like=keypoints).flatten(0, 1)
    nearest = squared_distances(points, keypoints[..., :2]).amin(-1)
    return (1 + gain * torch.exp(-0.5 * nearest / reach**2)).view(-1, 1, size, size)


def face_region(landmarks: Tensor, size: int = 256, margin: float = 0.1) -> Tensor:
    """1 in the box around the landmarks and a margin (share of its sides), else 0: (N, 68, 2 or 3) ->
    (N, 1, size, size)."""
    low, high = landmarks[..., :2].amin(1), landmarks[..., :2].amax(1)
    reach = margin * (high - low)
    low, high = ((low - reach)[:, None, None], (high + reach)[:, None, None])
    grid = pixel_grid(size, size, like=landmarks)
    return ((grid >= low) & (grid <= high)).all(-1).unsqueeze(1).to(landmarks.dtype)


def keypoint_prior(keypoints: Tensor, distance: float = 0.1, depth: float = 0.33) -> Tensor:
    """face-vid2vid's prior, which keeps keypoints apart and in front of the camera: (N, K, 3) -> scalar.

    Every ordered pair costs what its squared distance lacks of `distance`; the mean of z, what it is off `depth`.
    """
    squared = (keypoints[:, :, None] - keypoints[:, None]).square().sum(-1)
    lacking = (distance - squared).clamp_min(0)
    crowding = lacking.sum((1, 2)) - lacking.diagonal(dim1=1, dim2=2).sum(1)  # no keypoint crowds itself
    return (crowding + (keypoints[..., 2].mean(1) - depth).abs()).mean()


def generator_hinge(fake: list[Tensor]) -> Tensor:
    """-D(fake), for score maps of every scale: mean over samples and places, sum over scales."""
    return -torch.stack([scores.mean() for scores in fake]).sum()


def discriminator_hinge(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """max(0, 1 - D(real)) + max(0, 1 + D(fake)), for score maps of every scale: mean over samples and places, sum over
    scales."""
    return torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]).sum()


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """L1 between a discriminator's activations: mean over each map, sum over maps. No gradient reaches `real`."""
    return torch.stack([(r.detach() - f).abs().mean() for r, f in zip(real, fake, strict=True)]).sum()


def visibility(driving: Tensor, visible: Tensor) -> Tensor:
    """(N, P) weights of driving points (N, P, 3), zero off the frame and where not `visible` (P,), of mean 1."""
    inside = (driving[..., :2].abs().amax(-1) < 0.97) & visible.to(driving.device)
    return inside * (inside.numel() / inside.sum().clamp_min(1))


def flow_loss(displacement: Tensor, source: Tensor, driving: Tensor, weights: Tensor) -> Tensor:
    """Every driving point (N, P, 3) must be fetched from where the source has it; `weights` (N, P) of `visibility`."""
    where = driving[:, None, :, :2]
    flow = F.grid_sample(displacement, where, align_corners=False)[:, :, 0].mT
    error = (flow - (source - driving)[..., :2]).abs().sum(-1)
    return (error * weights).mean()


def psnr(a: Tensor, b: Tensor, where: Tensor | None = None) -> Tensor:
    """dB between pictures (N, 3, H, W) in [0, 1], with weights `where` (N, 1, H, W): (N,)."""
    error = (a - b).square().mean(1, True)
    where = torch.ones_like(error) if where is None else where
    return -10 * torch.log10((error * where).sum((1, 2, 3)) / where.sum((1, 2, 3)) + 1e-9)


def picture_grid(*columns: Tensor) -> np.ndarray:
    """Pictures (N, 3, H, W) in [0, 1] of every column, from top to bottom -> (N * H, columns * W, 3) uint8."""
    sheet = torch.cat(torch.cat(columns, 3).unbind(), 1)
    return sheet.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
