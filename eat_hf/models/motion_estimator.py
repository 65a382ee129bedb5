"""Head pose and expression estimator (paper section 3.1): pose, translation and deformation of a pictured head."""

from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from .layers import ConvNormReLU


@dataclass
class MotionEstimatorOutput(BaseOutput):
    """Attributes:
    yaw, pitch, roll: (B, bins) logits; `eat_hf.keypoints.head_rotation` turns them into R.
    translation: (B, 3), t of Eq. 1.
    expression: (B, 3K), E of Eq. 1.
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor
    expression: Tensor


class Bottleneck(nn.Module):
    """1x1 to C/4, 3x3 (with the stride), 1x1 back to C, plus the input."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        inner = channels // 4
        self.conv1, self.norm1 = nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.norm2 = nn.Conv2d(inner, inner, 3, stride, 1), nn.BatchNorm2d(inner)
        self.conv3, self.norm3 = nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels)
        self.strided = stride != 1
        if self.strided:
            self.skip, self.skip_norm = nn.Conv2d(channels, channels, 1, stride), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return F.relu(y + (self.skip_norm(self.skip(x)) if self.strided else x))


class ResNetStage(nn.Module):
    """1x1 convolution to the stage's width, then bottlenecks, the first of them strided if asked."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, strided: bool):
        super().__init__()
        self.widen = ConvNormReLU(in_channels, out_channels, kernel_size=1)
        self.blocks = nn.Sequential(*(Bottleneck(out_channels, 2 if strided and i == 0 else 1) for i in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.widen(x))


class MotionEstimator(ModelMixin, ConfigMixin):
    """A residual network with five heads. The defaults are the official network.

    Args:
        keypoints: K.
        bins: classes an angle is sorted into, 3 degrees each.
        stem_channels: width of the first convolution.
        channels, blocks: width and number of bottlenecks of each stage; every stage but the first halves the size.
        downscale: the picture is averaged over squares of this size first (1: as it is).
        pooled_size: the last features are averaged to this size (1: one vector, as published). Extension: the
            translation and expression heads of a small network gain from 2.
        driving_crop_scale: side of the square that is cut out of driving videos, in widths of the face.
    """

    _no_split_modules = ["Bottleneck", "ConvNormReLU"]

    @register_to_config
    def __init__(
        self,
        keypoints: int = 15,
        bins: int = 66,
        stem_channels: int = 64,
        channels: tuple[int, ...] = (256, 512, 1024, 2048),
        blocks: tuple[int, ...] = (3, 4, 6, 3),
        downscale: int = 1,
        pooled_size: int = 1,
        driving_crop_scale: float = 2.1,
    ):
        super().__init__()
        self.stem = ConvNormReLU(3, stem_channels, kernel_size=7, stride=2)
        widths = (stem_channels, *channels)
        self.stages = nn.Sequential(
            *(ResNetStage(widths[s], widths[s + 1], count, strided=s > 0) for s, count in enumerate(blocks))
        )
        features = channels[-1] * pooled_size**2
        self.yaw, self.pitch, self.roll = (nn.Linear(features, bins) for _ in range(3))
        self.translation = nn.Linear(features, 3)
        self.expression = nn.Linear(features, 3 * keypoints)

    def forward(self, pixel_values: Tensor) -> MotionEstimatorOutput:
        """pixel_values (B, 3, 256, 256) in [0, 1]."""
        if self.config.downscale > 1:
            pixel_values = F.avg_pool2d(pixel_values, self.config.downscale)
        x = F.max_pool2d(self.stem(pixel_values), 3, 2, 1)
        x = F.adaptive_avg_pool2d(self.stages(x), self.config.pooled_size).flatten(1)
        return MotionEstimatorOutput(
            yaw=self.yaw(x),
            pitch=self.pitch(x),
            roll=self.roll(x),
            translation=self.translation(x),
            expression=self.expression(x),
        )
