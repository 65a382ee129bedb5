"""What `EATPipeline` takes and gives, and what it knows of a clip on the way: portrait, speech, pose, performance."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from .adapters import Adaptation
from .head_motion import HeadMotion
from .media import Recording, write_video
from .models.repos_net import SourceFeatures

ImageInput = str | os.PathLike | Image.Image | np.ndarray
AudioInput = str | os.PathLike | tuple[np.ndarray, int] | Recording
HeadMotionInput = str | os.PathLike | HeadMotion
OutputType = Literal["np", "pil", "pt"]


@dataclass
class EATPipelineOutput(BaseOutput):
    """Output of `EATPipeline`.

    Attributes:
        frames: (T, H, W, 3) uint8 for output_type "np"; T PIL pictures for "pil"; (T, 3, H, W) float32 in [0, 1] for
            "pt". H = W = 256, or the picture's own (even) size with `paste_back`.
        fps: frames per second.
        audio: (channels, M) float32, the recording as it was given.
        sampling_rate: of `audio`, Hz.
    """

    frames: np.ndarray | list[Image.Image] | Tensor
    fps: int
    audio: np.ndarray
    sampling_rate: int

    def save(self, path: str | os.PathLike, watermark: bool = True) -> None:
        """Write an mp4 (H.264 + AAC) that plays in a browser, and says in its metadata that it is AI-generated.

        Args:
            watermark: mark the frames invisibly as well, see `watermark`.

        Raises:
            UserError: the name does not end in .mp4, its folder does not exist, or the disk is full.
        """
        frames = self.frames
        if isinstance(frames, Tensor):
            frames = to_uint8(frames)
        pictures = (np.asarray(frame) for frame in frames)
        write_video(path, pictures, self.audio, self.sampling_rate, self.fps, watermark)


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


@dataclass
class Speech:
    """Attributes:
    semantic: (F, 16, 29), what is said around every frame; or F - 1 of them, where the last frame begins after the last
        whole window, and is said like the one before.
    mel: (F, 80), how it sounds.
    energy: (F,), root mean square of every frame's samples.
    """

    semantic: Tensor
    mel: Tensor
    energy: Tensor


@dataclass
class SpeechWindows:
    """Attributes:
    speech: (F, W, width), tokens of what is said around every frame.
    mel: (F, W, 80), how it sounds.
    head_pose: (F, width), the token of every frame's pose.
    """

    speech: Tensor
    mel: Tensor
    head_pose: Tensor


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


@dataclass
class Performance:
    """All that a clip's frames are rendered from.

    Attributes:
        portrait: who.
        drive: K_d (1, n, K, 3) of frames of some numbers (n,); it computes their expression.
        frames: numbers (F,) of the frames that are wanted.
        guidance: of the renderer: (1, width), (1, all frames, width), or None without emotional adaptation.
        adaptations: whose emotions show.
    """

    portrait: Portrait
    drive: Callable[[Tensor], Tensor]
    frames: Tensor
    guidance: Tensor | None
    adaptations: tuple[Adaptation, ...]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def driving(self) -> Tensor:
        """K_d (1, F, K, 3) of all of them."""
        return self.drive(self.frames)

    def only(self, frames: Sequence[int]) -> "Performance":
        """The same for some of the frames."""
        return replace(self, frames=self.frames[list(frames)])

    def pieces(self, first: int, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Driving keypoints (1, n, K, 3) and guidance of the first frames, then of `size` frames after the other,
        computed as they are asked for."""
        for part in filter(len, (self.frames[:first], *self.frames[first:].split(size))):
            changes = self.guidance is not None and self.guidance.dim() == 3
            yield self.drive(part), self.guidance[:, part] if changes else self.guidance  # type: ignore[index]


def to_uint8(frames: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] -> (N, H, W, 3) uint8."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
