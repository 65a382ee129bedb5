"""The head pose of every frame."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.head_motion import HeadMotion
from .driver_eyes import EyeReader
from .networks import Networks
from .portrait import Portrait, read_motion

DRIVING_SMOOTHING = 0.04  # seconds; takes the estimator's tremble out of a driving video's pose


@dataclass
class HeadPose:
    """Attributes:
    yaw, pitch, roll: (F,) degrees.
    translation: (F, 3).
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor

    @property
    def angles(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.yaw, self.pitch, self.roll

    def of(self, index: Tensor) -> "HeadPose":
        """That of some frames."""
        return HeadPose(**{name: values[index] for name, values in vars(self).items()})


def pose_head(portrait: Portrait, motion: HeadMotion) -> HeadPose:
    """The pose of every frame: the portrait's own with the motion added, or the motion's."""
    own, parts = portrait.motion, {}
    for name in ("yaw", "pitch", "roll", "translation"):
        values = getattr(motion, name).to(own.yaw)
        parts[name] = values + getattr(own, name) if motion.relative else values
    return HeadPose(**parts)


@torch.no_grad()
def follow_driver(networks: Networks, batches: Iterable[Tensor]) -> HeadMotion:
    """Head motion of a driving video, relative to its first frame; and its blinks and gaze, of networks that see eyes.

    Args:
        batches: its frames, (n, 3, 256, 256) in [0, 1] one after the other, around the face.
    """
    eyes = EyeReader.of(networks)
    read, keypoints = [], []
    for batch in batches:
        read.append(read_motion(networks.motion_estimator, batch))
        if eyes is not None:
            keypoints.append(eyes.read(batch, read[-1]))
    yaw, pitch, roll, translation = (
        torch.cat([getattr(motion, name) for motion in read]).cpu() for name in ("yaw", "pitch", "roll", "translation")
    )
    motion = HeadMotion(yaw, pitch, roll, translation, relative=False)
    smooth = motion.smoothed(DRIVING_SMOOTHING)
    if eyes is not None:
        smooth = eyes.move(smooth, torch.cat(keypoints))
    return smooth.relative_to_start()
