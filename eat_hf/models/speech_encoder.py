"""The speech recogniser whose outputs tell A2ET what is being said (DeepSpeech 0.1, paper section 3.1)."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..audio import DEEPSPEECH_FEATURES, SAMPLING_RATE, deepspeech_features, semantic_windows

RELU_CEILING = 20.0


class DeepSpeechEncoder(ModelMixin, ConfigMixin):
    """Speech at 16 kHz -> windows of character (or phoneme) scores around every video frame.

    Three dense layers, a bidirectional LSTM and two dense layers, with ReLUs clipped at 20.

    Args:
        hidden: units of the first two and the fifth layer.
        lstm_input: units of the third layer; None is twice `hidden`.
        lstm_hidden: units of the LSTM, per direction; None is `hidden`.
        classes: scores a row; they are not normalised.
        window: rows in one frame's window.
    """

    @register_to_config
    def __init__(
        self,
        hidden: int = 2048,
        lstm_input: int | None = None,
        lstm_hidden: int | None = None,
        classes: int = 29,
        window: int = 16,
    ):
        super().__init__()
        lstm_input, lstm_hidden = lstm_input or 2 * hidden, lstm_hidden or hidden
        self.dense1 = nn.Linear(DEEPSPEECH_FEATURES, hidden)
        self.dense2 = nn.Linear(hidden, hidden)
        self.dense3 = nn.Linear(hidden, lstm_input)
        self.lstm = nn.LSTM(lstm_input, lstm_hidden, batch_first=True, bidirectional=True)
        self.dense5 = nn.Linear(2 * lstm_hidden, hidden)
        self.dense6 = nn.Linear(hidden, classes)
        with torch.no_grad():  # start by remembering: one bias holds the 1 that DeepSpeech adds to its forget gates
            for suffix in ("", "_reverse"):
                getattr(self.lstm, f"bias_ih_l0{suffix}")[lstm_hidden : 2 * lstm_hidden] = 1.0
                getattr(self.lstm, f"bias_hh_l0{suffix}").zero_()

    def logits(self, features: Tensor) -> Tensor:
        """Rows of `audio.deepspeech_features` (B, rows, 494) -> scores (B, rows, classes), both 50 a second."""
        x = features
        for layer in (self.dense1, self.dense2, self.dense3):
            x = layer(x).clamp(0, RELU_CEILING)
        x = self.lstm(x)[0]
        return self.dense6(self.dense5(x).clamp(0, RELU_CEILING))

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (B, N) at 16 kHz in [-1, 1] -> semantic features (B, T, 16, classes), 25 a second.

        Each clip is standardised by itself, so a batch gives what its clips give one by one.
        """
        features = torch.stack([deepspeech_features(clip) for clip in waveform.detach().float().cpu()])
        logits = self.logits(features.to(self.device, self.dtype))
        return semantic_windows(logits, waveform.shape[-1] / SAMPLING_RATE, self.config.window)
