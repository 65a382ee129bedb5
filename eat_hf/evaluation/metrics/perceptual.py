"""How alike two videos look to a network trained on photographs, as the paper's perceptual loss measures it."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...models.layers import antialias_downscale
from .image_quality import check_pair

BATCH = 4  # frames at once; the first layer takes 16 MB for a frame of 256
SCALES = (1, 2, 4, 8)  # the picture's sides are divided by them
SMALLEST = 16  # pixels; the fifth layer sees a sixteenth of them


class LayeredNetwork(Protocol):
    """What `load_backbone` loads for this purpose."""

    @property
    def device(self) -> str:
        """Where it computes."""

    def layers(self, pictures: Tensor) -> list[Tensor]:
        """Activations, each (T, C, h, w), of pictures (T, 3, H, W) RGB in [0, 1]."""


@torch.inference_mode()
def perceptual_distance(a: np.ndarray, b: np.ndarray, backbone: LayeredNetwork) -> np.ndarray:
    """Mean absolute difference of activations, summed over five layers and four scales: (T,), 0 where identical.

    The scales are 1, 1/2, 1/4 and 1/8, blurred against aliasing; those at which a side falls below 16 pixels are left
    out. Numbers of different backbones, or of pictures of different sizes, cannot be compared.

    Args:
        a: (T, H, W, 3) uint8 RGB.
        b: the same shape.
        backbone: one that has layers. It takes seconds a frame on a processor, so choose frames.

    Raises:
        UserError: the videos differ in length or size, or the backbone has no layers.
    """
    check_pair(a, b)
    scales = [scale for scale in SCALES if scale == 1 or min(a.shape[1:3]) >= scale * SMALLEST]
    totals = [np.zeros(0)]
    for start in range(0, len(a), BATCH):
        pair = [_pictures(frames[start : start + BATCH], backbone.device) for frames in (a, b)]
        total = torch.zeros(len(pair[0]), dtype=torch.float64)
        for scale in scales:
            layers = (backbone.layers(_shrunk(pictures, scale)) for pictures in pair)
            for x, y in zip(*layers, strict=True):
                total += (x - y).abs().flatten(1).mean(1).double().cpu()
        totals.append(total.numpy())
    return np.concatenate(totals)


def _pictures(frames: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()).to(device).float() / 255


def _shrunk(pictures: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return pictures
    sigma = (factor - 1) / 2
    return antialias_downscale(pictures, factor, 2 * round(4 * sigma) + 1, sigma)
