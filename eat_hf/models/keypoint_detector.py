"""Canonical keypoint detector (paper section 3.1; face-vid2vid's unsupervised 3D keypoints)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..inputs.landmarks import LandmarkReader
from ..keypoints import KeypointSpace
from .layers import ConvNormReLU, antialias_downscale, coordinate_grid


@dataclass
class KeypointDetectorOutput(BaseOutput):
    """Attributes:
    keypoints: (B, K, 3) in [-1, 1], order (x, y, z).
    prediction_map: (B, K, D, H, W) scores before the softmax; A2ET reads the face from it.
    """

    keypoints: Tensor
    prediction_map: Tensor


def expected_keypoints(prediction_map: Tensor, temperature: float) -> Tensor:
    """Expectations (B, K, 3) in [-1, 1] of heat maps (B, K, D, H, W), the softmax of scores over a temperature."""
    heat = torch.softmax(prediction_map.flatten(2) / temperature, 2)
    return heat @ coordinate_grid(*prediction_map.shape[2:], like=heat).flatten(0, 2)


def check_settings(
    keypoint_space: str, template_landmarks: Sequence[Sequence[float]] | None, landmark_reader: str
) -> None:
    """Raise a ValueError for a space or reader that there is not, or what is not 68 points."""
    if keypoint_space not in get_args(KeypointSpace):
        raise ValueError(f"keypoint_space must be canonical or posed, not {keypoint_space!r}.")
    if landmark_reader not in get_args(LandmarkReader):
        raise ValueError(f"landmark_reader must be network or dlib, not {landmark_reader!r}.")
    if template_landmarks is not None and np.shape(template_landmarks) != (68, 2):
        raise ValueError(f"template_landmarks must be 68 pairs, not of shape {np.shape(template_landmarks)}.")


class CanonicalKeypointDetector(ModelMixin, ConfigMixin):
    """Picture -> K keypoints as expectations of a 3D heat map.

    The defaults are the official network: a 2D encoder, a 3D decoder, and keypoints that are canonical (frontal and
    neutral whatever the picture shows).

    Args:
        keypoints: K.
        depth: depth D of the heat map.
        down_channels, up_channels: widths of the encoder and of the decoder; each level halves or doubles the size.
        downscale: the picture is blurred and reduced by this factor first.
        blur_size, blur_sigma: that anti-alias filter, in pixels.
        temperature: of the softmax over the heat map.
        keypoint_space: what it returns: "canonical" keypoints, as published, or "posed" ones, as seen in the picture.
        template_landmarks: 68 pairs of pixels that portraits were aligned to; None is `faces.DEFAULT_TEMPLATE`.
        landmark_reader: by whose landmarks, the project's own "network"'s or "dlib"'s, as published.
    """

    _no_split_modules = ["ConvNormReLU"]

    @register_to_config
    def __init__(
        self,
        keypoints: int = 15,
        depth: int = 16,
        down_channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        up_channels: tuple[int, ...] = (512, 256, 128, 64, 32),
        downscale: int = 4,
        blur_size: int = 13,
        blur_sigma: float = 1.5,
        temperature: float = 0.1,
        keypoint_space: KeypointSpace = "canonical",
        template_landmarks: Sequence[Sequence[float]] | None = None,
        landmark_reader: LandmarkReader = "dlib",
    ):
        super().__init__()
        check_settings(keypoint_space, template_landmarks, landmark_reader)
        self.downs = nn.ModuleList(ConvNormReLU(i, o) for i, o in zip((3, *down_channels), down_channels, strict=False))
        self.to_volume = nn.Conv2d(down_channels[-1], down_channels[-1] * depth, 1)
        self.ups = nn.ModuleList(
            ConvNormReLU(i, o, dims=3) for i, o in zip((down_channels[-1], *up_channels), up_channels, strict=False)
        )
        self.head = nn.Conv3d(up_channels[-1], keypoints, 3, padding=1)

    def forward(self, pixel_values: Tensor) -> KeypointDetectorOutput:
        """pixel_values (B, 3, 256, 256) in [0, 1]."""
        c = self.config
        x = antialias_downscale(pixel_values, c.downscale, c.blur_size, c.blur_sigma)
        for block in self.downs:
            x = F.avg_pool2d(block(x), 2)
        x = self.to_volume(x).unflatten(1, (-1, c.depth))
        for block in self.ups:
            x = block(F.interpolate(x, scale_factor=(1, 2, 2)))
        prediction_map = self.head(x)
        return KeypointDetectorOutput(expected_keypoints(prediction_map, c.temperature), prediction_map)
