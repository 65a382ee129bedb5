"""Inception-v3 up to its pooled features, which the Frechet inception distance compares (Heusel et al., 2017)."""

from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

IMAGE_SIZE = 299
FEATURES = 2048

Variant = Literal["imagenet", "fid"]
Size = int | tuple[int, int]
# (channels, kernel), (channels, kernel, stride), or a pair of convolutions side by side on the same input
Step = tuple[int, Size] | tuple[int, Size, int] | list[tuple[int, Size]]


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: int = 1, padding: Size = 0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _unit(in_channels: int, out_channels: int, kernel_size: Size, stride: int = 1) -> ConvUnit:
    """With 'same' padding, or with none where it has a stride."""
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    padding = (height // 2, width // 2) if stride == 1 else 0
    return ConvUnit(in_channels, out_channels, kernel_size, stride, padding)


class Mixed(nn.Module):
    """Branches of convolutions and one of pooling on the same input, concatenated: (N, C, H, W) -> (N, C', H', W').

    Args:
        branches: what each branch computes, in order. The convolutions are called by its name, numbered from 1 where
            there are several, with a letter behind where two stand side by side.
        pool_channels: of the 1x1 convolution behind a pooling that keeps the size; None is a maximum pooling that
            halves it, as strided branches do, with no convolution.
        pool: what keeps the size: an average that takes the padding for zeros ("average") or that leaves it out
            ("average inside"), or a maximum ("max").
    """

    def __init__(
        self, in_channels: int, branches: dict[str, list[Step]], pool_channels: int | None = None, pool: str = "average"
    ):
        super().__init__()
        self.plan: list[list[list[str]]] = []
        for branch, steps in branches.items():
            channels, names = in_channels, []
            for number, step in enumerate(steps, 1):
                name = f"{branch}_{number}" if len(steps) > 1 else branch
                parallel = {name + "ab"[i]: s for i, s in enumerate(step)} if isinstance(step, list) else {name: step}
                for unit_name, layer in parallel.items():
                    self.add_module(unit_name, _unit(channels, *layer))
                channels = sum(layer[0] for layer in parallel.values())
                names.append(list(parallel))
            self.plan.append(names)
        self.branch_pool = None if pool_channels is None else ConvUnit(in_channels, pool_channels, 1)
        self.pool = pool

    def _pool(self, x: Tensor) -> Tensor:
        if self.branch_pool is None:
            return F.max_pool2d(x, 3, 2)
        if self.pool == "max":
            return self.branch_pool(F.max_pool2d(x, 3, 1, 1))
        return self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=self.pool == "average"))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for names in self.plan:
            parts = [x]
            for parallel in names:
                y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
                parts = [getattr(self, name)(y) for name in parallel]
            outputs += parts
        return torch.cat([*outputs, self._pool(x)], 1)


def _block_a(in_channels: int, pool_channels: int, pool: str) -> Mixed:
    branches: dict[str, list[Step]] = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return Mixed(in_channels, branches, pool_channels, pool)


def _block_c(inner: int, pool: str) -> Mixed:
    branches: dict[str, list[Step]] = {
        "branch1x1": [(192, 1)],
        "branch7x7": [(inner, 1), (inner, (1, 7)), (192, (7, 1))],
        "branch7x7dbl": [(inner, 1), (inner, (7, 1)), (inner, (1, 7)), (inner, (7, 1)), (192, (1, 7))],
    }
    return Mixed(768, branches, 192, pool)


def _block_e(in_channels: int, pool: str) -> Mixed:
    branches: dict[str, list[Step]] = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1), [(384, (1, 3)), (384, (3, 1))]],
        "branch3x3dbl": [(448, 1), (384, 3), [(384, (1, 3)), (384, (3, 1))]],
    }
    return Mixed(in_channels, branches, 192, pool)


class InceptionV3(ModelMixin, ConfigMixin):
    """Pictures -> 2048 features, without the classifiers. Tensors are named as in torchvision.

    Args:
        variant: "imagenet" is the published network, for torchvision's weights. "fid" is for the weights of the
            original FID code (as pytorch-fid holds them): its averages leave the padding out, and the last block pools
            by maximum.
    """

    @register_to_config
    def __init__(self, variant: Variant = "imagenet"):
        super().__init__()
        if variant not in ("imagenet", "fid"):
            raise ValueError(f"variant must be 'imagenet' or 'fid', not {variant!r}.")
        average, last_pool = ("average", "average") if variant == "imagenet" else ("average inside", "max")
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvUnit(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3)
        self.Mixed_5b = _block_a(192, 32, average)
        self.Mixed_5c = _block_a(256, 64, average)
        self.Mixed_5d = _block_a(288, 64, average)
        self.Mixed_6a = Mixed(288, {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)]})
        self.Mixed_6b = _block_c(128, average)
        self.Mixed_6c = _block_c(160, average)
        self.Mixed_6d = _block_c(160, average)
        self.Mixed_6e = _block_c(192, average)
        self.Mixed_7a = Mixed(
            768,
            {
                "branch3x3": [(192, 1), (320, 3, 2)],
                "branch7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)],
            },
        )
        self.Mixed_7b = _block_e(1280, average)
        self.Mixed_7c = _block_e(FEATURES, last_pool)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (B, 3, H, W) RGB in [0, 1], of any size -> (B, 2048).

        Pictures are resized to 299x299 as pytorch-fid does it (bilinear, pixel centres not corners aligned, no blur
        when they shrink) and scaled to [-1, 1], which both sets of weights expect.
        """
        x = F.interpolate(pixel_values, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2 * x - 1)))
        x = F.max_pool2d(x, 3, 2)  # (B, 64, 73, 73)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, 2)  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6a(x)  # (B, 768, 17, 17)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        return x.mean((2, 3))
