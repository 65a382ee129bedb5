"""From a picture-shaped feature map to one transformer token."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualDownBlock(nn.Module):
    """Pre-activation residual block that halves height and width: (N, in, H, W) -> (N, out, H / 2, W / 2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, middle, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, out_channels, 3, padding=1)
        self.shortcut = nn.Sequential()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.BatchNorm2d(in_channels), nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu(self.norm1(x), 0.2))
        y = self.conv2(F.leaky_relu(self.norm2(y), 0.2))
        return F.avg_pool2d(y + self.shortcut(x), 2)


class PictureToken(nn.Module):
    """Residual down blocks, then the mean over what is left of the picture: (N, widths[0], H, W) -> (N, widths[-1]).

    Args:
        widths: channels before the first and after every block.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.Sequential(*(ResidualDownBlock(i, o) for i, o in pairs))

    def forward(self, picture: Tensor) -> Tensor:
        return self.blocks(picture).mean((2, 3))
