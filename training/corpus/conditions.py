"""Clean voices as microphones, rooms, lines and codecs pass them on, for networks that listen to anybody.

Everything keeps the times of phones right, and the same generator state gives the same samples.
"""

import io

import av
import numpy as np
import soxr
from scipy.signal import correlate, fftconvolve

from eat_hf.constants import SAMPLING_RATE
from training.corpus.speech import background, equalise, room

__all__ = ["CODECS", "degrade", "music", "respeed", "through_codec"]

CODECS = {"mp3": ("mp3", 44_100), "aac": ("adts", 44_100), "libopus": ("ogg", 48_000)}
"""Codec: its container, and the rate at which it is given the sound."""


def respeed(
    waveform: np.ndarray, phones: list[tuple[str, float, float]], factor: float
) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Played slower (factor above 1) or faster: pitch and formants move, too."""
    played = soxr.resample(waveform, SAMPLING_RATE, SAMPLING_RATE * factor).astype(np.float32)
    return played, [(name, start * factor, end * factor) for name, start, end in phones]


def through_codec(waveform: np.ndarray, codec: str, bit_rate: int) -> np.ndarray:
    """What is left of (N,) float32 at 16 kHz after a lossy codec, at the same times.

    Args:
        codec: one of ``CODECS``.
        bit_rate: bits a second.
    """
    container_format, rate = CODECS[codec]
    samples = soxr.resample(waveform, SAMPLING_RATE, rate)
    packed = io.BytesIO()
    with av.open(packed, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1).astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    packed.seek(0)
    with av.open(packed) as container:
        resampler = av.AudioResampler("fltp", "mono", SAMPLING_RATE)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        frames += resampler.resample(None)
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    # codecs begin with a silence of their own, which not every container mentions
    lag = int(correlate(heard, waveform, method="fft").argmax()) - (len(waveform) - 1)
    heard = heard[lag:] if lag > 0 else np.pad(heard, (-lag, 0))
    return np.pad(heard, (0, max(0, len(waveform) - len(heard))))[: len(waveform)].astype(np.float32)


def degrade(voice: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A voice (N,) float32 at 16 kHz as it may reach us: equalised, in a room, with noise or music, through a telephone
    or a codec, at any level, at times clipped."""
    loud = np.abs(voice) > 1e-4
    x = voice / (np.sqrt(np.mean(voice[loud] ** 2)) if loud.any() else 1.0)
    if rng.random() < 0.8:
        frequencies = np.array([60, 200, 500, 1200, 3000, 5000, 8000])
        tilt = rng.uniform(-3, 3) * np.log2(frequencies / 1000)
        x = equalise(x, tilt + rng.uniform(-6, 6, len(frequencies)), frequencies)
    if rng.random() < 0.5:
        x = fftconvolve(x, room(rng))[: len(x)]
    x = x / (np.sqrt(np.mean(x**2)) + 1e-9)
    if rng.random() < 0.75:
        x = x + 10 ** (-rng.uniform(6, 45) / 20) * background(len(x), rng)
    if rng.random() < 0.1:
        x = x + 10 ** (-rng.uniform(8, 25) / 20) * music(len(x), rng)
    if rng.random() < 0.12:  # a telephone
        x = equalise(x, [-40, -12, 0, 0, -12, -45], [60, 250, 400, 3000, 3800, 4500])
    if rng.random() < 0.07:  # clipped where it was recorded
        ceiling = rng.uniform(1.2, 3.0)
        x = np.clip(x, -ceiling, ceiling)
    x = x * 10 ** (rng.uniform(-42, -12) / 20)
    if rng.random() < 0.15:
        codec = str(rng.choice(list(CODECS)))
        x = through_codec(x.astype(np.float32), codec, int(rng.choice((16, 24, 32, 48, 64))) * 1000)
    return np.clip(x, -1, 1).astype(np.float32)


def music(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of plucked or held tones and a beat, of unit power, to which nobody moves their lips."""
    t = np.arange(samples) / SAMPLING_RATE
    x, beat = np.zeros(samples), rng.uniform(0.25, 0.7)
    root, decay = 110 * 2 ** (rng.integers(0, 13) / 12), rng.uniform(0.5, 8)
    for start in np.arange(0, t[-1] if samples else 0, beat):
        since = t - start
        envelope = np.where(since >= 0, np.exp(-decay * since) * np.clip(since / 0.01, 0, 1), 0)
        shift = rng.choice((0, 2, 4, 5, 7, 9))
        for step in rng.choice((0, 3, 4, 7, 10, 12), 3, replace=False):
            tone = root * 2 ** ((shift + step) / 12)
            x += envelope * sum(np.sin(2 * np.pi * tone * k * t) / k ** rng.uniform(1, 2) for k in range(1, 6))
        hit = np.where(since >= 0, np.exp(-40 * np.maximum(since, 0)), 0)
        x += rng.uniform(0, 3) * hit * rng.standard_normal(samples)
    return (x / (np.sqrt(np.mean(x**2)) + 1e-9)).astype(np.float32)
