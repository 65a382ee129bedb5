"""All of a clip but its pictures: driving keypoints and guidance of every frame (Eq. 1)."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import keypoints as kp
from ..inputs.head_motion import HeadMotion
from ..models.expression_basis import ExpressionBasis
from .expression import EmotionMix, SpeechFeatures, SpeechTokens, move_eyes, predict_expression
from .head_pose import HeadPose, pose_head
from .networks import Networks
from .portrait import Portrait

AHEAD = 48  # frames, at least, whose expression is computed at a time


@dataclass
class ClipPlan:
    """All that a clip's frames are rendered from.

    Attributes:
        portrait: who.
        drive: K_d (1, n, K, 3) of frames of some numbers (n,); it computes their expression.
        frames: numbers (F,) of the frames that are wanted.
        mix: whose emotions show; None before emotional adaptation.
        guidance: of the renderer: (1, width), (1, all frames, width), or None without a mix.
        batch_size: frames computed at a time.
    """

    portrait: Portrait
    drive: Callable[[Tensor], Tensor]
    frames: Tensor
    mix: EmotionMix | None
    guidance: Tensor | None
    batch_size: int

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def driving(self) -> Tensor:
        """K_d (1, F, K, 3) of all of them."""
        return self.drive(self.frames)

    def only(self, frames: Sequence[int]) -> "ClipPlan":
        """The same for some of the frames."""
        return replace(self, frames=self.frames[list(frames)])

    def pieces(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Driving keypoints (1, n, K, 3) and guidance of frames after frames, computed as they are asked for: of one
        batch first, for whoever watches waits for it."""
        first, size = self.batch_size, _ahead(self.batch_size)
        for part in filter(len, (self.frames[:first], *self.frames[first:].split(size))):
            yield self.drive(part), guidance_of(self.guidance, part)


def guidance_of(guidance: Tensor | None, frames: Tensor | slice) -> Tensor | None:
    """That of some frames: all of it, unless it is (1, F, width) and changes from frame to frame."""
    return guidance[:, frames] if guidance is not None and guidance.dim() == 3 else guidance


def plan_clip(
    networks: Networks,
    portrait: Portrait,
    speech: SpeechFeatures,
    motion: HeadMotion,
    mix: EmotionMix | None,
    batch_size: int,
    watch: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter,
    tokens: SpeechTokens | None = None,
) -> ClipPlan:
    """The plan of a clip, whose expressions are computed where and when its frames are asked for.

    Only `driving_centring="clip"` has to know the expression of the last frame before it shows the first.

    Args:
        watch: shows how work that is done at once goes on; it passes pieces on.
        tokens: of speech that were made already.
    """
    basis = networks.expression_basis
    pose, eyes = pose_head(portrait, motion), move_eyes(basis, portrait, motion)
    everything = torch.arange(len(motion), device=speech.mel.device)

    def express(index: Tensor) -> Tensor:
        return predict_expression(networks, portrait, speech, pose, mix, batch_size, index, tokens) + eyes[index]

    def drive(index: Tensor) -> Tensor:
        return drive_keypoints(basis, portrait, pose.of(index), express(index))

    if basis.config.driving_centring == "clip":  # where a frame goes depends on all others
        pieces = watch(everything.split(_ahead(batch_size)))
        driving = drive_keypoints(basis, portrait, pose, torch.cat([express(index) for index in pieces]))

        def drive(index: Tensor) -> Tensor:
            return driving[:, index]

    guidance = None if mix is None else mix.guidance()
    return ClipPlan(portrait, drive, everything, mix, guidance, batch_size)


def drive_keypoints(basis: ExpressionBasis, portrait: Portrait, pose: HeadPose, expression: Tensor) -> Tensor:
    """K_d (1, F, K, 3) of Eq. 1 for E' (F, 3K). With `driving_centring="clip"` the frames must be all of a clip."""
    rotation = kp.rotation_from_degrees(*pose.angles)
    frame = basis.config.expression_frame
    driving = kp.compose_keypoints(portrait.canonical, rotation, pose.translation, expression, frame)[None]
    return kp.centre_on_source(driving, portrait.keypoints) if basis.config.driving_centring == "clip" else driving


def _ahead(batch_size: int) -> int:
    """Frames whose expression is computed at a time: many, for every frame is heard in the windows of ten others."""
    return batch_size * math.ceil(AHEAD / batch_size)
