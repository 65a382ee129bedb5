"""Small blocks and tensor layouts that several components share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gaussian_kernel(size: int = 13, sigma: float = 1.5) -> Tensor:
    """(size, size) float32 Gaussian that sums to 1."""
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    profile = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = torch.outer(profile, profile)
    return (kernel / kernel.sum()).float()


def antialias_downscale(pictures: Tensor, factor: int = 4, size: int = 13, sigma: float = 1.5) -> Tensor:
    """Blur with zero padding, then keep every `factor`-th pixel: (N, C, H, W) -> (N, C, H / factor, W / factor)."""
    channels = pictures.shape[1]
    kernel = gaussian_kernel(size, sigma).to(pictures).expand(channels, 1, size, size)
    return F.conv2d(pictures, kernel, stride=factor, padding=size // 2, groups=channels)


def coordinate_grid(*sizes: int, like: Tensor) -> Tensor:
    """Coordinates in [-1, 1], both ends included, last axis (x, y) or (x, y, z).

    `sizes` is (H, W) or (D, H, W); the result is (*sizes, 2) or (*sizes, 3) on `like`'s device and dtype.
    """
    axes = [torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)


def repeat_per_frame(clip_tensor: Tensor, frames: int) -> Tensor:
    """(B, ...) -> (B * frames, ...): each frame of clip b is given clip b's tensor."""
    return clip_tensor.repeat_interleave(frames, 0)


class ConvNormReLU(nn.Module):
    """Convolution with 'same' padding, batch norm, (leaky) ReLU; in 2D or 3D.

    Args:
        slope: negative slope of the activation; 0 is a plain ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        dims: int = 2,
        stride: int = 1,
        slope: float = 0.0,
    ):
        super().__init__()
        conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[dims]
        self.conv = conv(in_channels, out_channels, kernel_size, stride, kernel_size // 2)
        self.norm = norm(out_channels)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), self.slope, inplace=not self.training)


class ResidualBlock2d(nn.Module):
    """Two 3x3 convolutions with batch norm around a skip: (N, C, H, W) -> same."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvNormReLU(channels, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(self.conv1(x))))
