"""The speech recogniser whose outputs tell A2ET what is being said (DeepSpeech 0.1, paper section 3.1)."""

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..inputs.audio import DEEPSPEECH_FEATURES, deepspeech_features
from .base_speech_encoder import BaseSpeechEncoder

RELU_CEILING = 20.0
BLOCK = 2048  # rows, 41 s of sound; longer recordings are heard in such blocks


class DeepSpeechEncoder(BaseSpeechEncoder):
    """Speech at 16 kHz -> windows of character (or phoneme) scores around every video frame.

    Three dense layers, a bidirectional LSTM and two dense layers, with ReLUs clipped at 20.

    Args:
        hidden: units of the first two and the fifth layer.
        lstm_input: units of the third layer; None is twice `hidden`.
        lstm_hidden: units of the LSTM, per direction; None is `hidden`.
        classes: scores a row; they are not normalised.
        window: rows in one frame's window.
    """

    _no_split_modules = ["DeepSpeechEncoder"]  # long recordings take its LSTM apart

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

    @property
    def delay(self) -> int:
        """Rows of `features` after a row at which its scores are read off: none, for all are heard at once."""
        return 0

    def features(self, waveform: Tensor) -> Tensor:
        """(N,) at 16 kHz -> rows (rows, 494) for `logits`."""
        return deepspeech_features(waveform)

    def logits(self, features: Tensor) -> Tensor:
        """Rows of `features` (B, rows, 494) -> scores (B, rows, classes), both 50 a second."""
        return self._scores(self.lstm(self._heard(features))[0])

    def _heard(self, features: Tensor) -> Tensor:
        x = features
        for layer in (self.dense1, self.dense2, self.dense3):
            x = layer(x).clamp(0, RELU_CEILING)
        return x

    def _scores(self, remembered: Tensor) -> Tensor:
        return self.dense6(self.dense5(remembered).clamp(0, RELU_CEILING))

    def _one_way(self, suffix: str) -> nn.LSTM:
        """The LSTM that reads in one direction, with the same weights."""
        lstm = nn.LSTM(self.lstm.input_size, self.lstm.hidden_size, batch_first=True, device="meta")
        lstm.load_state_dict({name: getattr(self.lstm, name + suffix) for name in lstm.state_dict()}, assign=True)
        return lstm

    def _logits_of_long(self, features: Tensor) -> Tensor:
        """`logits` with little more in memory at a time than one direction's outputs: block after block, first from
        the end to the start and then back."""
        blocks = features.split(BLOCK, 1)
        backwards, forwards = self._one_way("_reverse"), self._one_way("")
        state, later = None, []
        for block in reversed(blocks):
            remembered, state = backwards(self._heard(block).flip(1), state)
            later.append(remembered.flip(1))
        state, scores = None, []
        for block in blocks:
            remembered, state = forwards(self._heard(block), state)
            scores.append(self._scores(torch.cat([remembered, later.pop()], 2)))
        return torch.cat(scores, 1)

    @torch.no_grad()
    def rows(self, waveform: Tensor) -> Tensor:
        """See `BaseSpeechEncoder`; each clip is standardised by itself."""
        logits = []
        for clip in waveform.float().cpu():
            features = self.features(clip)[None].to(waveform.device, self.dtype)
            logits.append(self.logits(features) if features.shape[1] <= BLOCK else self._logits_of_long(features))
        return torch.cat(logits)
