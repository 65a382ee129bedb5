"""The SPADE decoder of RePos-Net: features warped to the driving pose -> picture."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv_of_enlarged


class SPADE(nn.Module):
    """Normalisation, then a scale and a shift per pixel, predicted from the feature map.

    Args:
        channels: width of what is normalised.
        map_channels: width of the feature map.
        hidden: width of the layer between them.
        modulate_at_map_size: extension. Predict scale and shift at the size of the feature map and enlarge them,
            instead of enlarging the map first (as published); the same idea at a fraction of the work.
        batch_norm: extension. Batch norm in place of instance norm (as published), so that a part of a picture is
            decoded as the whole would be.
    """

    def __init__(
        self,
        channels: int,
        map_channels: int,
        hidden: int = 128,
        modulate_at_map_size: bool = False,
        batch_norm: bool = False,
    ):
        super().__init__()
        normalisation = nn.BatchNorm2d if batch_norm else nn.InstanceNorm2d
        self.normalise = normalisation(channels, affine=False)
        self.shared = nn.Conv2d(map_channels, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)
        self.modulate_at_map_size = modulate_at_map_size

    def forward(self, x: Tensor, feature_map: Tensor) -> Tensor:
        size = x.shape[2:]
        scale = 1 if self.modulate_at_map_size else size[0] // feature_map.shape[2]
        shared = self.shared(feature_map) if scale == 1 else conv_of_enlarged(self.shared, feature_map, scale)
        hidden = F.relu(shared)
        # 1 + gamma without another pass over a large map
        bias: Tensor = self.gamma.bias + 1  # type: ignore[operator, assignment]
        scales, shifts = F.conv2d(hidden, self.gamma.weight, bias, padding=1), self.beta(hidden)
        if scales.shape[2:] != size:
            scales, shifts = F.interpolate(scales, size=size), F.interpolate(shifts, size=size)
        return torch.addcmul(shifts, self.normalise(x), scales)


class SPADEBlock(nn.Module):
    """Residual block of two SPADE-normalised 3x3 convolutions.

    The released network trains these convolutions with spectral norm; at inference that is a constant factor, which
    the converter has already multiplied into the weights.
    """

    def __init__(self, in_channels: int, out_channels: int, map_channels: int, **spade):
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm1 = SPADE(in_channels, map_channels, **spade)
        self.conv1 = nn.Conv2d(in_channels, middle, 3, padding=1)
        self.norm2 = SPADE(middle, map_channels, **spade)
        self.conv2 = nn.Conv2d(middle, out_channels, 3, padding=1)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.shortcut_norm = SPADE(in_channels, map_channels, **spade)
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, feature_map: Tensor) -> Tensor:
        skip = self.shortcut(self.shortcut_norm(x, feature_map)) if self.learned_shortcut else x
        y = self.conv1(F.leaky_relu(self.norm1(x, feature_map), 0.2))
        y = self.conv2(F.leaky_relu(self.norm2(y, feature_map), 0.2))
        return skip + y


class SPADEDecoder(nn.Module):
    """(N, features, 64, 64) -> (N, 3, 256, 256) in [0, 1], as published."""

    def __init__(
        self,
        features: int = 256,
        channels: int = 512,
        blocks: int = 6,
        up_channels: tuple[int, ...] = (256, 64),
        **spade,
    ):
        super().__init__()
        self.stem = nn.Conv2d(features, channels, 3, padding=1)
        self.middle = nn.ModuleList(SPADEBlock(channels, channels, features, **spade) for _ in range(blocks))
        widths = (channels, *up_channels)
        self.ups = nn.ModuleList(SPADEBlock(i, o, features, **spade) for i, o in zip(widths, up_channels, strict=False))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, feature_map: Tensor) -> Tensor:
        x = self.stem(feature_map)
        for block in self.middle:
            x = block(x, feature_map)
        for block in self.ups:
            x = block(F.interpolate(x, scale_factor=2), feature_map)
        return torch.sigmoid(self.to_rgb(F.leaky_relu(x, 0.2)))
