"""What `EATPipeline` gives."""

import os
from dataclasses import dataclass

import numpy as np
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from ..animation.rendering import to_uint8
from ..media.videos import write_video


@dataclass
class EATPipelineOutput(BaseOutput):
    """Output of `EATPipeline`.

    Attributes:
        frames: (T, H, W, 3) uint8 for output_type "np"; T PIL pictures for "pil"; (T, 3, H, W) float32 in [0, 1] for
            "pt". H = W = `size`, or the picture's own (even) size with `paste_back`.
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
