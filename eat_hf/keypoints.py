"""Keypoints in three dimensions: Eq. 1 of the paper and everything that turns angles into rotations.

Coordinates are x right, y down, z towards the viewer, [-1, 1] across the picture. Rotations act on column vectors.
B clips, F frames, K keypoints; leading axes are free wherever a docstring writes `...`.
"""

from typing import Literal

import torch
from scipy.spatial import ConvexHull
from torch import Tensor

BIN_WIDTH = 3.0  # degrees a bin of the head pose classifiers spans
FIRST_BIN = -99.0  # degrees of bin 0
OFFICIAL_PI = 3.14  # the released network was trained with this value, so its weights expect it

ExpressionFrame = Literal["camera", "head"]
KeypointSpace = Literal["canonical", "posed"]


def expected_bin(logits: Tensor) -> Tensor:
    """Expectation of the bin index: (..., bins) logits -> (...), in [0, bins - 1]."""
    bins = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return torch.softmax(logits, -1) @ bins


def bins_to_degrees(bins: Tensor) -> Tensor:
    """Bin index (real-valued) -> degrees, the reading that Eq. 1 uses.

    The A2ET head pose token and the pose pictures read the bin index itself as degrees; they never call this.
    """
    return bins * BIN_WIDTH + FIRST_BIN


def degrees_to_radians(degrees: Tensor) -> Tensor:
    """Degrees -> radians with the released network's value of pi."""
    return degrees / 180 * OFFICIAL_PI


def logits_from_degrees(degrees: Tensor, bins: int = 66) -> Tensor:
    """Logits (..., bins) whose expected bin reads as `degrees` (...); the two nearest bins hold all probability."""
    position = ((degrees - FIRST_BIN) / BIN_WIDTH).clamp(0, bins - 1).unsqueeze(-1)
    index = torch.arange(bins, dtype=degrees.dtype, device=degrees.device)
    return (1 - (index - position).abs()).clamp_min(1e-13).log()


def rotation_matrices(yaw: Tensor, pitch: Tensor, roll: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Radians (...) each -> R_yaw, R_pitch, R_roll and R = R_pitch R_yaw R_roll, all (..., 3, 3)."""

    def matrix(rows: list[list[Tensor]]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)
    c, s = yaw.cos(), yaw.sin()
    r_yaw = matrix([[c, zero, s], [zero, one, zero], [-s, zero, c]])
    c, s = pitch.cos(), pitch.sin()
    r_pitch = matrix([[one, zero, zero], [zero, c, -s], [zero, s, c]])
    c, s = roll.cos(), roll.sin()
    r_roll = matrix([[c, -s, zero], [s, c, zero], [zero, zero, one]])
    return r_yaw, r_pitch, r_roll, r_pitch @ r_yaw @ r_roll


def rotation_from_degrees(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Degrees (...) each -> R (..., 3, 3)."""
    return rotation_matrices(*(degrees_to_radians(angle) for angle in (yaw, pitch, roll)))[3]


def degrees_from_logits(*logits: Tensor) -> tuple[Tensor, ...]:
    """Each (..., bins) of logits -> (...) degrees as Eq. 1 reads them."""
    return tuple(bins_to_degrees(expected_bin(angle)) for angle in logits)


def head_rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Logits (..., bins) each -> the rotation R (..., 3, 3) of Eq. 1."""
    return rotation_from_degrees(*degrees_from_logits(yaw, pitch, roll))


def pose_picture_rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Logits (..., bins) each -> the rotation (..., 3, 3) that pose pictures are drawn with: bin as degrees."""
    return rotation_from_degrees(*(expected_bin(angle) for angle in (yaw, pitch, roll)))


def compose_keypoints(
    canonical: Tensor, rotation: Tensor, translation: Tensor, expression: Tensor, frame: ExpressionFrame = "camera"
) -> Tensor:
    """Eq. 1: K = R K_c + t + E.

    Args:
        canonical: K_c (..., K, 3).
        rotation: R (..., 3, 3).
        translation: t (..., 3).
        expression: E (..., 3K), deformation of every keypoint.
        frame: "camera", as published, adds E to the rotated keypoints; "head" lets it turn with the head,
            K = R (K_c + E) + t.

    Returns:
        (..., K, 3) keypoints as seen in the picture.
    """
    deformation = expression.unflatten(-1, (-1, 3))
    if frame == "head":
        canonical = canonical + deformation
    posed = canonical @ rotation.transpose(-1, -2) + translation.unsqueeze(-2)
    return posed if frame == "head" else posed + deformation


def canonical_from_posed(
    posed: Tensor, rotation: Tensor, translation: Tensor, expression: Tensor, frame: ExpressionFrame = "camera"
) -> Tensor:
    """The inverse of `compose_keypoints`: the K_c (..., K, 3) that a pose and an expression turn into `posed`."""
    deformation = expression.unflatten(-1, (-1, 3))
    if frame == "camera":
        posed = posed - deformation
    canonical = (posed - translation.unsqueeze(-2)) @ rotation  # R^-1 = R^T, on row vectors
    return canonical - deformation if frame == "head" else canonical


def canonical_and_posed(
    detected: Tensor,
    rotation: Tensor,
    translation: Tensor,
    expression: Tensor,
    frame: ExpressionFrame = "camera",
    space: KeypointSpace = "canonical",
) -> tuple[Tensor, Tensor]:
    """K_c and K of a picture, (..., K, 3) each, from what a detector of either kind found in it.

    Args:
        detected: (..., K, 3), K_c for the space "canonical", as published; K, as seen in the picture, for "posed".
        rotation, translation, expression, frame: of the picture, as in `compose_keypoints`.
    """
    own = rotation, translation, expression, frame
    if space == "posed":
        return canonical_from_posed(detected, *own), detected
    return detected, compose_keypoints(detected, *own)


def hull_volume(canonical: Tensor) -> Tensor:
    """Volume V of the convex hull of each face's canonical keypoints: (B, K, 3) -> (B,)."""
    volumes = [ConvexHull(points).volume for points in canonical.detach().double().cpu().numpy()]
    return torch.tensor(volumes, dtype=canonical.dtype, device=canonical.device)


def centre_on_source(driving: Tensor, source: Tensor) -> Tensor:
    """Shift each clip's driving keypoints (B, F, K, 3) so that their mean equals that of source (B, K, 3)."""
    return driving - driving.mean((1, 2), keepdim=True) + source.mean(1)[:, None, None]
