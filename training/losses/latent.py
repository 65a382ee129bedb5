"""Losses on latents (Eq. 6), and what is measured on them."""

import torch
from torch import Tensor

from ..data.dataset import keypoint_index
from ..data.motion import INNER_LIPS
from ..loop.options import Batch


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


def latent_term(expression: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    """The keypoint term of Eq. 6: squared distance of expressions (B, F, 3K), in units of V ** p, to the batch's."""
    keypoints = (expression - batch["expression"]) * batch["scale"][:, None, None]
    return (keypoints.square() * weights).mean()
