"""The bundled keypoint detector: a 2D U-Net that finds landmarks where the picture shows them.

In place of the published detector (`keypoint_detector`) for keypoints that sit on features of the face.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..inputs.landmarks import LandmarkReader
from ..keypoints import KeypointSpace
from .keypoint_detector import KeypointDetectorOutput, check_settings, expected_keypoints
from .layers import ConvNormReLU, antialias_downscale


class LandmarkDetector(ModelMixin, ConfigMixin):
    """Picture -> K keypoints: x and y as expectations of a heat map, the depth regressed from the innermost features.

    Args:
        keypoints: K.
        down_channels, up_channels: widths of the encoder and of the decoder; each level halves or doubles the size.
        downscale: the picture is blurred and reduced by this factor first.
        blur_size, blur_sigma: that anti-alias filter, in pixels.
        temperature: of the softmax over the heat map.
        keypoint_space: what it returns: "posed" keypoints, as seen in the picture, or "canonical" ones.
        template_landmarks: 68 pairs of pixels that portraits were aligned to; None is `faces.DEFAULT_TEMPLATE`.
        landmark_reader: by whose landmarks, the project's own "network"'s or "dlib"'s.
    """

    _no_split_modules = ["ConvNormReLU"]

    @register_to_config
    def __init__(
        self,
        keypoints: int,
        down_channels: tuple[int, ...] = (24, 48, 80, 128, 160),
        up_channels: tuple[int, ...] = (128, 96, 64, 48),
        downscale: int = 2,
        blur_size: int = 5,
        blur_sigma: float = 0.5,
        temperature: float = 1.0,
        keypoint_space: KeypointSpace = "posed",
        template_landmarks: Sequence[Sequence[float]] | None = None,
        landmark_reader: LandmarkReader = "network",
    ):
        super().__init__()
        check_settings(keypoint_space, template_landmarks, landmark_reader)
        self.downs = nn.ModuleList(ConvNormReLU(i, o) for i, o in zip((3, *down_channels), down_channels, strict=False))
        inputs = [a + b for a, b in zip((down_channels[-1], *up_channels), reversed(down_channels), strict=False)]
        self.ups = nn.ModuleList(ConvNormReLU(i, o) for i, o in zip(inputs, up_channels, strict=False))
        self.head = nn.Conv2d(up_channels[-1], keypoints, 3, padding=1)
        self.depth_head = nn.Linear(4 * down_channels[-1], keypoints)

    def forward(self, pixel_values: Tensor) -> KeypointDetectorOutput:
        """pixel_values (B, 3, 256, 256) in [0, 1]; the prediction map has a depth D of 1."""
        c = self.config
        x = antialias_downscale(pixel_values, c.downscale, c.blur_size, c.blur_sigma)
        skips = []
        for block in self.downs:
            x = block(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        depth = self.depth_head(F.adaptive_avg_pool2d(x, 2).flatten(1))
        for block, skip in zip(self.ups, reversed(skips), strict=False):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        prediction_map = self.head(x).unsqueeze(2)
        found = expected_keypoints(prediction_map, c.temperature)
        return KeypointDetectorOutput(torch.cat([found[..., :2], depth.unsqueeze(-1)], -1), prediction_map)
