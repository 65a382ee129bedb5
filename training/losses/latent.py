"""Losses on latents (Eq. 6), and what is measured on them."""

import torch
from torch import Tensor, nn

from ..data.dataset import keypoint_index
from ..data.motion import INNER_LIPS, MOUTH_CORNERS
from ..loop.options import Batch, LatentOptions, Losses

SHUT = 0.012  # inner lips that have opened less than so, in [-1, 1] of the picture, touch
SPREAD = 2.0  # how much the mouth moves in a clip, beside where it is in every frame


def mouth_weights(names: list[str]) -> Tensor:
    """(3K,) the mouth and the lids move little in units of the face, but everybody looks at them."""
    weights = torch.tensor([3.0 if "lip" in n or "mouth" in n or "lid" in n else 1.0 for n in names])
    return (weights / weights.mean()).repeat_interleave(3)


def opening(expression: Tensor, names: list[str]) -> Tensor:
    """Vertical distance that the middle of the inner lips has opened: (..., 3K) -> (...)."""
    upper, lower = keypoint_index(names, *INNER_LIPS)
    return expression[..., 3 * lower + 1] - expression[..., 3 * upper + 1]


def width(expression: Tensor, names: list[str]) -> Tensor:
    """Horizontal distance by which the corners of the mouth have moved apart: (..., 3K) -> (...)."""
    left, right = keypoint_index(names, *MOUTH_CORNERS)
    return expression[..., 3 * right] - expression[..., 3 * left]


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


class LatentTerms(nn.Module):
    """The keypoint term of Eq. 6, that of lips which touch, and that of how lips part and round.

    Args:
        names: of the keypoints.
        latent_weight, closure_weight, lips_weight: of the terms.
    """

    def __init__(self, names: list[str], latent_weight: float, closure_weight: float = 0.0, lips_weight: float = 0.0):
        super().__init__()
        self.names = names
        self.latent_weight, self.closure_weight, self.lips_weight = latent_weight, closure_weight, lips_weight
        self.weights: Tensor
        self.register_buffer("weights", mouth_weights(names), persistent=False)

    @classmethod
    def of(cls, options: LatentOptions, names: list[str]) -> "LatentTerms":
        """As the options say, for keypoints of some names."""
        return cls(names, options.latent_weight, options.closure_weight, options.lips_weight)

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
        if self.lips_weight:
            errors = [
                self._errors(measure(scale * batch["expression"], self.names), measure(scale * expression, self.names))
                for measure in (opening, width)
            ]
            losses["lips"] = self.lips_weight * torch.stack(errors).sum()
        return losses

    @staticmethod
    def _errors(wanted: Tensor, found: Tensor) -> Tensor:
        """Of a distance (B, F), frame by frame; and of how much it changes in every clip, which the first error alone
        would make less wherever sounds are in doubt."""
        wanted_spread, found_spread = (distance.var(1).add(1e-8).sqrt() for distance in (wanted, found))
        return (found - wanted).square().mean() + SPREAD * (found_spread - wanted_spread).square().mean()
