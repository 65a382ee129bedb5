"""How lively a voice is, of sounds whose loudness, pitch and rate are known."""

import numpy as np
import pytest

from eat_hf.inputs import voice_intensity as module
from eat_hf.inputs.emotions import EmotionTrack
from eat_hf.inputs.pitch import track_pitch
from eat_hf.inputs.voice_intensity import CALM, voice_intensity
from eat_hf.media import espeak

RATE = 16_000


def talk(seconds, loudness=0.05, pitch=110.0, swing=0.5, syllables=3.0):
    """Harmonics in syllables: so many a second, whose pitch swings by that many semitones."""
    t = np.arange(round(seconds * RATE)) / RATE
    hertz = pitch * 2 ** (swing * np.sin(2 * np.pi * 0.9 * t) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    tone = sum(np.sin(n * phase) / n for n in range(1, 12))
    return (loudness * tone * (0.52 - 0.48 * np.cos(2 * np.pi * syllables * t))).astype(np.float32)


def between(timeline, start, end):
    """Mean intensity from one moment to another."""
    return np.interp(np.arange(start, end, 0.04), *zip(*timeline, strict=True)).mean()


@pytest.mark.parametrize("hertz", [80, 131, 220, 400])
def test_pitch_is_that_of_the_sound(hertz):
    pitch, noise = track_pitch(talk(1.0, pitch=hertz, swing=0))
    assert len(pitch) == 25 and np.allclose(pitch[2:-2], hertz, rtol=0.03) and (noise[2:-2] < 0.3).all()


def test_noise_and_silence_have_no_pitch():
    noisy = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert (track_pitch(noisy)[1] > 0.3).mean() > 0.9 and (track_pitch(np.zeros(RATE))[1] == 1).all()


@pytest.mark.parametrize(
    "lively", [{"loudness": 0.2}, {"pitch": 160}, {"swing": 7}, {"syllables": 6}], ids=lambda change: next(iter(change))
)
def test_louder_higher_wider_and_faster_is_livelier(lively):
    timeline = voice_intensity(np.concatenate([talk(3), talk(3, **lively), talk(3)]))
    calm, excited, again = (between(timeline, *span) for span in ((0.5, 2.3), (3.7, 5.3), (6.7, 8.5)))
    assert excited > max(calm, again) + 0.1 and abs(calm - again) < 0.1 and calm == pytest.approx(CALM, abs=0.1)


def test_all_of_it_together_is_as_strong_as_it_gets():
    shouting = talk(3, loudness=0.3, pitch=190, swing=6, syllables=5.5)
    timeline = voice_intensity(np.concatenate([talk(4), shouting]))
    assert max(value for _, value in timeline) == 1.5
    assert EmotionTrack.create("happy", timeline).intensity == tuple(timeline)


def test_it_is_the_speakers_own_calm_that_counts():
    sound = np.concatenate([talk(3), talk(2, loudness=0.15, pitch=140), talk(2)])
    assert voice_intensity(sound) == voice_intensity(0.1 * sound)
    assert between(voice_intensity(talk(4, loudness=0.3, pitch=200, syllables=5)), 0.5, 3.5) < CALM + 0.1


def test_silence_is_calm():
    assert voice_intensity(np.zeros(RATE)) == [(0.0, CALM), (0.98, CALM)]
    assert voice_intensity(talk(0.2))[0][0] == 0
    shout = np.concatenate([talk(3), talk(1, loudness=0.3, pitch=200), np.zeros(3 * RATE, np.float32)])
    assert between(voice_intensity(shout), 5.5, 7) == pytest.approx(CALM, abs=0.02)


def test_a_timeline_of_a_long_voice_is_short_enough(monkeypatch):
    sound = np.concatenate([talk(1, loudness=loudness) for loudness in (0.02, 0.2) * 5])
    assert len(voice_intensity(sound)) > 12
    monkeypatch.setattr(module, "MAX_POINTS", 12)
    timeline = voice_intensity(sound)
    assert len(timeline) <= 12 and timeline[0][0] == 0 and timeline[-1][0] == 9.98


@pytest.mark.skipif(not espeak.is_installed(), reason="espeak-ng comes with `pip install espeakng-loader`")
def test_a_synthetic_voice_that_gets_excited():
    import soxr

    def say(text, gain, **prosody):
        spoken = espeak.speak(text, "en-us+m3", **prosody)
        return gain * soxr.resample(spoken.samples / 32768, spoken.sampling_rate, RATE)

    calm = say("I walked down to the river this morning, and sat there for a while.", 0.35,
               rate=140, pitch=35, pitch_range=20)  # fmt: skip
    excited = say("And then they took everything! Everything that I had!", 1.0, rate=210, pitch=70, pitch_range=80)
    timeline, turn = voice_intensity(np.concatenate([calm, excited])), len(calm) / RATE
    end = turn + len(excited) / RATE
    assert between(timeline, 0.3, turn - 0.5) < 0.95 and between(timeline, turn + 0.5, end - 0.3) > 1.3
