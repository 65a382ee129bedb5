import warnings

import numpy as np
import pytest
import torch
from conftest import build_live_pipeline, voice

from eat_hf import HeadMotion
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.constants import FPS
from eat_hf.errors import InputWarning, UserError

SECONDS = 1.83


def swaying(frames=30):
    turns = torch.linspace(0, 9, frames)
    return HeadMotion(8 * turns.sin(), 5 * turns.cos(), 3 * turns.sin(), torch.zeros(frames, 3), blink=turns.sin() ** 2)


def speech(rate=16_000, channels=1, seconds=SECONDS):
    sound = voice(seconds, rate)
    return sound if channels == 1 else np.stack([sound, 0.4 * np.roll(sound, 50)])


def lived(pipe, image, sound, rate, milliseconds, **options):
    """All frames of sound in pieces."""
    session = pipe.live(image, **options)
    step = rate * milliseconds // 1000
    chunks = [session.push(sound[..., at : at + step], rate) for at in range(0, sound.shape[-1], step)]
    return np.concatenate([*chunks, session.finish()])


def difference(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(int) - b).max()


@pytest.fixture(scope="module")
def called(live_pipeline, portrait):
    """Frames of one call on sounds that tests share."""
    found = {}

    def call(rate=16_000, channels=1, seconds=SECONDS, **options):
        key = rate, channels, seconds, *sorted((name, str(value)) for name, value in options.items())
        if key not in found:
            options = {"head_motion": swaying(), "generator": 3} | options
            found[key] = live_pipeline(portrait, (speech(rate, channels, seconds), rate), **options).frames
        return found[key]

    return call


@pytest.mark.parametrize("milliseconds", [20, 100, 700, 5000])
def test_pieces_give_the_frames_of_one_call(live_pipeline, portrait, called, milliseconds):
    frames = lived(live_pipeline, portrait, speech(), 16_000, milliseconds, head_motion=swaying(), generator=3)
    assert difference(frames, called()) <= 1
    moving = np.abs(np.diff(called().astype(int), axis=0)).max((1, 2, 3))
    assert (moving > 2).mean() > 0.9  # else anything would equal anything


@pytest.mark.parametrize("rate", [44_100, 48_000, 8_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_rates_and_two_channels(live_pipeline, portrait, called, rate, channels):
    sound = speech(rate, channels)
    frames = lived(live_pipeline, portrait, sound, rate, 100, head_motion=swaying(), generator=3)
    assert difference(frames, called(rate, channels)) <= 1
