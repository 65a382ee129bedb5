"""Pose pictures: a wire box seen from the head's pose, the form in which A2ET's speech branch reads head motion."""

import cv2
import numpy as np
import torch
from torch import Tensor

from ..models.layers import antialias_downscale

CANVAS = 256
FOCAL_LENGTH = 233.333
FRONT = (75.0, 0.0)  # half-size and depth of the front square
BACK = (100.0, 100.0)
THICKNESS = 2
DOWNSCALE = 4


def _closed_square(half_size: float, depth: float) -> list[tuple[float, float, float]]:
    corners = [(-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1)]
    return [(x * half_size, y * half_size, depth) for x, y in corners]


_BOX = np.array(_closed_square(*FRONT) + _closed_square(*BACK), np.float64)
_CAMERA = np.array([[FOCAL_LENGTH, 0, CANVAS / 2], [0, FOCAL_LENGTH, CANVAS / 2], [0, 0, 1]], np.float64)
_NO_DISTORTION = np.zeros((4, 1))
_FARTHEST_PIXEL = 2.0**30  # a corner almost in the camera plane projects past int32


def _draw(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(3, 3), (3,) float64 -> (256, 256) uint8, white lines on black."""
    points = cv2.projectPoints(_BOX, rotation, translation, _CAMERA, _NO_DISTORTION)[0].reshape(-1, 2)
    points = np.clip(points, -_FARTHEST_PIXEL, _FARTHEST_PIXEL).astype(np.int32)  # towards zero
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.polylines(canvas, [points], True, 255, THICKNESS, cv2.LINE_8)
    back = len(points) // 2
    for corner in (1, 2, 3):  # the polyline itself joins the two squares at corner 0
        cv2.line(canvas, points[corner].tolist(), points[back + corner].tolist(), 255, THICKNESS, cv2.LINE_8)
    return canvas


def pose_pictures(rotation: Tensor, translation: Tensor) -> Tensor:
    """Draw one picture a head pose.

    Args:
        rotation: (F, 3, 3), from `keypoints.pose_picture_rotation`.
        translation: (F, 3).

    Returns:
        (F, 64, 64) float32 in [0, 255]; the network was trained on this range.
    """
    rotations, translations = (x.detach().double().cpu().numpy() for x in (rotation, translation))
    canvases = [_draw(r, t) for r, t in zip(rotations, translations, strict=True)]
    pictures = torch.from_numpy(np.stack(canvases)).to(rotation.device, torch.float32)
    return antialias_downscale(pictures[:, None], DOWNSCALE)[:, 0]
