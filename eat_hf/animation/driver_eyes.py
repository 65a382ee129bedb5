"""Blinks and gaze of the person in a driving video, as far as the bundled detector sees them."""

from dataclasses import dataclass, replace

import torch
from scipy.ndimage import median_filter
from torch import Tensor

from .. import keypoints as kp
from ..inputs.head_motion import HeadMotion
from ..models.eye_decoder import DEGREE, EyePoints
from .networks import Networks
from .portrait import FaceMotion

USUAL = 0.75  # quantile of how open eyes are in a video that counts as open
OPEN, SHUT = 0.75, 0.3  # of that: from where on lids count as closing, and as shut
NARROWEST = 0.15  # how open eyes usually are at least, in widths of the eye; less is a face with shut eyes
HIDDEN = (25.0, 40.0)  # degrees that a head is turned: from where on an eye is seen badly, and not at all
STEADY = 5  # frames whose median is the gaze: trembling goes, saccades stay


@dataclass(frozen=True)
class EyeReader:
    """A detector of keypoints as seen in the picture, and which of them are the eyes'."""

    networks: Networks
    eyes: list[int]

    @classmethod
    def of(cls, networks: Networks) -> "EyeReader | None":
        """None for networks that do not find eyes, such as the published ones."""
        eyes = networks.repos_net.config.get("eyes")
        sees = networks.keypoint_detector.config.keypoint_space == "posed"
        return cls(networks, list(eyes)) if eyes and sees else None

    def read(self, pixel_values: Tensor, motion: FaceMotion) -> Tensor:
        """Pictures (n, 3, 256, 256) whose pose is known -> keypoints of frontal faces (n, K, 3)."""
        seen = self.networks.keypoint_detector(pixel_values).keypoints
        nothing = torch.zeros_like(motion.expression)
        return kp.canonical_from_posed(seen, motion.rotation, motion.translation, nothing, "head").cpu()

    def move(self, motion: HeadMotion, keypoints: Tensor) -> HeadMotion:
        """The motion with the blinks and the gaze of a video's frontal keypoints (F, K, 3), both from how these eyes
        usually are."""
        points = EyePoints.of(keypoints, self.eyes)
        openness = points.openness.mean(1)
        usual = openness.quantile(USUAL).clamp_min(NARROWEST)
        seen = ((HIDDEN[1] - motion.yaw.abs()) / (HIDDEN[1] - HIDDEN[0])).clamp(0, 1)
        closure = seen * ((OPEN - openness / usual) / (OPEN - SHUT)).clamp(0, 1)
        steady = torch.from_numpy(median_filter((points.looking / DEGREE).numpy(), (STEADY, 1), mode="nearest"))
        awake = closure < 0.5
        straight = steady[awake].median(0).values if awake.any() else steady.median(0).values
        gaze = (steady - straight) * (seen * (1 - closure))[:, None]
        return replace(motion, blink=closure, gaze=gaze.clamp(-60, 60))
