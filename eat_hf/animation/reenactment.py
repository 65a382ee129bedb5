"""One picture moved like another (Eq. 1): what training renders."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eat_hf import CanonicalKeypointDetector, MotionEstimator, RePosNet
from eat_hf.keypoints import (
    ExpressionFrame,
    KeypointSpace,
    canonical_and_posed,
    compose_keypoints,
    degrees_from_logits,
    rotation_from_degrees,
)


@dataclass
class Motion:
    """Attributes:
    angles: (N, 3) yaw, pitch, roll in degrees.
    rotation: R (N, 3, 3); translation: t (N, 3); expression: E (N, 3K).
    """

    angles: Tensor
    rotation: Tensor
    translation: Tensor
    expression: Tensor


class Reenactment(nn.Module):
    """The three networks as the pipeline drives them (Eq. 1), without its shift of a clip's keypoints."""

    def __init__(
        self,
        detector: CanonicalKeypointDetector,
        estimator: MotionEstimator,
        repos_net: RePosNet,
        keypoint_space: KeypointSpace = "canonical",
        expression_frame: ExpressionFrame = "camera",
    ):
        super().__init__()
        self.detector, self.estimator, self.repos_net = detector, estimator, repos_net
        self.space: KeypointSpace = keypoint_space
        self.frame: ExpressionFrame = expression_frame

    def motion(self, pictures: Tensor) -> Motion:
        """(N, 3, 256, 256) in [0, 1]."""
        out = self.estimator(pictures)
        angles = degrees_from_logits(out.yaw, out.pitch, out.roll)
        return Motion(torch.stack(angles, -1), rotation_from_degrees(*angles), out.translation, out.expression)

    def source_keypoints(self, pictures: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
        """K_c and K_s (N, K, 3) of pictures whose motion is known."""
        detected = self.detector(pictures).keypoints
        own = motion.rotation, motion.translation, motion.expression
        return canonical_and_posed(detected, *own, self.frame, self.space)

    def driving_keypoints(self, canonical: Tensor, motion: Motion) -> Tensor:
        """K_d (N, K, 3): the source's canonical keypoints in another motion."""
        return compose_keypoints(canonical, motion.rotation, motion.translation, motion.expression, self.frame)

    def keypoints_of_warped(self, pictures: Tensor, canonical: Tensor) -> Tensor:
        """(N, K, 3) in warped driving pictures, found by the network that sees where things are: the detector, if it
        returns posed keypoints; else the estimator, which moves the source's canonical ones."""
        if self.space == "posed":
            return self.detector(pictures).keypoints
        return self.driving_keypoints(canonical, self.motion(pictures))

    def forward(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor, Tensor, Motion]:
        """(N, 3, 256, 256) each -> frames like driving, K_c, K_d (N, K, 3), and the motion of both, source first."""
        both = self.motion(torch.cat([source, driving]))
        of_source, of_driving = (
            Motion(*parts) for parts in zip(*(value.chunk(2) for value in vars(both).values()), strict=True)
        )
        canonical, source_keypoints = self.source_keypoints(source, of_source)
        driving_keypoints = self.driving_keypoints(canonical, of_driving)
        frames = self.repos_net(source, source_keypoints, driving_keypoints[:, None]).frames[:, 0]
        return frames, canonical, driving_keypoints, both
