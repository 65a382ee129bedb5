"""How far landmarks of two faces lie apart: M-LMD over the mouth, F-LMD over the whole face (paper section 4.1)."""

import numpy as np

from ...errors import UserError

FACE = slice(0, 68)
MOUTH = slice(48, 68)


def landmark_distance(a: np.ndarray, b: np.ndarray, points: slice = FACE) -> np.ndarray:
    """Mean distance between corresponding landmarks once their centroids coincide: (T,), in the landmarks' pixels.

    Only the place is taken out, neither scale nor rotation, so the number depends on the size of the pictures (the
    paper's are aligned crops of 128 pixels).

    Args:
        a: (T, 68, 2) iBUG landmarks; frames of NaN, where no face was found, give NaN.
        b: the same shape.
        points: which of the 68 count; the centroid is theirs.

    Raises:
        UserError: the shapes differ.
    """
    if a.shape != b.shape or a.shape[1:] != (68, 2):
        raise UserError(f"Landmarks must be two arrays (T, 68, 2) of the same length, not {a.shape} and {b.shape}.")
    a, b = (p[:, points] - p[:, points].mean(1, keepdims=True) for p in (a, b))
    return np.linalg.norm(a - b, axis=-1).mean(-1)
