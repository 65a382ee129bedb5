"""What `EATPipeline` gives."""

import os
from dataclasses import InitVar, dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from ..animation.rendering import to_uint8
from ..constants import FPS
from ..media.recordings import Recording
from ..media.videos import write_video
from .arguments import OutputType


@dataclass
class EATPipelineOutput(BaseOutput):
    """Output of `EATPipeline`.

    Attributes:
        frames: (T, H, W, 3) uint8 for output_type "np"; T PIL pictures for "pil"; (T, 3, H, W) float32 in [0, 1] for
            "pt". H = W = `size`, or the picture's own (even) size with `paste_back`.
        fps: frames per second.
        audio: (channels, M) float32, the recording as it was given.
        sampling_rate: of `audio`, Hz.
        tags: title, artist and copyright that the recording's file states; no part of the tuple that pipelines give.
    """

    frames: np.ndarray | list[Image.Image] | Tensor
    fps: int
    audio: np.ndarray
    sampling_rate: int
    tags: InitVar[dict[str, str] | None] = None

    def __post_init__(self, tags: dict[str, str] | None) -> None:
        super().__post_init__()
        self.tags = tags or {}

    @classmethod
    def of(cls, frames: np.ndarray, recording: Recording, output_type: OutputType) -> "EATPipelineOutput":
        """(T, H, W, 3) uint8 frames as what was asked for, with their sound."""
        shown: np.ndarray | list[Image.Image] | Tensor = frames
        if output_type == "pil":
            shown = [Image.fromarray(frame) for frame in frames]
        elif output_type == "pt":
            shown = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        return cls(shown, FPS, recording.samples, recording.sampling_rate, tags=recording.tags)

    def save(self, path: str | os.PathLike, watermark: bool = True) -> None:
        """Write an mp4 (H.264 + AAC) that plays in a browser, and says in its metadata that it is AI-generated, beside
        what the recording's file states of itself.

        Args:
            watermark: mark the frames invisibly as well, see `watermark`.

        Raises:
            UserError: the name does not end in .mp4, its folder does not exist, or the disk is full.
        """
        frames = self.frames
        if isinstance(frames, Tensor):
            frames = to_uint8(frames)
        pictures = (np.asarray(frame) for frame in frames)
        samples = np.atleast_2d(self.audio)
        sound = Recording(samples, samples.shape[1], len(samples), self.sampling_rate, tags=self.tags)
        write_video(path, pictures, sound, fps=self.fps, watermark=watermark)
