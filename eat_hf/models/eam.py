"""Emotional Adaptation Module (paper section 3.2, Eq. 3 and 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import repeat_per_frame


class EmotionalAdaptationModule(nn.Module):
    """Modulates a feature map, channel by channel, with an emotional guidance embedding e.

    gamma, beta = tanh(FC(ReLU(FC(e)))) (Eq. 3); output = (1 + gamma) * x + beta (Eq. 4).
    A new module starts as the identity, so that adding it to a pretrained host changes nothing until it is trained.

    Args:
        channels: channels C of the host's feature map.
        guidance: width of e (128 in the paper).
        reduction: the hidden layer has 2C // reduction units.
    """

    def __init__(self, channels: int, guidance: int = 128, reduction: int = 16):
        super().__init__()
        hidden = max(1, 2 * channels // reduction)
        self.reduce = nn.Linear(guidance, hidden)
        self.expand = nn.Linear(hidden, 2 * channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Become the identity, ready to be trained."""
        self.reduce.reset_parameters()
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor, guidance: Tensor | None = None) -> Tensor:
        """x (N, C, ...), guidance (N, width) or None -> (N, C, ...). Without guidance, x itself (paper's stage 1)."""
        if guidance is None:
            return x
        guidance = guidance.to(self.reduce.weight.dtype)
        gamma, beta = torch.tanh(self.expand(F.relu(self.reduce(guidance)))).to(x.dtype).chunk(2, 1)
        shape = (*gamma.shape, *(1,) * (x.dim() - 2))
        return (1 + gamma.view(shape)) * x + beta.view(shape)


def modulate_per_frame(eam: EmotionalAdaptationModule, volume: Tensor, guidance: Tensor | None, frames: int) -> Tensor:
    """The emotional volume of every frame, (B * F, C, D, H, W), of portraits' volumes (B, C, D, H, W).

    Args:
        guidance: e, (B, G) for the clip, (B, F, G) where it changes from frame to frame, or None.
    """
    if guidance is not None and guidance.dim() == 3:
        return eam(repeat_per_frame(volume, frames), guidance.flatten(0, 1))
    return repeat_per_frame(eam(volume, guidance), frames)
