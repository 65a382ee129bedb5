"""What the network hears: log-mel pictures, DeepSpeech inputs and their windows around each video frame.

Everything works on mono speech at 16 kHz and follows the released network's preprocessing, so that converted weights
see the numbers they were trained on.
"""

import functools
import math

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor
from transformers.audio_utils import hertz_to_mel, mel_filter_bank, mel_to_hertz, spectrogram

from ..constants import FPS, SAMPLING_RATE

SEMANTIC_RATE = 50  # rows a second that DeepSpeech reads and writes

MEL_BANDS = 80
MEL_FFT = 2048
MEL_HOP = SAMPLING_RATE // FPS
CEPSTRA = 26
SPEECH_ROW = SAMPLING_RATE // SEMANTIC_RATE  # samples from row to row
SPEECH_WINDOW, SPEECH_FFT = 400, 512  # of the streaming encoder's spectra, two a row
# samples before and after a row's time that its two windows reach
SPEECH_BEFORE, SPEECH_AFTER = SPEECH_ROW // 2 + SPEECH_WINDOW // 2, SPEECH_WINDOW // 2
SYNC_FFT, SYNC_HOP = 800, 200  # the sync expert's spectrogram: 80 columns a second
CONTEXT = 9  # rows before and after the current one in a DeepSpeech input
DEEPSPEECH_FEATURES = CEPSTRA * (2 * CONTEXT + 1)  # 494

BLOCK = 512  # analysis windows taken at a time, so that long recordings need little memory

_EPSILON = np.finfo(float).eps


