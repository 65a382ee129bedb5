"""68 landmarks of a face (iBUG 300-W layout) read off a small upright crop, how sure they are, and a covered mouth.

Crops come from `upright_crop`: points that are known already, five from the detector or the 68 of a first reading, are
laid over those of a mean face, so that turned heads look upright to the network.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

GROUPS = 8  # of channels that are normalised together


@dataclass
class LandmarkNetworkOutput(BaseOutput):
    """Attributes:
    landmarks: (B, P, 2) x and y in pixels of the crop, (0, 0) in the middle of its top left pixel.
    log_error: (B, P) natural logarithm of the error that each point is expected to have, in sides of the crop.
    covered: (B,) logit that the mouth is covered.
    """

    landmarks: Tensor
    log_error: Tensor
    covered: Tensor

    @property
    def error(self) -> Tensor:
        """(B,) expected error of a face's points, in sides of the crop: the surer, the smaller."""
        return self.log_error.exp().mean(1)


class Block(nn.Module):
    """A depthwise and a pointwise convolution; adds what it is given if nothing changes size."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.same = stride == 1 and inputs == outputs
        self.space = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.channels = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.channels(self.space(x))))
        return x + y if self.same else y


class LandmarkNetwork(ModelMixin, ConfigMixin):
    """Upright crop of a face -> landmarks as expectations of heat maps of a quarter of its size, and their errors.

    Args:
        points: P.
        size: side of the crop in pixels, a multiple of 16.
        channels: widths at a half, a quarter, an eighth and a sixteenth of the size, multiples of 8.
        blocks: how many more blocks follow each halving.
        margin: how far beyond the crop a point may lie, in sides of the crop.
        temperature: of the softmax over the heat maps; a low one lets them become sharp early in training.
    """

    @register_to_config
    def __init__(
        self,
        points: int = 68,
        size: int = 128,
        channels: tuple[int, ...] = (24, 64, 128, 192),
        blocks: int = 2,
        margin: float = 0.1,
        temperature: float = 0.15,
    ):
        super().__init__()
        half, quarter, eighth, sixteenth = channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.GroupNorm(GROUPS, half), nn.ReLU(inplace=True)
        )

        def level(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(Block(inputs, outputs, 2), *(Block(outputs, outputs) for _ in range(blocks)))

        self.quarter, self.eighth = level(half, quarter), level(quarter, eighth)
        self.sixteenth = level(eighth, sixteenth)
        self.to_eighth, self.from_eighth = nn.Conv2d(sixteenth, eighth, 1), Block(eighth, eighth)
        self.to_quarter, self.from_quarter = nn.Conv2d(eighth, quarter, 1), Block(quarter, quarter)
        self.heat = nn.Conv2d(quarter, points, 1)
        self.judgement = nn.Sequential(nn.Linear(sixteenth, 64), nn.ReLU(inplace=True), nn.Linear(64, points + 1))

    def forward(self, pixel_values: Tensor) -> LandmarkNetworkOutput:
        """pixel_values (B, 3, size, size) in [0, 1]."""
        x = (pixel_values - pixel_values.mean((1, 2, 3), keepdim=True)) * 4
        quarter = self.quarter(self.stem(x))
        eighth = self.eighth(quarter)
        inner = self.sixteenth(eighth)
        x = self.from_eighth(eighth + F.interpolate(self.to_eighth(inner), scale_factor=2))
        x = self.from_quarter(quarter + F.interpolate(self.to_quarter(x), scale_factor=2))
        heat = self.heat(x).float() / self.config.temperature  # (B, P, size / 4, size / 4)
        heat = heat.flatten(2).softmax(-1).unflatten(2, heat.shape[2:])
        margin = self.config.margin
        where = torch.linspace(-margin, 1 + margin, heat.shape[-1], device=heat.device)
        landmarks = torch.stack([heat.sum(2) @ where, heat.sum(3) @ where], -1) * self.config.size - 0.5
        log_error, covered = self.judgement(inner.mean((2, 3))).float().split([self.config.points, 1], 1)
        return LandmarkNetworkOutput(landmarks, log_error - 3.5, covered[:, 0])  # e^-3.5: 3 % of the crop at first
