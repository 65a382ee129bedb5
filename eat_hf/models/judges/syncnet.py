"""SyncNet, the judge of lip synchrony (Chung and Zisserman, 2016, second version): lips and sound as embeddings."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

COEFFICIENTS = 13  # MFCCs a row, at 100 rows a second
LIP_WINDOW = 5  # frames, at 25 a second
AUDIO_WINDOW, AUDIO_STEP = 20, 4  # rows: as long as five frames, and as one
WINDOWS_AT_ONCE = 32  # bounds the memory of a long clip

# (kernel, stride, padding) of everything that shrinks the picture before the last convolution
_LIP_GEOMETRY = ((7, 2, 0), (3, 2, 0), (5, 2, 1), (3, 2, 1), (3, 2, 0))


@dataclass
class SyncNetOutput(BaseOutput):
    """Attributes:
    lips: (B, T - 4, embedding), one window a video frame; window i starts at frame i.
    audio: (B, 1 + (M - 20) // 4, embedding), one window a video frame; window i starts at row 4i.
    """

    lips: Tensor
    audio: Tensor


class PictureConv3d(nn.Conv3d):
    """A 3D convolution with no extent in time, computed on single pictures: (N, C, H, W) -> (N, C', H', W').

    Its tensors have the shapes that they have in the public checkpoint.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int = 1, padding: int = 0):
        super().__init__(in_channels, out_channels, (1, size, size), (1, stride, stride), (0, padding, padding))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.squeeze(2), self.bias, self.stride[1:], self.padding[1:])


def _lip_map_size(image_size: int) -> int:
    """Side of the feature map that the last lip convolution reduces to one number."""
    size = image_size
    for kernel, stride, padding in _LIP_GEOMETRY:
        size = (size + 2 * padding - kernel) // stride + 1
        if size < 1:
            raise ValueError(f"image_size must be at least 51, not {image_size}.")
    return size


def _normed(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _head(in_features: int, hidden: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, embedding)
    )


class SyncNet(ModelMixin, ConfigMixin):
    """Embeds every five frames of a clip and the sound of the same time; close embeddings mean synchrony.

    The defaults are the public network, and tensors have its names and shapes.

    Args:
        image_size: pixels along a side of the frames, at least 51. Another size than 224 changes the kernel of the last
            lip convolution alone.
        lip_channels, audio_channels: widths of the six convolutions of each stream.
        hidden: units between each stream and its embedding.
        embedding: length of an embedding.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 224,
        lip_channels: tuple[int, ...] = (96, 256, 256, 256, 256, 512),
        audio_channels: tuple[int, ...] = (64, 192, 384, 256, 256, 512),
        hidden: int = 512,
        embedding: int = 1024,
    ):
        super().__init__()
        a = audio_channels
        self.netcnnaud = nn.Sequential(
            *_normed(nn.Conv2d(1, a[0], 3, padding=1), a[0]),
            nn.MaxPool2d(1),  # changes nothing, but the layers behind it are counted from here
            *_normed(nn.Conv2d(a[0], a[1], 3, padding=1), a[1]),
            nn.MaxPool2d(3, (1, 2)),
            *_normed(nn.Conv2d(a[1], a[2], 3, padding=1), a[2]),
            *_normed(nn.Conv2d(a[2], a[3], 3, padding=1), a[3]),
            *_normed(nn.Conv2d(a[3], a[4], 3, padding=1), a[4]),
            nn.MaxPool2d(3, 2),
            *_normed(nn.Conv2d(a[4], a[5], (5, 4)), a[5]),
        )
        c = lip_channels
        self.netcnnlip = nn.Sequential(
            # only the first layer looks at several frames: the others see pictures, which 2D layers do faster
            *_normed(nn.Conv3d(3, c[0], (LIP_WINDOW, 7, 7), (1, 2, 2)), c[0]),
            nn.MaxPool2d(3, 2),
            *_normed(PictureConv3d(c[0], c[1], 5, stride=2, padding=1), c[1]),
            nn.MaxPool2d(3, 2, padding=1),
            *_normed(PictureConv3d(c[1], c[2], 3, padding=1), c[2]),
            *_normed(PictureConv3d(c[2], c[3], 3, padding=1), c[3]),
            *_normed(PictureConv3d(c[3], c[4], 3, padding=1), c[4]),
            nn.MaxPool2d(3, 2),
            *_normed(PictureConv3d(c[4], c[5], _lip_map_size(image_size)), c[5]),
        )
        self.netfcaud = _head(a[5], hidden, embedding)
        self.netfclip = _head(c[5], hidden, embedding)

    def _encode_lip_windows(self, frames: Tensor) -> Tensor:
        clips = len(frames)
        x = self.netcnnlip[0](frames).transpose(1, 2).flatten(0, 1)  # windows become pictures of the batch
        x = self.netcnnlip[1:](x.contiguous(memory_format=torch.channels_last))
        return self.netfclip(x.flatten(1)).unflatten(0, (clips, -1))

    def encode_lips(self, frames: Tensor) -> Tensor:
        """Every five frames in a row: window i holds the frames i to i + 4.

        Args:
            frames: (B, 3, T, S, S), T at least 5, **BGR**, 0 to 255, 25 a second, cropped around the face.

        Returns:
            (B, T - 4, embedding).

        Raises:
            ValueError: fewer than five frames, or not of the size S that the network is made for.
        """
        size = self.config.image_size
        if frames.dim() != 5 or frames.shape[2] < LIP_WINDOW or frames.shape[3:] != (size, size):
            raise ValueError(
                f"frames must be (B, 3, T, {size}, {size}) with T >= {LIP_WINDOW}, not {tuple(frames.shape)}."
            )
        if self.training:  # batch norm needs to see all windows together
            return self._encode_lip_windows(frames)
        starts = range(0, frames.shape[2] - LIP_WINDOW + 1, WINDOWS_AT_ONCE)
        parts = (frames[:, :, start : start + WINDOWS_AT_ONCE + LIP_WINDOW - 1] for start in starts)
        return torch.cat([self._encode_lip_windows(part) for part in parts], 1)

    def encode_audio(self, mfcc: Tensor) -> Tensor:
        """Every 20 rows, from every fourth row on: window i sounds while the frames i to i + 4 are seen.

        Args:
            mfcc: (B, 1, 13, M), M at least 20, 100 rows a second, of samples in the range of 16 bit integers.

        Returns:
            (B, 1 + (M - 20) // 4, embedding).

        Raises:
            ValueError: fewer than 20 rows, or not 13 coefficients a row.
        """
        if mfcc.dim() != 4 or mfcc.shape[1:3] != (1, COEFFICIENTS) or mfcc.shape[3] < AUDIO_WINDOW:
            raise ValueError(
                f"mfcc must be (B, 1, {COEFFICIENTS}, M) with M >= {AUDIO_WINDOW}, not {tuple(mfcc.shape)}."
            )
        windows = mfcc.unfold(3, AUDIO_WINDOW, AUDIO_STEP).movedim(3, 1).flatten(0, 1)
        return self.netfcaud(self.netcnnaud(windows).flatten(1)).unflatten(0, (len(mfcc), -1))

    def forward(self, frames: Tensor, mfcc: Tensor) -> SyncNetOutput:
        """`encode_lips` and `encode_audio` in one."""
        return SyncNetOutput(lips=self.encode_lips(frames), audio=self.encode_audio(mfcc))