@functools.lru_cache(maxsize=1)
def mel_filters() -> Tensor:
    """(n_fft / 2 + 1, bands) triangles of height 1, equally spaced on the HTK mel scale up to half the rate."""
    bank = mel_filter_bank(MEL_FFT // 2 + 1, MEL_BANDS, 0.0, SAMPLING_RATE / 2, SAMPLING_RATE, mel_scale="htk")
    return torch.from_numpy(bank.astype(np.float32))


def log_mel(waveform: Tensor) -> Tensor:
    """Log-mel spectrogram at 25 columns a second, scaled as the acoustic encoder expects it.

    Args:
        waveform: (..., N) float at 16 kHz in [-1, 1], N > 1024.

    Returns:
        (..., 1 + N // 640, 80), (ln(1e-5 + mel power) + 4) / 4; column f is centred on video frame f.

    Raises:
        ValueError: the waveform is too short for one analysis window.
    """
    samples = waveform.shape[-1]
    _check_long_enough(samples)
    # windows are centred on their columns, with the waveform mirrored at both ends
    padded = torch.nn.functional.pad(waveform.reshape(-1, 1, samples), (MEL_HOP // 2,) * 2, "reflect")[:, 0]
    return _mel_columns(padded).reshape(*waveform.shape[:-1], -1, MEL_BANDS)


def _check_long_enough(samples: int) -> None:
    if samples <= MEL_FFT // 2:
        raise ValueError(f"The audio is too short: {samples} samples, but a mel column needs more than {MEL_FFT // 2}.")


def _mel_columns(padded: Tensor) -> Tensor:
    """(B, N) samples, the first of them half a window before the first column -> (B, N // 640, 80)."""
    window = torch.hann_window(MEL_HOP, dtype=padded.dtype, device=padded.device)
    columns = []
    for frames in padded.unfold(1, MEL_HOP, MEL_HOP).split(BLOCK, 1):
        power = torch.fft.rfft(frames * window, MEL_FFT).abs().square() @ mel_filters().to(padded)
        columns.append((torch.log(1e-5 + power) + 4) / 4)
    return torch.cat(columns, 1)


class MelInPieces:
    """`log_mel` of sound that comes in pieces: the same columns, up to rounding, however it is cut.

    Attributes:
        LOOKAHEAD: seconds of sound after a column's time that it depends on.
    """

    LOOKAHEAD = MEL_HOP / 2 / SAMPLING_RATE

    def __init__(self) -> None:
        self._samples = self._columns = 0  # that came, that were given
        self._sound: Tensor | None = None  # from a sample before the next column's window on

    def push(self, waveform: Tensor, last: bool = False) -> Tensor:
        """The next sound (n,), n of any size -> (columns, 80), those that no later sound can change and that were not
        given before.

        Args:
            last: the sound is over with it, so all columns that are left are given.

        Raises:
            ValueError: the sound is over, and too short for one analysis window.
        """
        half = MEL_HOP // 2
        self._samples += len(waveform)
        if last:
            _check_long_enough(self._samples)
        sound = waveform if self._sound is None else torch.cat([self._sound, waveform.to(self._sound)])
        before = 0 if self._columns == 0 else half + 1  # samples in memory before the next column's time
        heard = len(sound) - before  # and after it
        count = (heard + half) // MEL_HOP
        padded = sound
        if last:
            count = 1 + self._samples // MEL_HOP - self._columns
            missing = max(0, (count - 1) * MEL_HOP + half - heard)
            padded = torch.cat([sound, sound[len(sound) - 1 - missing : len(sound) - 1].flip(0)])
        if count == 0 or (self._columns == 0 and len(sound) <= half):
            self._sound = sound.clone()
            return waveform.new_zeros(0, MEL_BANDS)
        if self._columns == 0:
            padded = torch.cat([sound[1 : half + 1].flip(0), padded])
        else:
            padded = padded[1:]
        self._columns += count
        self._sound = sound[before + count * MEL_HOP - half - 1 :].clone()
        return _mel_columns(padded[None, : count * MEL_HOP])[0]


@functools.lru_cache(maxsize=4)
def _speech_filters(bands: int) -> Tensor:
    """(257, bands) triangles of height 1, equally spaced on the HTK mel scale up to half the rate."""
    bank = mel_filter_bank(SPEECH_FFT // 2 + 1, bands, 0.0, SAMPLING_RATE / 2, SAMPLING_RATE, mel_scale="htk")
    return torch.from_numpy(bank.astype(np.float32))


def speech_mel(waveform: Tensor, bands: int = 64) -> Tensor:
    """Rows of log-mel spectra at 50 a second, which `StreamingSpeechEncoder` reads.

    Args:
        waveform: (B, N) float32 at 16 kHz in [-1, 1]; the first row belongs to sample 360, every next one to 320 after,
            and the sound of a row is that from 360 samples before to 200 after.

    Returns:
        (B, 1 + (N - 560) // 320, 2 * bands), (ln(1e-5 + mel power) + 4) / 4 of two 25 ms Hann windows, the first
        centred 10 ms before the row, the second on it.
    """
    count = 1 + (waveform.shape[-1] - SPEECH_BEFORE - SPEECH_AFTER) // SPEECH_ROW
    frames = waveform.unfold(1, SPEECH_WINDOW, SPEECH_ROW // 2)[:, : 2 * count]
    window = torch.hann_window(SPEECH_WINDOW, device=waveform.device)
    power = torch.fft.rfft(frames * window, SPEECH_FFT).abs().square()
    mel = power @ _speech_filters(bands).to(waveform.device)
    return ((torch.log(1e-5 + mel) + 4) / 4).flatten(2).unflatten(1, (count, 2)).flatten(2)


def loudness(waveform: Tensor, frames: int) -> Tensor:
    """(N,) samples at 16 kHz -> (frames,) root mean square of the sound of every video frame; silence after the end."""
    hop = SAMPLING_RATE // FPS
    padded = torch.nn.functional.pad(waveform, (0, max(0, frames * hop - len(waveform))))[: frames * hop]
    return padded.reshape(frames, hop).square().mean(1).sqrt()


def sync_mel(waveform: np.ndarray) -> np.ndarray:
    """The spectrogram of the sync expert (Wav2Lip's): (N,) float at 16 kHz -> (1 + N // 200, 80) float32 in [-4, 4].

    Pre-emphasis 0.97, magnitudes of 50 ms windows every 12.5 ms, 80 Slaney mel bands from 55 to 7600 Hz, decibels;
    80 dB below full scale and less become -4, 20 dB above it 4. The window of video frame f starts at row 80 f / 25.
    """
    samples = np.asarray(waveform, np.float64)
    emphasised = np.concatenate([samples[:1], samples[1:] - 0.97 * samples[:-1]])
    magnitudes = spectrogram(
        emphasised, np.hanning(SYNC_FFT + 1)[:-1], SYNC_FFT, SYNC_HOP, SYNC_FFT, power=1.0, pad_mode="constant"
    )
    bands = (
        mel_filter_bank(SYNC_FFT // 2 + 1, MEL_BANDS, 55.0, 7600.0, SAMPLING_RATE, "slaney", "slaney").T @ magnitudes
    )
    decibels = 20 * np.log10(np.maximum(bands, 1e-5)) - 20
    return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4).T.astype(np.float32)


@functools.lru_cache(maxsize=1)
def _mfcc_filters(bands: int = 26, n_fft: int = 512) -> np.ndarray:
    """(n_fft / 2 + 1, bands) triangles whose corners are snapped to FFT bins, as speech recognisers used to do."""
    mels = np.linspace(0.0, hertz_to_mel(SAMPLING_RATE / 2, "htk"), bands + 2)
    edges = mel_to_hertz(mels, "htk")
    edges = np.floor((n_fft + 1) * edges / SAMPLING_RATE)
    bins = np.arange(n_fft // 2 + 1)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    with np.errstate(divide="ignore", invalid="ignore"):  # two corners of a narrow low band can share a bin
        rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    rising = np.where((bins >= left) & (bins < centre), rising, 0)
    return rising + np.where((bins >= centre) & (bins < right), falling, 0)


def mfcc(
    samples: np.ndarray,
    cepstra: int = CEPSTRA,
    window: int = 400,
    hop: int = 160,
    n_fft: int = 512,
    lifter: int = 22,
    stride: int = 1,
) -> np.ndarray:
    """Mel-frequency cepstral coefficients of 16 kHz samples (N,) on the int16 scale -> (rows at 100 a second, cepstra).

    Pre-emphasis 0.97, rectangular 25 ms windows every 10 ms, 26 bands, orthonormal DCT, sinusoidal liftering;
    the first coefficient is the log energy of the window.

    Args:
        stride: 2 computes every second row only, and so on.
    """
    count = math.ceil((1 + max(0, math.ceil((len(samples) - window) / hop))) / stride)
    hop *= stride
    rows = np.empty((count, cepstra))
    for start in range(0, count, BLOCK):
        part = rows[start : start + BLOCK]
        # with the sample before, which pre-emphasis takes from the first
        begin, end = start * hop, (start + len(part) - 1) * hop + window
        before = np.zeros(1) if begin == 0 else samples[begin - 1 : begin]
        heard = np.concatenate([before, samples[begin:end]]).astype(np.float64)
        emphasised = heard[1:] - 0.97 * heard[:-1]
        padded = np.pad(emphasised, (0, end - begin - len(emphasised)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
        power = np.abs(np.fft.rfft(frames, n_fft)) ** 2 / n_fft
        energy = power.sum(1)
        bands = power @ _mfcc_filters(n_fft=n_fft)
        # a window of digital silence has no energy; the smallest number stands in for it under the logarithm
        energy, bands = (np.where(x == 0, _EPSILON, x) for x in (energy, bands))
        coefficients = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :cepstra]
        coefficients *= 1 + lifter / 2 * np.sin(np.pi * np.arange(cepstra) / lifter)
        coefficients[:, 0] = np.log(energy)
        part[:] = coefficients
    return rows


def deepspeech_features(waveform: Tensor | np.ndarray) -> Tensor:
    """Inputs of the speech recogniser.

    Args:
        waveform: (N,) float at 16 kHz in [-1, 1].

    Returns:
        (rows at 50 a second, 494) float32: 26 cepstra of 9 rows before, the row, and 9 after (zeros outside the clip),
        oldest first, standardised over the whole clip. Neighbouring rows share memory: do not write to them.
    """
    samples = np.asarray(waveform, np.float32)
    samples = np.clip(np.round(samples * 32768), -32768, 32767)  # exact in float32
    rows = mfcc(samples, stride=2)
    # mean and deviation of all windows, of which a row is in up to 19
    count = len(rows)
    place = np.arange(count)
    shares = 1 + np.minimum(place, CONTEXT) + np.minimum(count - 1 - place, CONTEXT)
    size = count * DEEPSPEECH_FEATURES
    mean = (shares @ rows).sum() / size
    outside = count * (2 * CONTEXT + 1) - shares.sum()  # rows of zeros
    variance = ((shares @ (rows - mean) ** 2).sum() + outside * CEPSTRA * mean**2) / size
    padded = np.pad(rows, ((CONTEXT, CONTEXT), (0, 0)))
    standardised = torch.from_numpy(((padded - mean) / max(math.sqrt(variance), _EPSILON)).astype(np.float32))
    return standardised.as_strided((count, DEEPSPEECH_FEATURES), (CEPSTRA, 1))


def semantic_windows(logits: Tensor, seconds: float, size: int = 16, stride: int = 2) -> Tensor:
    """Cut the recogniser's output into one window a video frame.

    Row r of `logits` belongs to the time r / 50 s. The rows are first resampled to exactly 50 a second over the clip:
    since both clocks tick at the same times, this keeps the rows and repeats the last one where the clip goes on.

    Args:
        logits: (B, rows at 50 a second, classes).
        seconds: length of the clip.

    Returns:
        (B, frames at 25 a second, 16, classes); window f starts 8 rows before frame f, zeros outside the clip.
        Neighbouring windows share memory: do not write to them.
    """
    points = max(1, round(seconds * SEMANTIC_RATE) - 1)  # the released preprocessing drops the last point
    index = torch.arange(points, device=logits.device).clamp(max=logits.shape[1] - 1)
    padded = torch.nn.functional.pad(logits[:, index], (0, 0, size // 2, size // 2))
    return padded.unfold(1, size, stride).transpose(2, 3)[:, : math.ceil(points / stride)]


def frame_windows(features: Tensor, radius: int = 5, padding: Tensor | float | None = None) -> Tensor:
    """The neighbours of every frame: (F, ...) -> (F, 2 * radius + 1, ...), the frame itself in the middle.

    Args:
        padding: what stands before the first and after the last frame: a tensor (...) or a number. None repeats the
            first and the last frame.
    """
    frames = features.shape[0]
    if padding is None:
        index = torch.arange(-radius, frames + radius, device=features.device).clamp(0, frames - 1)
        padded = features[index]
    else:
        padding = torch.as_tensor(padding, dtype=features.dtype, device=features.device)
        edge = padding.expand(radius, *features.shape[1:])
        padded = torch.cat([edge, features, edge])
    starts = torch.arange(frames, device=features.device)
    return padded[starts[:, None] + torch.arange(2 * radius + 1, device=features.device)]
