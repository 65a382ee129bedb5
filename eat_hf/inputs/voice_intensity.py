"""How strongly a face shall show what it feels, from the voice alone: how lively the voice is, against its own calm.

No model is asked. A voice gets livelier by loudness, by how far its pitch rises and by its rate. What is calm is the
speaker's own, in this recording: nobody can know how loud it should be. So all of it is heard before the first frame.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from ..constants import FPS
from ..easing import smoothstep
from .emotions import MAX_INTENSITY, MAX_POINTS
from .pitch import HOP, track_pitch

CALM, LIVELY = 0.8, 1.5  # intensity of a calm voice, and of one that is lively in all three ways
LEAST = 0.4  # of one that is still calmer
CALM_SHARE = 25  # per cent of the speech that is calm, or calmer
# how much above calm is lively, in decibels, semitones and syllables a second; and what each counts
LOUDER, HIGHER, FASTER = 8.0, 4.0, 2.0
SHARES = 0.45, 0.35, 0.2
BELL = 0.35  # seconds: the deviation of the bell over which a voice is judged; twice for its rate
BELOW, FLOOR = 28.0, -80.0  # decibels below the loudest moments, and below full scale, where nobody speaks
TONE = 0.3  # what of a voice is no tone, at most, where it has a pitch
LOWEST_SHARE = 20  # per cent of a speaker's pitches that lie below what it rises from
SYLLABLES = 100  # loudness a second in which syllables are counted
SYLLABLE, PROMINENCE = 0.03, 2.0  # seconds and decibels: bell that smooths it, and how far a syllable stands out
TOLERANCE = 0.05  # of the timeline, against the curve


def voice_intensity(waveform: np.ndarray) -> list[tuple[float, float]]:
    """A timeline of intensity, as `EATPipeline` takes it: 0.8 where the voice is calm, more where it gets louder,
    higher or faster, up to 1.5; calm, too, where nobody speaks.

    Args:
        waveform: (N,) samples at 16 kHz in [-1, 1], N > 0.

    Returns:
        (seconds, value), up to 1,000 of them; linear in between.
    """
    curve = liveliness(waveform)
    values = np.clip(CALM + (LIVELY - CALM) * curve, LEAST, MAX_INTENSITY)
    tolerance = TOLERANCE
    while len(corners := _corners(values, tolerance)) > MAX_POINTS:
        tolerance *= 1.5
    return [(round((frame + 0.5) / FPS, 2) if frame else 0.0, round(float(values[frame]), 2)) for frame in corners]


def liveliness(waveform: np.ndarray) -> np.ndarray:
    """(frames,) at 25 a second: 0 is this speaker's calm and silence, about 1 very lively, below 0 calmer still."""
    pitch, noise = track_pitch(waveform)
    frames = len(pitch)
    power = np.square(np.pad(waveform, (0, frames * HOP - len(waveform))), dtype=np.float64)
    power = power.reshape(frames, SYLLABLES // FPS, -1).mean(2)
    level = 10 * np.log10(power.mean(1) + 1e-12)
    spoken = level > max(np.percentile(level, 98) - BELOW, FLOOR)
    if not spoken.any():
        return np.zeros(frames)
    tones = spoken & (noise < TONE)
    rise = 12 * np.log2(pitch / np.percentile(pitch[tones], LOWEST_SHARE)) if tones.any() else np.zeros(frames)
    bell = BELL * FPS
    loudness = _around(level, spoken, bell)
    height = np.sqrt(_around(np.maximum(rise, 0) ** 2, tones, bell))
    rate = _around(_syllables(power.ravel(), spoken) * FPS, spoken, 2 * bell)
    lively = np.zeros(frames)
    for track, much, share in zip((loudness, height, rate), (LOUDER, HIGHER, FASTER), SHARES, strict=True):
        lively += share * (track - np.percentile(track[spoken], CALM_SHARE)) / much
    # where nobody speaks it ebbs away
    near = gaussian_filter1d(spoken.astype(float), bell / 2, mode="constant")
    return lively * smoothstep((near / 0.4).clip(0, 1))


def _around(values: np.ndarray, there: np.ndarray, bell: float) -> np.ndarray:
    """The mean of the values that are there around every frame; far from them, that of all."""
    if not there.any():
        return np.zeros(len(values))
    few = 1e-3
    weight = gaussian_filter1d(there.astype(float), bell, mode="constant")
    total = gaussian_filter1d(np.where(there, values, 0.0), bell, mode="constant")
    return (total + few * values[there].mean()) / (weight + few)


def _syllables(power: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """How many syllables begin to sound in every frame, of the power of its quarters: peaks of the loudness."""
    level = gaussian_filter1d(10 * np.log10(power + 1e-9), SYLLABLE * SYLLABLES)
    peaks = find_peaks(level, prominence=PROMINENCE)[0] * len(spoken) // len(power)
    return np.bincount(peaks, minlength=len(spoken)) * spoken


def _corners(values: np.ndarray, tolerance: float) -> list[int]:
    """Indices between which straight lines stay within the tolerance (Ramer, Douglas and Peucker)."""
    kept, waiting = {0, len(values) - 1}, [(0, len(values) - 1)]
    while waiting:
        first, last = waiting.pop()
        line = np.linspace(values[first], values[last], last - first + 1)
        errors = np.abs(values[first : last + 1] - line)
        worst = first + int(errors.argmax())
        if errors.max() > tolerance:
            kept.add(worst)
            waiting += [(first, worst), (worst, last)]
    return sorted(kept)
