"""One picture moved like another (Eq. 1), without a clip's shift of keypoints: what trainings render."""

import torch
from torch import Tensor, nn

from ..keypoints import ExpressionFrame, compose_keypoints
from ..models.motion_estimator import MotionEstimator
from .networks import KeypointDetector, Renderer
from .portrait import FaceMotion, locate_keypoints, read_motion


class Reenactment(nn.Module):
    """The three networks of stage 1a, as the pipeline drives them.

    Args:
        expression_frame: in which expressions are, see `ExpressionBasis`.
    """

    def __init__(
        self,
        detector: KeypointDetector,
        estimator: MotionEstimator,
        repos_net: Renderer,
        expression_frame: ExpressionFrame = "camera",
    ):
        super().__init__()
        self.detector, self.estimator, self.repos_net = detector, estimator, repos_net
        self.frame: ExpressionFrame = expression_frame

    def motion(self, pictures: Tensor) -> FaceMotion:
        """(N, 3, 256, 256) in [0, 1]."""
        return read_motion(self.estimator, pictures)

    def source_keypoints(self, pictures: Tensor, motion: FaceMotion) -> tuple[Tensor, Tensor]:
        """K_c and K_s (N, K, 3) of pictures whose motion is known."""
        return locate_keypoints(self.detector, pictures, motion, self.frame)[:2]

    def driving_keypoints(self, canonical: Tensor, motion: FaceMotion) -> Tensor:
        """K_d (N, K, 3): the source's canonical keypoints in another motion."""
        return compose_keypoints(canonical, motion.rotation, motion.translation, motion.expression, self.frame)

    def keypoints_of_moved(self, pictures: Tensor, canonical: Tensor) -> Tensor:
        """(N, K, 3) in other pictures of a face, found by the network that sees where things are: the detector, if it
        returns posed keypoints; else the estimator, which moves the source's canonical ones."""
        if self.detector.config.keypoint_space == "posed":
            return self.detector(pictures).keypoints
        return self.driving_keypoints(canonical, self.motion(pictures))

    def forward(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor, Tensor, FaceMotion]:
        """(N, 3, 256, 256) each -> frames like driving, K_c, K_d (N, K, 3), and the motion of both, source first."""
        both = self.motion(torch.cat([source, driving]))
        of_source, of_driving = (
            FaceMotion(*parts) for parts in zip(*(value.chunk(2) for value in vars(both).values()), strict=True)
        )
        canonical, source_keypoints = self.source_keypoints(source, of_source)
        driving_keypoints = self.driving_keypoints(canonical, of_driving)
        frames = self.repos_net(source, source_keypoints, driving_keypoints[:, None]).frames[:, 0]
        return frames, canonical, driving_keypoints, both
