"""An invisible mark in every video that is written, which `eat-hf detect-watermark` finds.

The same weak pattern is added to the brightness of every frame: waves of 10 to 36 periods a picture, whatever its size,
each with the sign that a key gives it (spread spectrum: Cox et al., "Secure spread spectrum watermarking for
multimedia", 1997). It stretches with the picture, so scaling keeps it. A pattern that stands still costs the encoder
next to nothing, does not flicker, and adds up over the frames, in which the face moves.

Whoever looks for it does not know what was cropped, so all croppings of up to 10 % on each side are tried, mirrored and
not.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

KEY = "eat_hf"
LOWEST, HIGHEST = 10, 36  # periods a picture; finer waves do not survive half the size, content drowns coarser ones
STRENGTH = 1.95  # root mean square of what is added to a picture, of values up to 255: 42.2 dB
MASKING = (1.0, 2.0)  # strength where a picture is smooth beside where it is busy
BUSY = 12.0  # standard deviation of brightness around a place
FOLLOW = 50  # frames after which the masking follows the picture
LOOK = 128  # pixels a side of the picture that is looked at
CROP, STEP = 0.1, 0.01  # of the picture, on each side: the most that is tried, and how finely
LONGEST_LOOK = 500  # frames
WHITE = 0.6  # how far the spectrum of what is looked at is made flat: 0 not at all, 1 altogether
FALSE_ALARM = 1e-5  # bound for a video that is called marked


@dataclass(frozen=True)
class WatermarkEvidence:
    """What was seen of the mark.

    Attributes:
        score: of waves that agree with the key, of the cropping where most do, in standard deviations of what chance
            gives one cropping. Chance gives the best of all about 4.
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
        of coins, Hoeffding's inequality gives exp(-score**2 / 2), whatever the picture; and each of the croppings tried
        is one more chance.
        """
        return min(1.0, LOOKS * math.exp(-(max(self.score, 0) ** 2) / 2))


class Watermark:
    """Marks the frames of one video, (H, W, 3) uint8 of one size, one after the other.

    The mark is weaker where the picture is smooth. Where that is, is looked up every two seconds.
    """

    def __init__(self, key: str = KEY):
        self.key, self._frames = key, 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """A marked copy."""
        if self._frames % FOLLOW == 0:
            self._lighter, self._darker = _shaped(frame, self.key)
        self._frames += 1
        return cv2.subtract(cv2.add(frame, self._lighter), self._darker)


def add_watermark(frame: np.ndarray, key: str = KEY) -> np.ndarray:
    """A marked copy of a frame (H, W, 3) uint8."""
    return Watermark(key)(frame)


def find_watermark(frames: Iterable[np.ndarray], key: str = KEY) -> WatermarkEvidence:
    """Look for the mark in frames (H, W, 3) uint8 RGB, all of one size: the first 500.

    Raises:
        ValueError: there is no frame.
    """
    total, count = None, 0
    for frame in frames:
        small = cv2.cvtColor(cv2.resize(frame, (LOOK, LOOK), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        total = small.astype(np.float32) if total is None else total + small
        count += 1
        if count == LONGEST_LOOK:
            break
    if total is None:
        raise ValueError("There is no frame to look at.")
    picture = _evened(total / count)
    return WatermarkEvidence(max(_best(picture, key), _best(picture[:, ::-1], key)), count)


def _evened(picture: np.ndarray) -> np.ndarray:
    """Without what is coarser than the waves, and edges no stronger than the rest, lest they drown it."""
    fine = picture - cv2.GaussianBlur(picture, (0, 0), 2.0)
    around = np.sqrt(cv2.GaussianBlur(fine**2, (0, 0), 1.5))
    return (fine / (around + 0.3)).clip(-1, 1)


STEPS = np.arange(round(CROP / STEP) + 1)  # of cropping, one side
TOTALS = np.arange(2 * STEPS[-1] + 1)  # of cropping, both sides together
LOOKS = 2 * len(STEPS) ** 4  # croppings of four sides, mirrored or not
THRESHOLD = math.sqrt(2 * math.log(LOOKS / FALSE_ALARM))


def _best(picture: np.ndarray, key: str) -> float:
    """The highest score of all croppings of a picture (LOOK, LOOK)."""
    signs, inside = _signs(key)
    along, down, shifts_along, shifts_down = _waves()
    best = 0.0
    rows = down @ picture  # (totals, 2 * HIGHEST + 1, LOOK)
    for right, waves in enumerate(along):
        spectra = rows @ waves  # (totals, 2 * HIGHEST + 1, HIGHEST + 1): the picture's share of every wave
        spectra *= inside / (np.abs(spectra) + 1e-3) ** WHITE  # content is strong in few waves
        spread = np.sqrt((np.abs(spectra) ** 2).sum((1, 2)))
        found = (shifts_down @ (spectra * signs.conj()) @ shifts_along.T).real  # (totals, steps down, steps along)
        scores = found / (spread[:, None, None] + 1e-9)
        possible = (STEPS[None, :, None] <= TOTALS[:, None, None]) & (STEPS <= right)
        best = max(best, float(scores[possible].max()))
    return best


@lru_cache
def _signs(key: str) -> tuple[np.ndarray, np.ndarray]:
    """Complex (2 * HIGHEST + 1, HIGHEST + 1): signs of the cosine and the sine of waves down and along; and which of
    them there are."""
    down, along = np.mgrid[-HIGHEST : HIGHEST + 1, : HIGHEST + 1]
    inside = (np.hypot(down, along) >= LOWEST) & (np.hypot(down, along) <= HIGHEST) & ((along > 0) | (down > 0))
    count = 2 * inside.size
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(key.encode()).digest(-(-count // 8)), np.uint8))[:count]
    cosine, sine = bits.reshape(2, *inside.shape).astype(np.float32) * 2 - 1
    return ((cosine - 1j * sine) * inside).astype(np.complex64), inside.astype(np.float32)


@lru_cache
def _waves() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Waves along (totals, LOOK, HIGHEST + 1) and down (totals, 2 * HIGHEST + 1, LOOK) of a picture of which the share
    1 - total * STEP is left; how they turn with what is cropped before it, (steps, waves)."""
    places = (np.arange(LOOK) + 0.5) / LOOK * (1 - TOTALS[:, None] * STEP)
    along, down = np.arange(HIGHEST + 1), np.arange(-HIGHEST, HIGHEST + 1)

    def turned(cycles: np.ndarray) -> np.ndarray:
        return np.exp(-2j * np.pi * cycles).astype(np.complex64)

    return (
        turned(places[:, :, None] * along),
        turned(places[:, None, :] * down[:, None]),
        turned(STEPS[:, None] * STEP * along),
        turned(STEPS[:, None] * STEP * down),
    )


