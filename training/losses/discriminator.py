"""The adversary of RePos-Net: is this part of the picture real?"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..loop.options import Batch, Losses
from .pictures import discriminator_hinge


@dataclass
class Judgement:
    """Attributes:
    scores: of every scale, (N, 1, h, w), high where the picture looks real.
    features: of every scale and layer, (N, C, h, w).
    """

    scores: list[Tensor]
    features: list[Tensor]


class PatchDiscriminator(nn.Module):
    """Strided 4x4 convolutions with spectral norm, instance norm and leaky ReLU 0.2.

    Args:
        channels: widths; each halves the size.
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.convolutions = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, 4, 2, 1)) for i, o in zip((3, *channels), channels, strict=False)
        )
        self.head = spectral_norm(nn.Conv2d(channels[-1], 1, 4))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, 3, H, W) in [0, 1] -> scores (N, 1, h, w) and the activations of every layer."""
        x = 2 * pixel_values - 1
        features: list[Tensor] = []
        for convolution in self.convolutions:
            x = convolution(x)
            x = F.leaky_relu(F.instance_norm(x) if features else x, 0.2)  # contrast and colour reach the second layer
            features.append(x)
        return self.head(x), features


class MultiScaleDiscriminator(nn.Module):
    """A patch discriminator for the picture at each of several sizes.

    Args:
        channels: widths of every discriminator.
        scales: the picture's sides are divided by them. face-vid2vid has one scale at 256 pixels, two at 512.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 128, 256, 512), scales: tuple[int, ...] = (1,)):
        super().__init__()
        self.scales = scales
        self.discriminators = nn.ModuleList(PatchDiscriminator(channels) for _ in scales)

    def forward(self, pixel_values: Tensor) -> Judgement:
        """pixel_values (N, 3, H, W) in [0, 1]."""
        scores, features = [], []
        for scale, discriminator in zip(self.scales, self.discriminators, strict=True):
            score, maps = discriminator(F.avg_pool2d(pixel_values, scale))
            scores.append(score)
            features += maps
        return Judgement(scores, features)


class DiscriminatorTask(nn.Module):
    """An adversary for `training.loop.trainer.train`: tells real pictures from fake ones, (N, 3, H, W) each."""

    def __init__(self, discriminator: MultiScaleDiscriminator):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, batch: Batch) -> Losses:
        real, fake = self.discriminator(batch["real"]), self.discriminator(batch["fake"])
        return {"discriminator": discriminator_hinge(real.scores, fake.scores)}
