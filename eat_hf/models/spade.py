"""The SPADE decoder of RePos-Net: features warped to the driving pose -> picture."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import CheckpointedBlocks, EnlargingConv2d


class SPADE(nn.Module):
    """Normalisation, then a scale and a shift per pixel, predicted from the enlarged feature map.

    Args:
        channels: width of what is normalised.
        map_channels: width of the feature map.
        hidden: width of the layer between them.
    """

    def __init__(self, channels: int, map_channels: int, hidden: int = 128):
        super().__init__()
        self.normalise = nn.InstanceNorm2d(channels, affine=False)
        self.shared = EnlargingConv2d(map_channels, hidden, 3, padding=1)
        self.gamma = OnePlusConv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, feature_map: Tensor) -> Tensor:
        hidden = F.relu(self.shared(feature_map, x.shape[2] // feature_map.shape[2]))
        return torch.addcmul(self.beta(hidden), self.normalise(x), self.gamma(hidden))


class OnePlusConv2d(nn.Conv2d):
    """1 + a convolution, without another pass over a large map."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight, None if self.bias is None else self.bias + 1)


class SPADEBlock(nn.Module):
    """Residual block of two SPADE-normalised 3x3 convolutions.

    The released network trains these convolutions with spectral norm; at inference that is a constant factor, which
    the converter has already multiplied into the weights.

    Args:
        hidden: width within each normalisation.
        spade: makes one, of (channels, map_channels, hidden).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        map_channels: int,
        hidden: int = 128,
        spade: Callable[[int, int, int], nn.Module] = SPADE,
    ):
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm1 = spade(in_channels, map_channels, hidden)
        self.conv1 = nn.Conv2d(in_channels, middle, 3, padding=1)
        self.norm2 = spade(middle, map_channels, hidden)
        self.conv2 = nn.Conv2d(middle, out_channels, 3, padding=1)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.shortcut_norm = spade(in_channels, map_channels, hidden)
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, feature_map: Tensor) -> Tensor:
        skip = self.shortcut(self.shortcut_norm(x, feature_map)) if self.learned_shortcut else x
        y = self.conv1(F.leaky_relu(self.norm1(x, feature_map), 0.2))
        y = self.conv2(F.leaky_relu(self.norm2(y, feature_map), 0.2))
        return skip + y


class SPADEDecoder(CheckpointedBlocks):
    """(N, features, 64, 64) -> (N, 3, 256, 256) in [0, 1]."""

    def __init__(
        self,
        features: int = 256,
        channels: int = 512,
        blocks: int = 6,
        up_channels: tuple[int, ...] = (256, 64),
        hidden: int = 128,
    ):
        super().__init__()
        self.stem = nn.Conv2d(features, channels, 3, padding=1)
        self.middle = nn.ModuleList(SPADEBlock(channels, channels, features, hidden) for _ in range(blocks))
        widths = (channels, *up_channels)
        self.ups = nn.ModuleList(SPADEBlock(i, o, features, hidden) for i, o in zip(widths, up_channels, strict=False))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, feature_map: Tensor) -> Tensor:
        x = self.stem(feature_map)
        for block in self.middle:
            x = self._run(block, x, feature_map)
        for block in self.ups:
            x = self._run(block, F.interpolate(x, scale_factor=2), feature_map)
        return torch.sigmoid(self.to_rgb(F.leaky_relu(x, 0.2)))
