"""How near two videos are pixel by pixel: PSNR and SSIM, as scikit-image defines them.

The whole suite compares thousands of frames, so SSIM is written for speed: an order of magnitude less time than
scikit-image takes, same numbers to seven digits.
"""

import cv2
import numpy as np

from ...errors import UserError

PEAK = 255
WINDOW = 7  # side of SSIM's uniform window
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def check_pair(a: np.ndarray, b: np.ndarray) -> None:
    """Raises UserError unless both are uint8 frames (T, H, W, 3) of the same number and size."""
    for frames in (a, b):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise UserError(f"Frames must be uint8 RGB (T, H, W, 3), not {frames.dtype} {frames.shape}.")
    if a.shape != b.shape:
        (n, h, w), (m, k, v) = a.shape[:3], b.shape[:3]
        raise UserError(
            f"{n} frames of {w}x{h} cannot be compared with {m} of {v}x{k}; make both videos equally long and large."
        )


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal to noise ratio of every pair of frames (T, H, W, 3) uint8: (T,) dB, inf where they are identical.

    Raises:
        UserError: the videos differ in length or size.
    """
    check_pair(a, b)
    squares = np.array([cv2.norm(x, y, cv2.NORM_L2SQR) for x, y in zip(a, b, strict=True)])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 * a[0].size / squares) if len(a) else squares


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of every pair of frames (T, H, W, 3) uint8: (T,) in [-1, 1], 1 where they are identical.

    A 7 x 7 uniform window, sample covariance, mean over colours and over all pixels whose window lies inside.

    Raises:
        UserError: the videos differ in length or size, or a side is shorter than 7 pixels.
    """
    check_pair(a, b)
    if min(a.shape[1:3]) < WINDOW:
        raise UserError(f"SSIM needs frames of at least {WINDOW}x{WINDOW} pixels, not {a.shape[2]}x{a.shape[1]}.")
    # planes of one colour stay in the processor's cache
    pairs = zip(a, b, strict=True)
    return np.array([np.mean([_ssim_of_plane(x[..., c], y[..., c]) for c in range(3)]) for x, y in pairs])


def _ssim_of_plane(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.astype(np.float32), b.astype(np.float32)
    mean_x, mean_y, squares, product = (_window_means(v) for v in (x, y, x * x + y * y, x * y))
    means_product, means_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    covariance, variances = unbiased * (product - means_product), unbiased * (squares - means_squares)
    similarity = (2 * means_product + C1) * (2 * covariance + C2) / ((means_squares + C1) * (variances + C2))
    return float(similarity.mean(dtype=np.float64))


def _window_means(plane: np.ndarray) -> np.ndarray:
    edge = WINDOW // 2
    return cv2.blur(plane, (WINDOW, WINDOW))[edge:-edge, edge:-edge]
