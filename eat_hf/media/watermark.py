"""An invisible mark in every video that is written, which `eat-hf detect-watermark` finds.

The same weak pattern is added to the brightness of every frame: in each block of 8 x 8 pixels, a few DCT coefficients
of low frequency, which H.264 keeps, move by a constant up or down. The directions are random bits of a key (spread
spectrum: Cox et al., "Secure spread spectrum watermarking for multimedia", 1997). They repeat every 256 pixels.

A pattern that stands still costs the encoder next to nothing, does not flicker, and adds up over the frames, in which
the face moves. It is lost when a video is scaled, turned or cropped by other than multiples of 256 pixels.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy.fft import dctn, idctn

KEY = "eat_hf"
BLOCK, TILE = 8, 256  # pixels
COEFFICIENTS = (
    (0, 2),
    (1, 1),
    (2, 0),
    (1, 2),
    (2, 1),
    (2, 2),
    (0, 3),
    (3, 0),
)  # of a block's DCT, vertical and horizontal frequency
STRENGTH = 3.5  # of each, in units of an orthonormal DCT of values up to 255
LIMIT = 2 * STRENGTH  # of a coefficient, when looking: edges of the picture shall not drown the rest
THRESHOLD = 6.0
LONGEST_LOOK = 500  # frames


@dataclass(frozen=True)
class WatermarkEvidence:
    """What was seen of the mark.

    Attributes:
        score: of signs that agree with the key, weighted, in standard deviations of what chance gives: about 0 for a
            video without the mark.
        frames: how many were looked at.
    """

    score: float
    frames: int

    @property
    def marked(self) -> bool:
        return self.score > THRESHOLD

    @property
    def false_alarm(self) -> float:
        """A bound on the probability that a video without the mark scores this high.

        Such a video knows nothing of the key, so every sign agrees with it by the toss of a coin. For a weighted sum
        of coins, Hoeffding's inequality gives exp(-score**2 / 2), whatever the picture.
        """
        return math.exp(-(max(self.score, 0) ** 2) / 2)


def add_watermark(frame: np.ndarray, key: str = KEY) -> np.ndarray:
    """A marked copy of a frame (H, W, 3) uint8."""
    lighter, darker = _pattern(*frame.shape[:2], key)
    return cv2.subtract(cv2.add(frame, lighter), darker)


def find_watermark(frames: Iterable[np.ndarray], key: str = KEY) -> WatermarkEvidence:
    """Look for the mark in frames (H, W, 3) uint8 RGB, all of one size: the first 500.

    Raises:
        ValueError: there is no frame.
    """
    total, count = None, 0
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        total = grey if total is None else total + grey
        count += 1
        if count == LONGEST_LOOK:
            break
    if total is None:
        raise ValueError("There is no frame to look at.")
    brightness = total / count
    height, width = (-(-size // TILE) * TILE for size in brightness.shape)
    seen = _coefficients(brightness).clip(-LIMIT, LIMIT)
    # add up what lies on the same place of the tile
    blocks = TILE // BLOCK
    padding = ((0, height // BLOCK - seen.shape[0]), (0, width // BLOCK - seen.shape[1]), (0, 0))
    folded = np.pad(seen, padding).reshape(height // TILE, blocks, width // TILE, blocks, -1).sum((0, 2))
    spread = math.sqrt((folded**2).sum())
    return WatermarkEvidence(float((folded * _signs(key)).sum()) / spread if spread else 0.0, count)


def _coefficients(brightness: np.ndarray) -> np.ndarray:
    """(H, W) -> (H // 8, W // 8, 8) of all whole blocks."""
    rows, columns = (size // BLOCK for size in brightness.shape)
    blocks = brightness[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    spectrum = dctn(blocks, axes=(1, 3), norm="ortho")
    return np.stack([spectrum[:, vertical, :, horizontal] for vertical, horizontal in COEFFICIENTS], -1)


@lru_cache
def _signs(key: str) -> np.ndarray:
    """(32, 32, 8) of -1 and 1, the key's."""
    shape = (TILE // BLOCK, TILE // BLOCK, len(COEFFICIENTS))
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(key.encode()).digest(math.prod(shape) // 8), np.uint8))
    return bits.reshape(shape).astype(np.float32) * 2 - 1


@lru_cache(maxsize=8)
def _pattern(height: int, width: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """What is added and what is taken away, both (H, W, 3) uint8."""
    blocks = TILE // BLOCK
    spectrum = np.zeros((blocks, BLOCK, blocks, BLOCK))
    for index, (vertical, horizontal) in enumerate(COEFFICIENTS):
        spectrum[:, vertical, :, horizontal] = STRENGTH * _signs(key)[..., index]
    tile = idctn(spectrum, axes=(1, 3), norm="ortho").reshape(TILE, TILE).round()
    repeated = np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width, None].repeat(3, 2)
    return repeated.clip(0).astype(np.uint8), (-repeated).clip(0).astype(np.uint8)
