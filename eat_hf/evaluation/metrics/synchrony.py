"""How well lips and voice go together: LSE-C and LSE-D from SyncNet's embeddings, computed as the public code does."""

from dataclasses import dataclass

import numpy as np

from ...errors import UserError

RADIUS = 15  # video frames


@dataclass(frozen=True)
class Synchrony:
    """Attributes:
    confidence: median minus minimum of the curve (LSE-C, the paper's "SyncNet"); higher is better.
    distance: minimum of the curve (LSE-D); lower is better.
    offset: video frames by which the lips come after their sound; negative where they come first.
    curve: (2 radius + 1,) mean distance of the lips to the sound -radius to radius frames later.
    """

    confidence: float
    distance: float
    offset: int
    curve: np.ndarray


def synchrony(lips: np.ndarray, audio: np.ndarray, radius: int = RADIUS) -> Synchrony:
    """Compare every window of lips with the sound up to `radius` frames before and after.

    Args:
        lips: (F, D) embeddings, one for every video frame that starts a window.
        audio: (F', D) at the same rate; the longer of the two is cut to the shorter one's length. Beyond the ends
            the sound's embedding counts as 0.

    Raises:
        UserError: either is empty.
    """
    if lips.ndim != 2 or audio.ndim != 2 or lips.shape[1] != audio.shape[1]:
        raise UserError(f"Embeddings must be (F, D) and (F', D), not {lips.shape} and {audio.shape}.")
    count = min(len(lips), len(audio))
    if count == 0:
        raise UserError("The clip is too short to judge how lips and voice go together; it needs 6 frames or more.")
    lips, audio = lips[:count].astype(np.float64), audio[:count].astype(np.float64)
    padded = np.pad(audio, ((radius, radius), (0, 0)))
    curve = np.array([np.linalg.norm(lips - padded[i : i + count], axis=1).mean() for i in range(2 * radius + 1)])
    best = int(curve.argmin())
    return Synchrony(
        confidence=float(np.median(curve) - curve[best]),
        distance=float(curve[best]),
        offset=radius - best,
        curve=curve,
    )
