"""What the networks read in a portrait (paper section 3.1, Eq. 1)."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..models.repos_net import SourceFeatures


@dataclass
class Portrait:
    """What the network knows about a picture. Tensors have a leading axis of one clip.

    Attributes:
        picture: (H, W, 3) uint8, the whole picture.
        crop: (256, 256, 3) uint8, aligned.
        matrix: (2, 3), from the picture's pixels to the crop's.
        features: the renderer's encoding.
        canonical: K_c (1, K, 3); keypoints: K_s (1, K, 3).
        prediction_map: (1, K, D, H, W), from which A2ET sees the face.
        yaw, pitch, roll: (1,) degrees; translation: (1, 3); expression: (1, 3K), the portrait's own.
    """

    picture: np.ndarray
    crop: np.ndarray
    matrix: np.ndarray
    features: SourceFeatures
    canonical: Tensor
    keypoints: Tensor
    prediction_map: Tensor
    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor
    expression: Tensor
