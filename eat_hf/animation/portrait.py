"""What the networks read in a portrait (paper section 3.1, Eq. 1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import keypoints as kp
from ..inputs.faces import AlignedPortrait
from ..models.motion_estimator import MotionEstimator
from ..models.repos_net import SourceFeatures
from .networks import KeypointDetector, Networks


@dataclass
class FaceMotion:
    """How N pictured faces are turned and what they express.

    Attributes:
        yaw, pitch, roll: (N,) degrees.
        translation: t (N, 3).
        expression: E (N, 3K).
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor
    expression: Tensor

    @property
    def angles(self) -> Tensor:
        """(N, 3) degrees."""
        return torch.stack([self.yaw, self.pitch, self.roll], -1)

    @property
    def rotation(self) -> Tensor:
        """R (N, 3, 3)."""
        return kp.rotation_from_degrees(self.yaw, self.pitch, self.roll)


@dataclass
class Portrait:
    """What the networks know about a picture. Tensors have a leading axis of one clip.

    Attributes:
        aligned: the picture, and where the face in it is.
        features: the renderer's encoding.
        canonical: K_c (1, K, 3); keypoints: K_s (1, K, 3).
        prediction_map: (1, K, D, H, W), from which A2ET sees the face.
        motion: the portrait's own.
    """

    aligned: AlignedPortrait
    features: SourceFeatures
    canonical: Tensor
    keypoints: Tensor
    prediction_map: Tensor
    motion: FaceMotion


def to_pixel_values(pictures: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32 in [0, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 255


def read_motion(estimator: MotionEstimator, pixel_values: Tensor) -> FaceMotion:
    """Pose and expression of the faces in pictures (N, 3, 256, 256) in [0, 1]."""
    read = estimator(pixel_values)
    yaw, pitch, roll = kp.degrees_from_logits(read.yaw, read.pitch, read.roll)
    return FaceMotion(yaw, pitch, roll, read.translation, read.expression)


def locate_keypoints(
    detector: KeypointDetector, pixel_values: Tensor, motion: FaceMotion, frame: kp.ExpressionFrame
) -> tuple[Tensor, Tensor, Tensor]:
    """K_c and K (N, K, 3) of pictures whose motion is known (Eq. 1), and the detector's prediction map."""
    detected = detector(pixel_values)
    canonical, posed = kp.canonical_and_posed(
        detected.keypoints,
        motion.rotation,
        motion.translation,
        motion.expression,
        frame,
        detector.config.keypoint_space,
    )
    return canonical, posed, detected.prediction_map


@torch.no_grad()
def read_portrait(networks: Networks, aligned: AlignedPortrait, device: torch.device) -> Portrait:
    """Encode the aligned face and find its keypoints, pose and expression."""
    pixel_values, detailed = (
        to_pixel_values(torch.from_numpy(picture[None]).to(device)) for picture in (aligned.crop, aligned.detailed)
    )
    motion = read_motion(networks.motion_estimator, pixel_values)
    frame = networks.expression_basis.config.expression_frame
    canonical, keypoints, prediction_map = locate_keypoints(networks.keypoint_detector, pixel_values, motion, frame)
    canonical = networks.expression_basis.rest_lips(canonical)
    features = networks.repos_net.encode(detailed)
    return Portrait(aligned, features, canonical, keypoints, prediction_map, motion)
