"""The 68 iBUG landmarks of a face, how sure they are, whether the mouth is covered, and whether it is a person's face:
a small network.

It is no part of the paper, but stands on the way from a picture to an aligned portrait (`landmarks`).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

LANDMARKS = 68


class ConvNormReLU(nn.Module):
    """A 3 x 3 convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


def expected_places(heat: Tensor) -> Tensor:
    """Means of heat maps (B, P, h, w) after a softmax over each: (B, P, 2), x and y in [-1, 1]."""
    height, width = heat.shape[2:]
    share = heat.flatten(2).softmax(-1).unflatten(2, (height, width))
    x, y = (torch.linspace(-1, 1, n, device=heat.device) for n in (width, height))
    return torch.stack([share.sum(2) @ x, share.sum(3) @ y], -1)


@dataclass
class FaceLandmarksOutput(BaseOutput):
    """Attributes:
    landmarks: (B, 68, 2), x and y in [-1, 1] across the crop; points beyond its border are extrapolated.
    deviation: (B, 68), expected distance of each from the truth, in the same units.
    covered: (B,) logit of the mouth being covered, by a hand, a mask or anything else.
    person: (B,) logit of it being a person's face, not an animal's and not something that looks like one.
    """

    landmarks: Tensor
    deviation: Tensor
    covered: Tensor
    person: Tensor


class FaceLandmarks(ModelMixin, ConfigMixin):
    """A small U-Net over a square crop around a face.

    Args:
        input_size: side of the crop in pixels.
        down_channels, up_channels: widths of the encoder and of the decoder; each level halves or doubles the size.
        hidden: width of the layer that judges deviation, cover and whether it is a person.
    """

    @register_to_config
    def __init__(
        self,
        input_size: int = 128,
        down_channels: tuple[int, ...] = (16, 32, 64, 96, 128),
        up_channels: tuple[int, ...] = (96, 64, 48),
        hidden: int = 128,
    ):
        super().__init__()
        self.downs = nn.ModuleList(ConvNormReLU(i, o) for i, o in zip((3, *down_channels), down_channels, strict=False))
        self.deepest = ConvNormReLU(down_channels[-1], down_channels[-1])
        inputs = [a + b for a, b in zip((down_channels[-1], *up_channels), reversed(down_channels), strict=False)]
        self.ups = nn.ModuleList(ConvNormReLU(i, o) for i, o in zip(inputs, up_channels, strict=False))
        self.to_heat = nn.Conv2d(up_channels[-1], LANDMARKS, 3, padding=1)
        self.to_shift = nn.Linear(hidden, LANDMARKS * 2)
        self.judge = nn.Linear(4 * 4 * down_channels[-1], hidden)
        self.to_deviation = nn.Linear(hidden, LANDMARKS)
        self.to_covered = nn.Linear(hidden, 1)
        self.to_person = nn.Linear(hidden, 1)
        nn.init.zeros_(self.to_shift.weight)
        nn.init.zeros_(self.to_shift.bias)

    def forward(self, pixel_values: Tensor) -> FaceLandmarksOutput:
        """pixel_values (B, 3, input_size, input_size) in [0, 1]."""
        x = 2 * pixel_values - 1
        skips = []
        for block in self.downs:
            x = block(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.deepest(x)
        hidden = F.relu(self.judge(F.adaptive_avg_pool2d(x, 4).flatten(1)))
        for block, skip in zip(self.ups, reversed(skips), strict=False):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        found = expected_places(self.to_heat(x).float())
        # an expectation stays within the crop; the shift may leave it
        shift = self.to_shift(hidden).float().unflatten(1, (LANDMARKS, 2))
        deviation = 0.002 + F.softplus(self.to_deviation(hidden).float() - 4)
        covered, person = (judge(hidden).float().squeeze(1) for judge in (self.to_covered, self.to_person))
        return FaceLandmarksOutput(found + shift, deviation, covered, person)
