"""English speech with exact phoneme times, for the synthetic corpus.

espeak-ng (through the ``espeakng-loader`` wheel, no system package) speaks a sentence and reports where every phoneme
starts. Prosody (rate, pitch, range, loudness, vocal effort) follows the emotion. The sound is then made to resemble
recordings (equalisation, room, noise, level, speed), always keeping the phoneme times right, so that networks trained
on it have a chance with real voices.

The same request gives the same samples whatever was said before (``eat_hf.media.espeak``). One utterance is spoken at
a time: use processes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import soxr
from scipy import fft
from scipy.signal import fftconvolve

from eat_hf.constants import FPS, SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.media.espeak import speak
from training.corpus.visemes import SILENCE

VOLUME = 70  # percent

__all__ = ["SAMPLING_RATE", "VOICES", "Prosody", "Speech", "prosody_of", "recorded", "room_tone", "say", "synthesize"]


# Variants that sound like people rather than robots, by apparent gender, then split so that nobody in the test set
# was heard in training. A voice is an accent, "+", and a variant.
_TRAIN = {
    "male": (
        "m1",
        "m3",
        "m4",
        "m7",
        "Alex",
        "Andy",
        "Denis",
        "Gene",
        "Mario",
        "Mike",
        "antonio",
        "gustave",
        "miguel",
        "paul",
        "rob",
        "sandro",
        "edward",
        "benjamin",
    ),
    "female": ("f1", "f2", "f5", "Andrea", "Annie", "anika", "belinda", "linda", "steph", "shelby", "grandma"),
}
_TRAIN_ACCENTS = ("en-us", "en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-gb-x-gbclan")
_HELD_OUT = {
    "validation": {"male": ("m6", "Michael", "robert"), "female": ("Alicia", "aunty")},
    "test": {"male": ("m8", "adam", "Henrique", "quincy"), "female": ("f3", "steph3", "f4")},
}


def _voices(variants: tuple[str, ...], accents: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{accents[i % len(accents)]}+{variant}" for i, variant in enumerate(variants))


VOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {gender: _voices(names, _TRAIN_ACCENTS) for gender, names in _TRAIN.items()},
    # accents in another order: other pairs of accent and variant than those of the training set
    "judge": {gender: _voices(names, _TRAIN_ACCENTS[:2:-1]) for gender, names in _TRAIN.items()},
    **{
        split: {gender: _voices(names, ("en-us", "en", "en-gb-scotland")) for gender, names in genders.items()}
        for split, genders in _HELD_OUT.items()
    },
}
"""``VOICES[split][gender]``, espeak-ng voice names: split train | validation | test | judge, gender male | female."""


@dataclass(frozen=True)
class Prosody:
    """How a sentence is spoken.

    rate: words a minute (80-300); pitch, pitch_range: espeak's 0-99 scales (50 is the voice's own);
    loudness: dB against a neutral voice; effort: -1 (soft, dull) to 1 (pressed, bright), a spectral tilt.
    """

    rate: float = 170.0
    pitch: float = 50.0
    pitch_range: float = 50.0
    loudness: float = 0.0
    effort: float = 0.0


@dataclass
class Speech:
    """One utterance. waveform (N,) float32 at 16 kHz in [-1, 1]; phonemes: P IPA strings with stress marks, ``_`` for
    silence; times (P, 2) seconds, start and end, contiguous and covering the whole waveform; energy (25 a second,)
    loudness of the clean voice in [0, 1]; text and voice as requested."""

    waveform: np.ndarray
    phonemes: list[str]
    times: np.ndarray
    energy: np.ndarray
    text: str = ""
    voice: str = ""
    prosody: Prosody = field(default_factory=Prosody)

    @property
    def frames(self) -> int:
        """Number of 25 fps video frames the waveform lasts."""
        return len(self.waveform) // (SAMPLING_RATE // 25)

    def cut(self, frames: int) -> Speech:
        """The first ``frames`` frames of the utterance (all of it when it is shorter), faded out over 10 ms."""
        frames = min(frames, self.frames)
        samples = frames * SAMPLING_RATE // 25
        waveform = self.waveform[:samples].copy()
        if samples < len(self.waveform):
            fade = min(160, samples)
            waveform[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        keep = [i for i in range(len(self.phonemes)) if self.times[i, 0] < frames / 25]
        times = np.minimum(self.times[keep], frames / 25)
        if len(times):
            times[-1, 1] = frames / 25
        return Speech(
            waveform, [self.phonemes[i] for i in keep], times, self.energy[:frames], self.text, self.voice, self.prosody
        )


# Deviations from a neutral voice at level 3: rate factor, pitch, pitch range, loudness in dB, effort. Directions
# after Juslin and Laukka (2003), "Communication of emotions in vocal expression and music performance".
_EMOTIONAL = {
    "neutral": (1.00, 0, 0, 0.0, 0.0),
    "angry": (1.14, 8, 34, 5.0, 0.9),
    "contempt": (0.90, -8, -10, -1.0, -0.1),
    "disgusted": (0.86, -10, 8, 0.0, 0.2),
    "fear": (1.20, 26, -8, -1.0, 0.2),
    "happy": (1.08, 18, 34, 2.5, 0.4),
    "sad": (0.78, -12, -32, -5.0, -0.8),
    "surprised": (1.02, 32, 44, 3.0, 0.4),
}


def prosody_of(emotion: str, level: int, rng: np.random.Generator) -> Prosody:
    """Prosody of an emotion ("neutral", "angry", ...) at level 1-3 (0 for neutral), with the variation of a clip.

    Raises KeyError for an unknown emotion.
    """
    rate, pitch, span, loudness, effort = _EMOTIONAL[emotion]
    share = (0.0, 0.45, 0.72, 1.0)[level] * rng.uniform(0.8, 1.15)
    return Prosody(
        rate=float(np.clip(168 * (1 + (rate - 1) * share) * rng.normal(1, 0.07), 110, 250)),
        pitch=float(np.clip(48 + pitch * share + rng.normal(0, 6), 5, 95)),
        pitch_range=float(np.clip(50 + span * share + rng.normal(0, 7), 5, 99)),
        loudness=float(loudness * share + rng.normal(0, 0.8)),
        effort=float(np.clip(effort * share + rng.normal(0, 0.15), -1, 1)),
    )


# --- espeak-ng ------------------------------------------------------------------------------------------------------
def synthesize(text: str, voice: str = "en-us", prosody: Prosody | None = None, seed: int = 0):
    """Speak ``text`` with an espeak-ng voice.

    Returns (samples (N,) float32 at the engine's rate, that rate in Hz, [(phoneme, start s, end s)]); neighbouring
    silences are merged and named ``_``, and the phonemes cover the sound from 0 to its end.

    Raises UserError without espeakng-loader, for a voice espeak-ng does not have, or a text without speech.
    """
    prosody = prosody or Prosody()
    said = speak(
        text,
        voice,
        seed=seed,
        rate=prosody.rate,
        volume=VOLUME,
        pitch=prosody.pitch,
        pitch_range=prosody.pitch_range,
    )
    marks, rate = said.phonemes, said.sampling_rate
    if not any(name for name, _ in marks):
        raise UserError(f"espeak-ng found nothing to say in {text!r}.")
    samples = said.samples.astype(np.float32) / 32768
    ends = [position for _, position in marks[1:]] + [len(samples)]
    phonemes: list[tuple[str, float, float]] = [(SILENCE, 0.0, marks[0][1] / rate)] if marks[0][1] > 0 else []
    for (name, first), last in zip(marks, ends, strict=True):
        start, end = first / rate, min(last, len(samples)) / rate
        name = name.strip() or SILENCE
        if end <= start:
            continue
        if name == SILENCE and phonemes and phonemes[-1][0] == SILENCE:
            phonemes[-1] = (SILENCE, phonemes[-1][1], end)
        else:
            phonemes.append((name, start, end))
    return samples, rate, phonemes


# --- recordings -------------------------------------------------------------------------------------------------------
def equalise(x: np.ndarray, gains_db, frequencies) -> np.ndarray:
    """Zero-phase filter (no delay, so times stay right) with gains in dB at log-spaced frequencies in Hz."""
    padded = fft.next_fast_len(len(x) + 1024, real=True)
    bins = fft.rfftfreq(padded, 1 / SAMPLING_RATE)
    gain = np.interp(np.log(np.maximum(bins, 20)), np.log(frequencies), gains_db)
    return fft.irfft(fft.rfft(x, padded) * 10 ** (gain / 20), padded)[: len(x)].astype(np.float32)


def _coloured_noise(samples: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit power whose spectrum falls as 1/f**exponent (0 white, 1 pink, 2 brown)."""
    padded = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(rng.standard_normal(padded))
    frequencies = np.maximum(fft.rfftfreq(padded, 1 / SAMPLING_RATE), 40)
    noise = fft.irfft(spectrum * frequencies ** (-exponent / 2), padded)[:samples]
    return (noise / (np.sqrt(np.mean(noise**2)) + 1e-12)).astype(np.float32)


def background(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Unit-power background: coloured noise, sometimes with mains hum, slowly changing in level."""
    noise = _coloured_noise(samples, rng.uniform(0, 2), rng)
    if rng.random() < 0.2:
        t = np.arange(samples) / SAMPLING_RATE
        base = rng.choice((50.0, 60.0))
        hum = sum(np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6.3)) / k for k in (1, 2, 3, 5))
        noise = noise + rng.uniform(0.3, 1.5) * hum.astype(np.float32)
    knots = max(2, samples // 4000)
    swell = np.interp(np.arange(samples), np.linspace(0, samples, knots), rng.uniform(0.6, 1.4, knots))
    noise = noise * swell.astype(np.float32)
    return noise / (np.sqrt(np.mean(noise**2)) + 1e-12)


def room(rng: np.random.Generator) -> np.ndarray:
    """Impulse response of a small room: the direct sound at sample 0, then a decaying diffuse tail."""
    decay = rng.uniform(0.08, 0.45)  # seconds to fall by 60 dB
    samples = int(decay * SAMPLING_RATE)
    tail = rng.standard_normal(samples) * 10 ** (-3 * np.arange(samples) / samples)
    tail[: int(rng.uniform(0.001, 0.008) * SAMPLING_RATE)] = 0
    tail *= 10 ** (rng.uniform(-22, -7) / 20) / (np.sqrt(np.sum(tail**2)) + 1e-9)
    tail[0] = 1.0
    return tail.astype(np.float32)


def _as_recorded(voice: np.ndarray, loudness: float, rng: np.random.Generator) -> np.ndarray:
    """A voice as a random microphone in a random room would record it. Keeps length and times."""
    level = float(np.sqrt(np.mean(voice[np.abs(voice) > 1e-4] ** 2))) if np.any(np.abs(voice) > 1e-4) else 1.0
    x = voice / level
    if rng.random() < 0.85:
        frequencies = np.array([60, 200, 500, 1200, 3000, 5000, 8000])
        tilt = rng.uniform(-2.5, 2.0) * np.log2(frequencies / 1000)
        x = equalise(x, tilt + rng.uniform(-5, 5, len(frequencies)), frequencies)
        if rng.random() < 0.12:  # a telephone, or a codec that drops the treble
            x = equalise(x, [-40, -12, 0, 0, -12, -45], [60, 250, 400, 3000, 3800, 4500])
    if rng.random() < 0.6:
        x = fftconvolve(x, room(rng))[: len(x)].astype(np.float32)
    x = x / (np.sqrt(np.mean(x**2)) + 1e-9)
    x = x + 10 ** (-rng.uniform(15, 40) / 20) * background(len(x), rng)
    x = x * 10 ** ((-23 + 0.7 * loudness + rng.uniform(-6, 6)) / 20)
    return np.where(np.abs(x) > 0.7, np.sign(x) * (0.7 + 0.3 * np.tanh((np.abs(x) - 0.7) / 0.3)), x).astype(np.float32)


def _energy(voice: np.ndarray, frames: int) -> np.ndarray:
    """Loudness of the clean voice at every 25 fps frame, in [0, 1] (r.m.s. over 80 ms; 1 at the 95th centile)."""
    power = np.concatenate([np.zeros(1), np.cumsum(voice.astype(np.float64) ** 2)])
    centre = np.arange(frames) * (SAMPLING_RATE // 25)
    low, high = np.clip(centre - 640, 0, len(voice)), np.clip(centre + 640, 0, len(voice))
    level = np.sqrt((power[high] - power[low]) / np.maximum(high - low, 1))
    return np.clip(level / (np.percentile(level, 95) + 1e-6), 0, 1).astype(np.float32)


def _with_pause(text: str, rng: np.random.Generator) -> str:
    """A comma after a random word in the middle, where espeak-ng then pauses."""
    words = text.split()
    if len(words) < 6 or "," in text:
        return text
    at = int(rng.integers(2, len(words) - 2))
    return " ".join(words[:at]).rstrip(",") + ", " + " ".join(words[at:])


def say(text: str, voice: str, prosody: Prosody, rng: np.random.Generator) -> Speech:
    """Speak ``text`` as a recording: prosody, 0.1-0.5 s of silence around, sometimes a pause, random sound conditions.

    The same arguments and generator state give the same samples. Raises as ``synthesize``.
    """
    spoken = _with_pause(text, rng) if rng.random() < 0.25 else text
    samples, rate, segments = synthesize(spoken, voice, prosody, seed=int(rng.integers(1, 2**31 - 1)))

    # Playing it slower or faster moves pitch and formants together: a cheap way to more voices.
    stretch = rng.uniform(0.94, 1.06)
    samples = soxr.resample(samples, rate, SAMPLING_RATE * stretch).astype(np.float32)
    segments = [(name, start * stretch, end * stretch) for name, start, end in segments]

    # espeak-ng ends with a silence of its own; ours replaces it at both ends.
    lead, trail = rng.uniform(0.1, 0.5, 2)
    first = segments[0][2] if segments[0][0] == SILENCE else 0.0
    last = segments[-1][1] if segments[-1][0] == SILENCE else segments[-1][2]
    pieces = [np.zeros(round(lead * SAMPLING_RATE), np.float32)]
    shift = len(pieces[0]) / SAMPLING_RATE - first
    cursor = round(first * SAMPLING_RATE)
    timeline: list[tuple[str, float, float]] = [(SILENCE, 0.0, first + shift)] if first + shift > 0 else []
    for name, start, end in segments:
        if end <= first or start >= last:
            continue
        start_shifted = start + shift
        if name == SILENCE and rng.random() < 0.5:  # a longer pause, inserted in the middle of the silence
            middle, extra = round((start + end) / 2 * SAMPLING_RATE), round(rng.uniform(0.05, 0.4) * SAMPLING_RATE)
            pieces += [samples[cursor:middle], np.zeros(extra, np.float32)]
            cursor, shift = middle, shift + extra / SAMPLING_RATE
        timeline.append((name, start_shifted, end + shift))
    # The decay of the last sound belongs to the silence that follows it.
    pieces += [samples[cursor:], np.zeros(round(trail * SAMPLING_RATE), np.float32)]
    voice_track = np.concatenate(pieces)
    total = max(round((last + shift + trail) * 25), 1)
    voice_track = np.pad(voice_track, (0, SAMPLING_RATE))[: total * SAMPLING_RATE // 25]
    timeline.append((SILENCE, last + shift, total / 25))

    bright = prosody.effort * np.array([-2.0, -1.0, 0.0, 3.0, 5.0])
    voice_track = equalise(voice_track, bright, [60, 300, 800, 2500, 8000])
    return Speech(
        waveform=_as_recorded(voice_track, prosody.loudness, rng),
        phonemes=[name for name, _, _ in timeline],
        times=np.array([(start, end) for _, start, end in timeline], np.float32),
        energy=_energy(voice_track, total),
        text=text,
        voice=voice,
        prosody=prosody,
    )


def recorded(voice_track: np.ndarray, phonemes: list[str], times: np.ndarray, rng: np.random.Generator) -> Speech:
    """An utterance that exists, (N,) at 16 kHz with P phonemes and their (P, 2) times, as another microphone would have
    recorded it."""
    total = max(len(voice_track) * FPS // SAMPLING_RATE, 1)
    voice_track = np.pad(voice_track, (0, SAMPLING_RATE))[: total * SAMPLING_RATE // FPS]
    keep = [i for i, start in enumerate(times[:, 0]) if start < total / FPS]
    times = np.minimum(times[keep], total / FPS).astype(np.float32)
    return Speech(_as_recorded(voice_track, 0.0, rng), [phonemes[i] for i in keep], times, _energy(voice_track, total))


def room_tone(seconds: float, rng: np.random.Generator) -> Speech:
    """A clip in which nobody speaks: background noise at a random level, or digital silence; one silent phoneme."""
    frames = max(round(seconds * 25), 1)
    samples = frames * SAMPLING_RATE // 25
    waveform = np.zeros(samples, np.float32)
    if rng.random() < 0.8:
        waveform = (10 ** (rng.uniform(-65, -25) / 20) * background(samples, rng)).astype(np.float32)
    return Speech(
        np.clip(waveform, -1, 1), [SILENCE], np.array([[0, frames / 25]], np.float32), np.zeros(frames, np.float32)
    )
