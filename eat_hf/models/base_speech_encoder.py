"""What A2ET needs of whatever hears speech: waveform in, rows out, 50 a second."""

from abc import abstractmethod

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import Tensor

from ..constants import SAMPLING_RATE
from ..inputs.audio import semantic_windows


class BaseSpeechEncoder(ModelMixin, ConfigMixin):
    """Speech at 16 kHz -> rows that say what is spoken, and windows of them around every video frame.

    A subclass says how rows are made. Its configuration holds `classes`, the width of a row, and `window`, rows in one
    frame's window; and `lookahead`, if it does not have to know the whole recording.
    """

    @property
    def lookahead(self) -> float | None:
        """Seconds of sound after a row that it may depend on; None for whoever hears all of it first."""
        return self.config.get("lookahead")

    @abstractmethod
    def rows(self, waveform: Tensor) -> Tensor:
        """waveform (B, N) at 16 kHz in [-1, 1] -> (B, rows, classes), 50 a second, about N / 320; row r belongs to the
        time r / 50 s. Each clip is heard by itself, so a batch gives what its clips give one by one."""

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (B, N) at 16 kHz in [-1, 1] -> semantic features (B, T, window, classes), 25 a second.

        Windows are those of `audio.semantic_windows`. Neighbouring ones share memory: do not write to them.
        """
        return semantic_windows(self.rows(waveform), waveform.shape[-1] / SAMPLING_RATE, self.config.window)
