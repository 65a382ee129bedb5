"""A speech encoder that hears as it goes: what it says of a moment depends on a known stretch of sound after it."""

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ..constants import FPS, SAMPLING_RATE
from ..inputs.audio import SEMANTIC_RATE, SPEECH_AFTER, SPEECH_BEFORE, SPEECH_ROW, speech_mel
from .base_speech_encoder import BaseSpeechEncoder

State = list[Tensor]
ROWS = SEMANTIC_RATE // FPS  # rows that are heard at a time: those of one video frame


def reach(rows: int) -> int:
    """Samples that so many rows are made of."""
    return SPEECH_BEFORE + (rows - 1) * SPEECH_ROW + SPEECH_AFTER


class CausalBlock(nn.Module):
    """A residual convolution over a row and those before it; it adds what it finds to the middle one of them."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, width, rows), the kernel - 1 rows before -> (B, width, rows), the last kernel - 1 rows."""
        seen = torch.cat([before, x], 2)
        middle = before.shape[2] // 2
        found = F.relu(self.norm(self.conv(seen)))
        return seen[:, :, middle : middle + x.shape[2]] + found, seen[:, :, x.shape[2] :]


class StreamingSpeechEncoder(BaseSpeechEncoder):
    """Speech at 16 kHz -> windows of phoneme scores around every video frame, whole or piece by piece.

    Log-mel rows go through residual convolutions and an LSTM, all of which look back only; the scores of a row are read
    off some rows later, after `lookahead`. So `listen` gives, of sound in pieces of any length, the very features that
    a call gives of the whole: both hear it in steps of one video frame.

    Args:
        bands: mel bands.
        width: channels of all layers.
        kernel: rows that a convolution reads, odd.
        blocks: residual convolutions.
        classes: scores a row; they are not normalised.
        window: rows in one frame's window.
        lookahead: seconds of sound after a row that its scores may depend on, at most; at least 0.0125. A frame's
            window holds later rows, too, see `window_lookahead`.
    """

    @register_to_config
    def __init__(
        self,
        bands: int = 64,
        width: int = 160,
        kernel: int = 5,
        blocks: int = 4,
        classes: int = 29,
        window: int = 16,
        lookahead: float = 0.16,
    ):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that one row is its middle, got {kernel}.")
        if not SPEECH_AFTER / SAMPLING_RATE <= lookahead < math.inf:
            raise ValueError(f"lookahead must be at least {SPEECH_AFTER / SAMPLING_RATE} s, got {lookahead}.")
        self.first = nn.Conv1d(2 * bands, width, kernel)
        self.convolutions = nn.ModuleList(CausalBlock(width, kernel) for _ in range(blocks))
        self.memory = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    @property
    def delay(self) -> int:
        """Rows after a row at which its scores are read off: what fits into `lookahead`."""
        return int((round(self.config.lookahead * SAMPLING_RATE) - SPEECH_AFTER) // SPEECH_ROW)

    @property
    def window_lookahead(self) -> float:
        """Seconds of sound after a video frame's time that its window depends on; `listen` gives it then."""
        return ((self.rows_ahead - 1) * SPEECH_ROW + SPEECH_AFTER) / SAMPLING_RATE

    @property
    def rows_ahead(self) -> int:
        """Rows that are heard from a video frame's time on before its window is there, that of its time among them."""
        return self.config.window - self.config.window // 2 + self.delay

    def features(self, waveform: Tensor) -> Tensor:
        """(N,) at 16 kHz -> rows (round(N / 320) + delay, 2 * bands) for `logits`, silence after the end."""
        rows = round(len(waveform) / SPEECH_ROW) + self.delay
        after = (rows - 1) * SPEECH_ROW + SPEECH_AFTER - len(waveform)
        return speech_mel(F.pad(waveform.float(), (SPEECH_BEFORE, after))[None], self.config.bands)[0]

    def logits(self, features: Tensor) -> Tensor:
        """Rows of `features` (B, rows + delay, 2 * bands) -> scores (B, rows, classes), 50 a second.

        What was heard before them counts as nothing at all, which `features` of no sound would not.
        """
        return self.hear(features, self.silence(len(features), features))[0][:, self.delay :]

    @torch.no_grad()
    def rows(self, waveform: Tensor) -> Tensor:
        """See `BaseSpeechEncoder`; `forward` and `listen` go through the same sums in steps of one video frame."""
        return torch.cat([self.logits(self.features(clip)[None].to(self.dtype)) for clip in waveform])

    def silence(self, clips: int, like: Tensor) -> State:
        """What is remembered before the first row; on the device and with the type of `like`."""
        config = self.config
        return [
            like.new_zeros(clips, 2 * config.bands, config.kernel - 1),
            *(like.new_zeros(clips, config.width, config.kernel - 1) for _ in range(config.blocks)),
            *(like.new_zeros(1, clips, config.width) for _ in range(2)),
        ]

    @apply_forward_hook
    def hear(self, rows: Tensor, state: State) -> tuple[Tensor, State]:
        """The next rows (B, n, 2 * bands) and what is remembered of those before -> scores (B, n, classes) of the rows
        `delay` earlier, and what is remembered now."""
        seen = torch.cat([state[0], rows.transpose(1, 2)], 2)
        remembered = [seen[:, :, rows.shape[1] :]]
        x = F.relu(self.first(seen))
        for block, before in zip(self.convolutions, state[1:-2], strict=True):
            x, after = block(x, before)
            remembered.append(after)
        x = x.transpose(1, 2)
        recalled, memory = self.memory(x, (state[-2], state[-1]))
        return self.head(x + recalled), [*remembered, *memory]

    def listen(self, clips: int = 1) -> "Listening":
        """Begin to hear so many clips at once, whose sound comes in pieces."""
        return Listening(self, clips)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (B, N) at 16 kHz in [-1, 1] -> semantic features (B, T, 16, classes), 25 a second.

        Windows are those of `audio.semantic_windows`: window f starts 8 rows before frame f, zeros outside the clip.
        """
        return self.listen(len(waveform)).push(waveform, last=True)


class Listening:
    """Sound in pieces becomes the windows of scores that `StreamingSpeechEncoder` gives of the whole.

    It remembers a moment of sound and the network's state, however long it listens; any number may share an encoder.

    Attributes:
        frames: how many windows were given so far.
    """

    def __init__(self, encoder: StreamingSpeechEncoder, clips: int = 1):
        self.frames = 0
        self._encoder, self._clips = encoder, clips
        self._samples = 0  # that came
        self._read = -encoder.delay  # rows whose scores were read off; those before the clip are none
        # rows that are heard next: at first so many that every later step completes a window
        self._next = (encoder.rows_ahead - 1) % ROWS + 1
        self._over = False
        # made on the first sound's device: sound of which rows are still to be made, what the network remembers, and
        # the scores (B, n, classes) of which windows are still to be cut
        self._sound: Tensor | None = None
        self._state: State = []
        self._scores = torch.zeros(0)

    def finish(self) -> Tensor:
        """The sound is over -> the windows that are left, (B, frames, 16, classes).

        Raises:
            ValueError: it was over before.
        """
        return self.push(torch.zeros(self._clips, 0), last=True)

    @torch.no_grad()
    def push(self, waveform: Tensor, last: bool = False) -> Tensor:
        """The next sound -> the windows that no later sound can change and that were not given before.

        Args:
            waveform: (B, n) at 16 kHz in [-1, 1], n of any size.
            last: the sound is over with it, so all windows that are left can be given.

        Returns:
            (B, frames, 16, classes). Neighbouring windows share memory: do not write to them.

        Raises:
            ValueError: it is not (B, n), or the sound was over before.
        """
        if self._over:
            raise ValueError("This sound is over; begin another with `listen`.")
        if waveform.dim() != 2 or len(waveform) != self._clips:
            raise ValueError(f"waveform must be ({self._clips}, n), got {tuple(waveform.shape)}.")
        self._over = last
        self._samples += waveform.shape[1]
        points = max(1, round(self._samples / SPEECH_ROW) - 1)  # rows that `audio.semantic_windows` takes of it
        missing, left = 0, points - self._read
        if last and left > 0:  # silence, until all rows of the clip are read off
            pending = SPEECH_BEFORE if self._sound is None else self._sound.shape[1]
            rows = self._next + math.ceil(max(0, left - self._next) / ROWS) * ROWS
            missing = max(0, reach(rows) - pending - waveform.shape[1])
        self._hear(F.pad(waveform.float(), (0, missing)))
        return self._windows(points, last)

    def _hear(self, waveform: Tensor) -> None:
        """Read off the scores of what came, a video frame's rows at a time, so that sound in pieces and as a whole goes
        through the same sums."""
        encoder, config = self._encoder, self._encoder.config
        if self._sound is None:
            like = waveform.new_zeros((), dtype=encoder.dtype)
            self._sound = waveform.new_zeros(self._clips, SPEECH_BEFORE)
            self._state = encoder.silence(self._clips, like)
            self._scores = like.new_zeros(self._clips, config.window // 2, config.classes)  # before the clip
        sound = torch.cat([self._sound, waveform.to(self._sound.device)], 1)
        made, start = [self._scores], 0
        while sound.shape[1] - start >= reach(self._next):
            rows = speech_mel(sound[:, start : start + reach(self._next)], config.bands).to(encoder.dtype)
            scores, self._state = encoder.hear(rows, self._state)
            made.append(scores[:, max(0, -self._read) :])
            self._read += self._next
            start += self._next * SPEECH_ROW
            self._next = ROWS
        self._sound = sound[:, start:].clone()  # not a view of all that came
        self._scores = torch.cat(made, 1)

    def _windows(self, points: int, last: bool) -> Tensor:
        """Cut the windows whose rows are there: the first `points` of the clip, and none after it."""
        config = self._encoder.config
        inside = config.window // 2 + points - self.frames * ROWS
        scores = self._scores[:, :inside]
        if last:
            scores = F.pad(scores, (0, 0, 0, config.window))
            count = math.ceil(points / ROWS) - self.frames
        else:
            count = max(0, (scores.shape[1] - config.window) // ROWS + 1)
        self.frames += count
        self._scores = self._scores[:, count * ROWS :]
        if count == 0:
            return scores.new_zeros(self._clips, 0, config.window, config.classes)
        return scores.unfold(1, config.window, ROWS).transpose(2, 3)[:, :count]
