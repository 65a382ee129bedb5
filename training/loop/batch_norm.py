"""Batch norm over the batch of all processes, so that how many share a batch does not change what a network learns."""

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Give every batch norm inside `model` the statistics of all processes while it trains; changes `model` in place.

    On GPUs this is torch's own SyncBatchNorm, which refuses to work on CPUs; there, the same is computed here.
    """
    if device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = _ForwardOnCPU(module)


class _ForwardOnCPU:
    """`forward` of a batch norm: (N, C, ...) -> same, with N this process' share of the batch."""

    def __init__(self, norm: _BatchNorm):
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not norm.training:
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        axes, shape = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
        wide = x.float()
        mean = _MeanOverProcesses.apply(wide.mean(axes))
        centred = wide - mean.view(shape)
        variance = _MeanOverProcesses.apply(centred.square().mean(axes))
        with torch.no_grad():
            count = PartialState().num_processes * x.numel() / x.shape[1]
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        y = centred * torch.rsqrt(variance + norm.eps).view(shape)
        if norm.affine:
            y = y * norm.weight.view(shape) + norm.bias.view(shape)
        return y.to(x.dtype)


class _MeanOverProcesses(torch.autograd.Function):
    """Mean over processes that hold equal shares. A gradient goes back to all of them: they all used the mean."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return reduce(x, "mean")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return reduce(gradient, "mean")
