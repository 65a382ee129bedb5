"""Losses on latents (Eq. 6), and what is measured on them."""

import torch
from torch import Tensor, nn

from ..data.dataset import keypoint_index
from ..data.motion import INNER_LIPS
from ..loop.options import Batch, Losses

SHUT = 0.012  # inner lips that have opened less than so, in [-1, 1] of the picture, touch


def mouth_weights(names: list[str]) -> Tensor:
    """(3K,) the mouth and the lids move little in units of the face, but everybody looks at them."""
    weights = torch.tensor([3.0 if "lip" in n or "mouth" in n or "lid" in n else 1.0 for n in names])
    return (weights / weights.mean()).repeat_interleave(3)


def opening(expression: Tensor, names: list[str]) -> Tensor:
    """Vertical distance that the middle of the inner lips has opened: (..., 3K) -> (...)."""
    upper, lower = keypoint_index(names, *INNER_LIPS)
    return expression[..., 3 * lower + 1] - expression[..., 3 * upper + 1]


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


class LatentTerms(nn.Module):
    """The keypoint term of Eq. 6, and that of lips which touch.

    Args:
        names: of the keypoints.
        latent_weight, closure_weight: of the terms.
    """

    def __init__(self, names: list[str], latent_weight: float, closure_weight: float = 0.0):
        super().__init__()
        self.names, self.latent_weight, self.closure_weight = names, latent_weight, closure_weight
        self.weights: Tensor
        self.register_buffer("weights", mouth_weights(names), persistent=False)

    def forward(self, expression: Tensor, batch: Batch) -> Losses:
        """Squared distances of expressions (B, F, 3K), in units of V ** p, to the batch's."""
        scale = batch["scale"][:, None, None]
        keypoints = (expression - batch["expression"]) * scale
        losses = {"latent": self.latent_weight * (keypoints.square() * self.weights).mean()}
        if self.closure_weight:
            # in p, b and m, whatever the emotion: what it takes from the lips costs most where they shall touch
            wanted, found = (opening(scale * e, self.names) for e in (batch["expression"], expression))
            shut = torch.sigmoid((SHUT - wanted) / (SHUT / 4))
            losses["closure"] = self.closure_weight * (shut * (found - wanted).square()).mean()
        return losses
