"""Driving keypoints become frames."""

import numpy as np
import torch
from torch import Tensor


def to_uint8(frames: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] -> (N, H, W, 3) uint8."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
