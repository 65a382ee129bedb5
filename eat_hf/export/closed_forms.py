"""What ONNX has no operators for, by sums and products that it has."""

from collections.abc import Callable, Sequence
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def inverse(matrix: Tensor) -> Tensor:
    """(..., n, n) -> the same, n 2 or 3: Cramer's rule."""
    if matrix.shape[-1] == 2:
        (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
        adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
        return adjugate / (a * d - b * c)[..., None, None]
    a, b, c = matrix.unbind(-2)
    columns = [_cross(b, c), _cross(c, a), _cross(a, b)]
    return torch.stack(columns, -1) / (a * columns[0]).sum(-1)[..., None, None]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    (a0, a1, a2), (b0, b1, b2) = a.unbind(-1), b.unbind(-1)
    return torch.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """`torch.linalg.solve` of small matrices."""
    return inverse(matrix) @ right


def cummax(x: Tensor, dim: int) -> Any:
    """`Tensor.cummax` along the last axis but one, `values` alone."""
    x = movedim(x, dim, -1)
    places = torch.arange(x.shape[-1])
    earlier = torch.where(places <= places[:, None], x[..., None, :], -torch.inf)
    return SimpleNamespace(values=movedim(earlier.amax(-1), -1, dim))


def diff(x: Tensor, dim: int = -1) -> Tensor:
    size = x.shape[dim] - 1
    return x.narrow(dim, 1, size) - x.narrow(dim, 0, size)


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    dim %= x.dim()
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def instance_norm(x: Tensor, **_: Any) -> Tensor:
    """Without statistics or weights of its own."""
    centred = x - x.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def full_like(number: int) -> Callable[..., Tensor]:
    """`ones_like` and `zeros_like`, whose size would be written down as it is."""
    return lambda x, dtype=None: (number + 0 * x).to(dtype or x.dtype)


def movedim(x: Tensor, source: int, destination: int) -> Tensor:
    axes = list(range(x.dim()))
    moved = axes.pop(source)
    axes.insert(destination % x.dim(), moved)
    return x.permute(axes)


def repeat_interleave(x: Tensor, repeats: int, dim: int) -> Tensor:
    repeated = x.unsqueeze(dim + 1).expand(*x.shape[: dim + 1], repeats, *x.shape[dim + 1 :])
    return repeated.flatten(dim, dim + 1)


def adaptive_avg_pool2d(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """That of pictures whose height and width are multiples of `size`."""
    height, width = (size, size) if isinstance(size, int) else size
    if x.shape[-2:] == (height, width):
        return x
    return x.reshape(*x.shape[:-2], height, -1, width, x.shape[-1] // width).mean((-3, -1))


class ClosedForms(TorchFunctionMode):
    """Inside, the functions that ONNX lacks are those of this module."""

    FORMS: dict[Any, Callable] = {
        torch.linalg.inv: inverse,
        torch.linalg.solve: solve,
        torch.Tensor.cummax: cummax,
        torch.Tensor.diff: diff,
        torch.Tensor.unflatten: unflatten,
        torch.ones_like: full_like(1),
        torch.zeros_like: full_like(0),
        torch.Tensor.repeat_interleave: repeat_interleave,
        torch.Tensor.movedim: movedim,
        torch.Tensor.__ixor__: torch.logical_xor,
        torch.Tensor.mT.__get__: lambda matrix: matrix.transpose(-1, -2),  # type: ignore[attr-defined]
        F.instance_norm: instance_norm,
        F.adaptive_avg_pool2d: adaptive_avg_pool2d,
    }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.FORMS.get(func, func)(*args, **(kwargs or {}))


def hull_volume(points: Tensor) -> Tensor:
    """Volume of the convex hull of (B, K, 3) points in general position, K at least 4: (B,).

    Three points are corners of the hull if all others are on one side of their plane. For the few keypoints of a face,
    looking at all triples takes less than a millisecond.
    """
    count = int(points.shape[1])
    corners = torch.tensor(list(combinations(range(count), 3)))
    others = (torch.arange(count) != corners[:, :, None]).all(1)
    exact = points.double()
    a, b, c = (exact[:, index] for index in corners.unbind(1))
    normal = _cross(b - a, c - a)
    heights = normal @ exact.transpose(1, 2) - (normal * a).sum(-1, keepdim=True)  # (B, triples, K)
    heights = heights * others.to(heights.dtype)
    hull = torch.maximum(heights.amin(-1), -heights.amax(-1)) >= 0  # all on one side
    pyramids = ((exact.mean(1, keepdim=True) - a) * normal).sum(-1).abs() / 6
    return torch.where(hull, pyramids, 0.0).sum(-1).to(points.dtype)
