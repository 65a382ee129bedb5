"""Small blocks and tensor layouts that several components share."""

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

# exported by the package, too, see its __init__
from diffusers import ConfigMixin as ConfigMixin
from diffusers import ModelMixin as ModelMixin
from torch import Tensor, nn


@functools.lru_cache(maxsize=8)
def gaussian_kernel(size: int = 13, sigma: float = 1.5) -> Tensor:
    """(size, size) float32 Gaussian that sums to 1."""
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    profile = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = torch.outer(profile, profile)
    return (kernel / kernel.sum()).float()


def antialias_downscale(pictures: Tensor, factor: int = 4, size: int = 13, sigma: float = 1.5) -> Tensor:
    """Blur with zero padding, then keep every `factor`-th pixel: (N, C, H, W) -> (N, C, H / factor, W / factor)."""
    channels = int(pictures.shape[1])
    kernel = gaussian_kernel(size, sigma).to(pictures.device, pictures.dtype).expand(channels, 1, size, size)
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


def conv_of_enlarged(conv: nn.Conv2d | nn.Conv3d, small: Tensor, scale: int) -> Tensor:
    """`conv(F.interpolate(small, scale_factor=scale))`, for a kernel of 3 with 'same' padding, in less work.

    Nearest-neighbour enlargement of height and width (not of depth) repeats pixels, so that neighbouring taps of the
    kernel see the same one: within a repeated pixel, the first row sees it and the one above, the last row it and the
    one below, and the others it alone. Each of these phases is a smaller convolution of the small map.

    Args:
        small: (N, C, H, W) or (N, C, D, H, W).
        scale: 2 or more.

    Returns:
        (N, C', scale * H, scale * W) or (N, C', D, scale * H, scale * W).
    """
    convolve = F.conv3d if small.dim() == 5 else F.conv2d
    padded = F.pad(small, (1, 1, 1, 1, *(1, 1) * (small.dim() - 4)))
    height, width = small.shape[-2:]

    def phases(weight: Tensor, axis: int, size: int) -> list[tuple[Tensor, int, int]]:
        """Kernels with folded taps, and from where to where they look along the padded axis."""
        above, same, below = weight.split(1, axis)
        first = torch.cat([above, same + below], axis), 0, size + 1
        between = above + same + below, 1, size + 1
        last = torch.cat([above + same, below], axis), 1, size + 2
        return [first, *[between] * min(scale - 2, 1), last]

    rows = []
    for tall, top, bottom in phases(conv.weight, -2, height):
        part = padded[..., top:bottom, :]
        row = [convolve(part[..., left:right], weight, conv.bias) for weight, left, right in phases(tall, -1, width)]
        rows.append(torch.stack([row[0], *[row[1]] * (scale - 2), row[-1]], -1))
    return torch.stack([rows[0], *[rows[1]] * (scale - 2), rows[-1]], -3).flatten(-4, -3).flatten(-2)


class EnlargingConv2d(nn.Conv2d):
    """A convolution that can enlarge what it reads, nearest neighbour, at no cost; see `conv_of_enlarged`."""

    def forward(self, x: Tensor, enlarge: int = 1) -> Tensor:
        return super().forward(x) if enlarge == 1 else conv_of_enlarged(self, x, enlarge)


class EnlargingConv3d(nn.Conv3d):
    """A convolution that can enlarge height and width of what it reads; see `conv_of_enlarged`."""

    def forward(self, x: Tensor, enlarge: int = 1) -> Tensor:
        return super().forward(x) if enlarge == 1 else conv_of_enlarged(self, x, enlarge)


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
        conv = EnlargingConv2d if dims == 2 else EnlargingConv3d
        self.conv = conv(in_channels, out_channels, kernel_size, stride, kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels) if dims == 2 else nn.BatchNorm3d(out_channels)
        self.slope = slope

    def forward(self, x: Tensor, enlarge: int = 1) -> Tensor:
        """Of x, or of x with height and width enlarged, nearest neighbour, so many times."""
        return F.leaky_relu(self.norm(self.conv(x, enlarge)), self.slope, inplace=not self.training)


class ResidualBlock2d(nn.Module):
    """Two 3x3 convolutions with batch norm around a skip: (N, C, H, W) -> same."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvNormReLU(channels, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(self.conv1(x))))


def pixel_grid(*sizes: int, like: Tensor) -> Tensor:
    """Centres of pixels (or voxels) in [-1, 1], (*sizes, 2 or 3), matching grid_sample's align_corners=False."""
    axes = [(torch.arange(n, dtype=like.dtype, device=like.device) * 2 + 1) / n - 1 for n in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)


def for_convolutions(x: Tensor) -> Tensor:
    """(N, C, H, W) in the layout in which convolutions are fastest, which hand it on to those behind them: on CPUs
    channels last."""
    if x.device.type != "cpu" or torch.onnx.is_in_onnx_export():
        return x
    return x.contiguous(memory_format=torch.channels_last)


class PreActivationBlock3d(nn.Module):
    """BN, ReLU, 3x3x3 convolution, twice, plus the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


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
        return self.blocks(for_convolutions(picture)).mean((2, 3))


class CheckpointedBlocks(nn.Module):
    """A module whose blocks forget what gradients need, and compute it again, if diffusers is told so."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Tensor]

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
        return self._gradient_checkpointing_func(block, *inputs) if checkpointed else block(*inputs)
