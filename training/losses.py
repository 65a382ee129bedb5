"""Losses on pictures that several stages share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from eat_hf.models.dense_motion import pixel_grid, squared_distances


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
