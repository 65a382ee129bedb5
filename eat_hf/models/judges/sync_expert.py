"""The lip-sync expert behind the sync loss (paper section 3.1, Eq. 7): do this sound and these lips belong together?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

# (channels, kernel, stride, padding) of a convolution, or how many residual ones follow at the current width
Layer = tuple[int, int, int | tuple[int, int], int] | int

FACE_LAYERS: tuple[Layer, ...] = (
    (32, 7, 1, 3),
    (64, 5, (1, 2), 1),
    2,
    (128, 3, 2, 1),
    3,
    (256, 3, 2, 1),
    2,
    (512, 3, 2, 1),
    2,
    (512, 3, 2, 1),
    (512, 3, 1, 0),
    (512, 1, 1, 0),
)
AUDIO_LAYERS: tuple[Layer, ...] = (
    (32, 3, 1, 1),
    2,
    (64, 3, (3, 1), 1),
    2,
    (128, 3, 3, 1),
    2,
    (256, 3, (3, 2), 1),
    2,
    (512, 3, 1, 0),
    (512, 1, 1, 0),
)


@dataclass
class SyncOutput(BaseOutput):
    """Attributes (C = 512 at the official width):
    audio: (B, C) embeddings of length 1.
    face: (B, C) embeddings of length 1; their scalar product with `audio` is the cosine of Eq. 7.
    """

    audio: Tensor
    face: Tensor


class SyncBlock(nn.Module):
    """Convolution, batch norm, plus the input where `residual`, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int | tuple[int, int] = 1,
        padding: int = 1,
        residual: bool = False,
    ):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding), nn.BatchNorm2d(out_channels)
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_block(x)
        return F.relu(y + x if self.residual else y)


def _encoder(in_channels: int, layers: Sequence[Layer], width: float) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, int):
            blocks += [SyncBlock(in_channels, in_channels, residual=True) for _ in range(layer)]
        else:
            channels, kernel_size, stride, padding = layer
            out_channels = max(1, round(channels * width))
            blocks.append(SyncBlock(in_channels, out_channels, kernel_size, stride, padding))
            in_channels = out_channels
    return nn.Sequential(*blocks)


class SyncExpert(ModelMixin, ConfigMixin):
    """Five frames of the lower half of a face, and the mel spectrogram of the same 0.2 s, as two embeddings.

    Tensors are named as in the authors' release.

    Args:
        width: factor on the official network's 32 to 512 channels.
    """

    @register_to_config
    def __init__(self, width: float = 1.0):
        super().__init__()
        self.face_encoder = _encoder(15, FACE_LAYERS, width)
        self.audio_encoder = _encoder(1, AUDIO_LAYERS, width)

    def encode_audio(self, mel: Tensor) -> Tensor:
        """mel (B, 1, 80, 16), 80 bands at 80 steps a second, in [-4, 4] -> (B, C) of length 1."""
        return F.normalize(self.audio_encoder(mel).flatten(1))

    def encode_faces(self, faces: Tensor) -> Tensor:
        """faces (B, 15, 48, 96) in [0, 1], lower halves of five frames, channels stacked -> (B, C) of length 1."""
        return F.normalize(self.face_encoder(faces).flatten(1))

    def forward(self, mel: Tensor, faces: Tensor) -> SyncOutput:
        """mel (B, 1, 80, 16) and faces (B, 15, 48, 96), see `encode_audio` and `encode_faces`."""
        return SyncOutput(audio=self.encode_audio(mel), face=self.encode_faces(faces))
