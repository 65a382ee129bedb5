"""The acoustic encoder of A2ET: a mel window and its pitch features, modulated by emotion, become a feature picture."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .eam import EmotionalAdaptationModule

SLOPE = 0.2
PITCH_SLOPE = 0.01


class GroupNormBlock(nn.Module):
    """Pre-activation residual block: (N, in, M, W) -> (N, out, M or M / 2, W).

    Args:
        halve: average-pool the mel axis M by two.
    """

    def __init__(self, in_channels: int, out_channels: int, halve: bool = False, groups: int = 8):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, in_channels)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.halve = halve

    def _resize(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, (2, 1)) if self.halve else x

    def forward(self, x: Tensor) -> Tensor:
        y = self._resize(self.conv1(F.leaky_relu(self.norm1(x), SLOPE)))
        y = self.conv2(F.leaky_relu(self.norm2(y), SLOPE))
        return (y + self._resize(self.shortcut(x))) / math.sqrt(2)


class AdaptiveInstanceNorm(nn.Module):
    """Instance norm without learned scale, then the emotional adaptation module: (N, C, M, W) -> same."""

    def __init__(self, channels: int, guidance: int):
        super().__init__()
        self.eam = EmotionalAdaptationModule(channels, guidance)

    def forward(self, x: Tensor, guidance: Tensor | None = None) -> Tensor:
        return self.eam(F.instance_norm(x), guidance)


class AdaptiveBlock(nn.Module):
    """Residual block with adaptive instance norm: (N, in, M, W), guidance (N, width) -> (N, out, M or 2M, W).

    Args:
        enlarge: nearest-neighbour upscale of the mel axis M by two.
    """

    def __init__(self, in_channels: int, out_channels: int, enlarge: bool, guidance: int):
        super().__init__()
        self.norm1 = AdaptiveInstanceNorm(in_channels, guidance)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = AdaptiveInstanceNorm(out_channels, guidance)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.enlarge = enlarge

    def _resize(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2) if self.enlarge else x

    def forward(self, x: Tensor, guidance: Tensor | None = None) -> Tensor:
        y = self.conv1(self._resize(F.leaky_relu(self.norm1(x, guidance), SLOPE)))
        y = self.conv2(F.leaky_relu(self.norm2(y, guidance), SLOPE))
        return (y + self._resize(self.shortcut(x))) / math.sqrt(2)


class AcousticEncoder(nn.Module):
    """mel (N, 1, mels, W), pitch (N, pitch_channels, P, W), guidance -> (N, decode_widths[-1], mels, W).

    Args:
        encode_widths: channels of the first convolution and of the encoding blocks; the first three blocks halve
            the mel axis.
        pitch_channels: channels of the pitch features.
        pitch_width: channels they are reduced to before they join the encoded mel.
        decode_widths: channels after every decoding block; the last three double the mel axis.
        guidance: width of the emotional guidance embedding.
    """

    HALVINGS = 3

    def __init__(
        self,
        encode_widths: Sequence[int] = (64, 128, 256, 512, 512, 512),
        pitch_channels: int = 256,
        pitch_width: int = 128,
        decode_widths: Sequence[int] = (640, 640, 512, 256, 128, 64),
        guidance: int = 128,
    ):
        super().__init__()
        self.stem = nn.Conv2d(1, encode_widths[0], 3, padding=1)
        pairs = zip(encode_widths[:-1], encode_widths[1:], strict=True)
        self.encode = nn.Sequential(*(GroupNormBlock(i, o, n < self.HALVINGS) for n, (i, o) in enumerate(pairs)))
        self.pitch_block = GroupNormBlock(pitch_channels, pitch_width)
        in_widths = (encode_widths[-1] + pitch_width, *decode_widths[:-1])
        first_doubling = len(decode_widths) - self.HALVINGS
        self.decode = nn.ModuleList(
            AdaptiveBlock(i, o, n >= first_doubling, guidance)
            for n, (i, o) in enumerate(zip(in_widths, decode_widths, strict=True))
        )

    def forward(self, mel: Tensor, pitch: Tensor, guidance: Tensor | None = None) -> Tensor:
        x = self.encode(self.stem(mel))
        pitch = F.adaptive_avg_pool2d(self.pitch_block(pitch), x.shape[2:])
        x = torch.cat([x, pitch], 1)
        for block in self.decode:
            x = block(x, guidance)
        return x


class PitchBlock(nn.Module):
    """Norm, activation and max-pooling of the mel axis, then two convolutions beside a 1x1 one.

    (N, in, W, mels) -> (N, out, W, mels / 2).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.pool_norm = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.leaky_relu(self.pool_norm(x), PITCH_SLOPE), (1, 2))
        return self.conv2(F.leaky_relu(self.norm(self.conv1(x)), PITCH_SLOPE)) + self.shortcut(x)


class PitchNetwork(nn.Module):
    """JDC, whose features tell about intonation: mel (N, 1, mels, W) -> (N, widths[-1], mels / 8, W).

    The pretrained network goes on to classify pitch and voicing; EAT never does, so that part is not here. It always
    uses its stored batch statistics, even in training mode, as EAT was trained.

    Args:
        widths: channels of the first convolution and of the residual blocks.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 192, 256)):
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.conv2 = nn.Conv2d(widths[0], widths[0], 3, padding=1, bias=False)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.Sequential(*(PitchBlock(i, o) for i, o in pairs))
        self.output_norm = nn.BatchNorm2d(widths[-1])

    def train(self, mode: bool = True) -> "PitchNetwork":
        """Stays in evaluation mode whatever `mode` says."""
        return super().train(False)

    def forward(self, mel: Tensor) -> Tensor:
        x = mel.transpose(2, 3)
        x = self.conv2(F.leaky_relu(self.norm(self.conv1(x)), PITCH_SLOPE))
        x = F.leaky_relu(
            self.output_norm(self.blocks(x)), PITCH_SLOPE
        )  # the pretrained network pools here; EAT does not
        return x.transpose(2, 3)