@lru_cache(maxsize=8)
def _pattern(height: int, width: int, key: str) -> np.ndarray:
    """(H, W) float32, root mean square 1."""
    signs, _ = _signs(key)
    along, down = np.arange(HIGHEST + 1), np.arange(-HIGHEST, HIGHEST + 1)
    places_down, places_along = ((np.arange(size) + 0.5) / size for size in (height, width))
    waves_down = np.exp(2j * np.pi * places_down[:, None] * down).astype(np.complex64)
    waves_along = np.exp(2j * np.pi * along[:, None] * places_along).astype(np.complex64)
    pattern = (waves_down @ signs @ waves_along).real
    return pattern / np.sqrt((pattern**2).mean())


def _shaped(frame: np.ndarray, key: str) -> tuple[np.ndarray, np.ndarray]:
    """What is added to a frame and what is taken away, both (H, W, 3) uint8."""
    height, width = frame.shape[:2]
    grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (LOOK, LOOK), interpolation=cv2.INTER_AREA)
    grey = grey.astype(np.float32)
    around = (9, 9)
    deviation = np.sqrt((cv2.blur(grey**2, around) - cv2.blur(grey, around) ** 2).clip(0))
    smooth, busy = MASKING
    strength = smooth + (busy - smooth) * np.minimum(deviation / BUSY, 1)
    strength *= STRENGTH / np.sqrt((strength**2).mean())
    pattern = _pattern(height, width, key) * cv2.resize(strength, (width, height), interpolation=cv2.INTER_LINEAR)
    whole = np.rint(pattern).astype(np.int16)
    lighter, darker = (cv2.merge([part.clip(0, 255).astype(np.uint8)] * 3) for part in (whole, -whole))
    return lighter, darker
