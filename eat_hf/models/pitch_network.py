"""The pitch network (JDC) whose features tell A2ET's acoustic encoder about intonation."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.01


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
        x = F.max_pool2d(F.leaky_relu(self.pool_norm(x), SLOPE), (1, 2))
        return self.conv2(F.leaky_relu(self.norm(self.conv1(x)), SLOPE)) + self.shortcut(x)


class PitchNetwork(nn.Module):
    """Features of the pitch contour: mel (N, 1, mels, W) -> (N, widths[-1], mels / 8, W).

    It always uses its stored batch statistics, even in training mode, as EAT was trained.

    Args:
        widths: channels of the first convolution and of the residual blocks.
        heads: also hold the two recurrent classifiers (pitch class, voiced or not) of the pretrained pitch network.
            EAT never runs them; they exist so that a released checkpoint loads and saves whole.
        lstm: units of each classifier's LSTM, per direction.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 192, 256), heads: bool = True, lstm: int = 256):
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.conv2 = nn.Conv2d(widths[0], widths[0], 3, padding=1, bias=False)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.Sequential(*(PitchBlock(i, o) for i, o in pairs))
        self.output_norm = nn.BatchNorm2d(widths[-1])
        if heads:
            self.detector_conv = nn.Conv2d(sum(widths), widths[-1], 1, bias=False)
            self.detector_norm = nn.BatchNorm2d(widths[-1])
            self.pitch_lstm = nn.LSTM(2 * widths[-1], lstm, batch_first=True, bidirectional=True)
            self.voicing_lstm = nn.LSTM(2 * widths[-1], lstm, batch_first=True, bidirectional=True)
            self.pitch_head = nn.Linear(2 * lstm, 1)
            self.voicing_head = nn.Linear(2 * lstm, 2)

    def train(self, mode: bool = True) -> "PitchNetwork":
        """Stays in evaluation mode whatever `mode` says."""
        return super().train(False)

    def forward(self, mel: Tensor) -> Tensor:
        x = mel.transpose(2, 3)
        x = self.conv2(F.leaky_relu(self.norm(self.conv1(x)), SLOPE))
        x = F.leaky_relu(self.output_norm(self.blocks(x)), SLOPE)  # the pretrained network pools here; EAT does not
        return x.transpose(2, 3)
