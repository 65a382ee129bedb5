"""The perceptual loss on pictures (paper section 3.1)."""

import torch
from torch import Tensor, nn

from eat_hf.evaluation.judges.backbones import load_backbone
from eat_hf.models.layers import antialias_downscale


class PerceptualLoss(nn.Module):
    """L1 between activations of a frozen network, on an anti-aliased pyramid.

    On a CPU the network computes in bfloat16: twice as fast, and the loss changes by less than 1 %.

    Args:
        backbone: "vgg19", "vgg19=FOLDER" or "hed_vgg16=FILE", as `load_backbone` reads it.
        weight_per_layer: of the mean over each layer.
        scales: the pictures' sides are divided by them.
    """

    def __init__(self, backbone: str = "vgg19", weight_per_layer: float = 10.0, scales: tuple[int, ...] = (1, 2, 4, 8)):
        super().__init__()
        network = load_backbone(backbone, purpose="perceptual").network
        assert isinstance(network, nn.Module)  # as all networks of this purpose are
        self.network = network.requires_grad_(False).eval()
        self.weight_per_layer, self.scales = weight_per_layer, scales

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Its network is only run."""
        return super().train(False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] each -> scalar, mean over samples."""
        total = prediction.new_zeros(())
        for scale in self.scales:
            sigma = (scale - 1) / 2
            size = 2 * round(4 * sigma) + 1
            a, b = (p if scale == 1 else antialias_downscale(p, scale, size, sigma) for p in (prediction, target))
            with torch.autocast(a.device.type, torch.bfloat16, enabled=a.device.type == "cpu"):
                found = self.network(a)
                with torch.no_grad():
                    wanted = self.network(b)
            total = total + sum((x.float() - y.float()).abs().mean() for x, y in zip(found, wanted, strict=True))
        return self.weight_per_layer * total
