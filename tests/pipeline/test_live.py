"""Live: sound in pieces gives the frames that one call gives of the whole."""

import gc
import math
import shutil
import warnings

import numpy as np
import pytest
import torch
from conftest import build_live_pipeline, build_tiny_pipeline, voice
from tiny_words import add_words, make_tiny_clip

from eat_hf import EATPipeline, HeadMotion
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.constants import FPS
from eat_hf.errors import InputWarning, UserError

RATE = 16_000
pytestmark = pytest.mark.usefixtures("faces_found_once")


def swaying(frames=30):
    turns = torch.linspace(0, 9, frames)
    return HeadMotion(8 * turns.sin(), 5 * turns.cos(), 3 * turns.sin(), torch.zeros(frames, 3), blink=turns.sin() ** 2)


def pieces(sound, milliseconds, rate=RATE):
    step = rate * milliseconds // 1000
    return [sound[..., at : at + step] for at in range(0, sound.shape[-1], step)]


def lived(session, parts, rate=RATE):
    """All frames of sound in pieces."""
    return np.concatenate([*(session.push(part, rate) for part in parts), session.finish()])


def difference(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(int) - b).max()


@pytest.fixture(scope="module")
def sound():
    """0.95 s of a voice and then silence, 1.2 s in all."""
    return np.concatenate([voice(0.95), np.zeros(4_000, np.float32)])


@pytest.fixture(scope="module")
def called(live_pipeline, portrait, sound):
    return live_pipeline(portrait, (sound, RATE), "happy", generator=3, head_motion="still").frames


@pytest.mark.parametrize("milliseconds", [20, 700])
def test_pieces_give_the_frames_of_one_call(live_pipeline, portrait, sound, called, milliseconds):
    session = live_pipeline.live(portrait, emotion="happy", generator=3, head_motion="still")
    assert difference(lived(session, pieces(sound, milliseconds)), called) <= 1
    assert session.frames == len(called) == 30


def test_the_voice_moves_the_face_of_the_tiny_model(called):
    """Else all frames would equal all others."""
    assert (np.abs(np.diff(called[2:22].astype(int), axis=0)).max((1, 2, 3)) > 2).all()


def test_frames_come_when_the_latency_is_over(live_pipeline, portrait, sound):
    session = live_pipeline.live(portrait, emotion="happy", generator=3)
    assert session.latency == pytest.approx(5 / FPS + live_pipeline.speech_encoder.window_lookahead)
    assert 0.3 < session.latency < 0.5
    heard = 0
    for part in pieces(sound[:14_000], 10):
        plan = session.hear(part, RATE)
        heard += len(part)
        assert session.frames == max(0, math.floor((heard / RATE - session.latency) * FPS + 1e-6) + 1)
        assert plan is None or len(plan) == 1
    assert session.frames > 5


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1), (8_000, 2)])
def test_any_rate_and_two_channels_with_natural_motion(live_pipeline, portrait, rate, channels):
    samples = voice(0.8, rate)
    if channels == 2:
        samples = np.stack([samples, 0.4 * np.roll(samples, 50)])
    samples = (samples * 32_767).astype(np.int16)
    out = live_pipeline(portrait, (samples, rate), "sad", generator=3)
    session = live_pipeline.live(portrait, emotion="sad", generator=3)
    assert difference(lived(session, pieces(samples, 90, rate), rate), out.frames) <= 1


def test_a_given_motion_goes_to_and_fro(live_pipeline, portrait, sound):
    out = live_pipeline(portrait, (sound, RATE), "happy", generator=3, head_motion=swaying(12))
    session = live_pipeline.live(portrait, emotion="happy", generator=3, head_motion=swaying(12))
    assert difference(lived(session, pieces(sound, 250)), out.frames) <= 1


def test_a_change_midway_is_a_timeline(live_pipeline, portrait, sound):
    session = live_pipeline.live(portrait, intensity=0.8, generator=3, head_motion="still")
    parts = pieces(sound, 100)
    made = [session.push(part, RATE) for part in parts[:7]]
    first = session.set(emotion={"happy": 0.7, "surprised": 0.3})
    assert first == sum(map(len, made)) / FPS > 0
    made += [session.push(part, RATE) for part in parts[7:9]]
    second = session.set(emotion="angry", intensity=1.2)
    made += [session.push(part, RATE) for part in parts[9:]]
    frames = np.concatenate([*made, session.finish()])
    emotion = [(0.0, "neutral"), (first, {"happy": 0.7, "surprised": 0.3}), (second, "angry")]
    intensity = [(0.0, 0.8), (second, 0.8), (second + 0.4, 1.2)]
    out = live_pipeline(portrait, (sound, RATE), emotion, intensity, generator=3, head_motion="still")
    assert difference(frames, out.frames) <= 1
    plain = live_pipeline(portrait, (sound, RATE), "neutral", 0.8, generator=3, head_motion="still")
    changed = np.abs(frames.astype(int) - plain.frames).max((1, 2, 3))
    assert changed[: round(first * FPS) + 1].max() <= 1 and changed[-1] > 4


def test_what_is_set_before_the_first_frame_counts_from_the_beginning(live_pipeline, portrait, sound, called):
    session = live_pipeline.live(portrait, emotion="sad", generator=3, head_motion="still")
    assert session.set("happy", intensity=1) == 0
    assert difference(lived(session, [sound]), called) <= 1


def test_adapters_and_words(live_model, portrait, sound, tmp_path):
    folder = shutil.copytree(live_model, tmp_path / "model")
    add_words(folder, make_tiny_clip())
    pipe = EATPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    adapter = EmotionAdapter.create(pipe.base, ["glad"], "happy")
    with torch.no_grad():
        for head in adapter.parts["emotion_mapper.heads"]:
            head[-1].bias.normal_(generator=torch.Generator().manual_seed(2))
    pipe.add_adapter(adapter)
    options = {"generator": 3, "head_motion": "still"}
    session = pipe.live(portrait, emotion="glad", **options)
    made = session.push(sound[:11_200], RATE)
    moment = session.set(emotion_text="a wide smile")
    frames = np.concatenate([made, session.push(sound[11_200:], RATE), session.finish()])
    pipe.add_adapter(pipe.text_adapter("a wide smile", "wide"))
    out = pipe(portrait, (sound, RATE), [(0.0, "glad"), (moment, "wide")], **options)
    assert difference(frames, out.frames) <= 1
    for number in range(5):  # sentences are forgotten when they no longer show
        session = pipe.live(portrait, emotion_text="a smile", **options) if number == 0 else session
        session.hear(sound, RATE)
        session.set(emotion_text=f"wish {number}")
    assert len(session._in_words) <= 2


def test_frames_may_be_left_out(live_pipeline, portrait, sound, called):
    session = live_pipeline.live(portrait, emotion="happy", generator=3, head_motion="still")
    plan = session.hear(sound, RATE)
    assert difference(session.render(plan.only([3, 9])), called[[3, 9]]) <= 1
    rest = session.finish()
    assert difference(rest, called[len(plan) :]) <= 1


def test_models_that_need_the_whole_recording_are_refused(tiny_pipeline, portrait):
    with pytest.raises(UserError, match="StreamingSpeechEncoder"):
        tiny_pipeline.live(portrait)
    centring = build_tiny_pipeline()
    centring.register_modules(speech_encoder=build_live_pipeline().speech_encoder)
    with pytest.raises(UserError, match="driving_centring"):
        centring.live(portrait)
    without = build_live_pipeline()
    without.speech_encoder = None
    with pytest.raises(UserError, match="speech encoder"):
        without.live(portrait)


def test_mistakes_change_nothing(live_pipeline, portrait, sound, called):
    session = live_pipeline.live(portrait, emotion="happy", generator=3, head_motion="still")
    made = session.push(sound[:10_000], RATE)
    for wrong, rate, words in [
        (np.full(100, np.nan), RATE, "NaN"),
        (np.zeros((6, 900)), RATE, "one or two channels"),
        (sound, 0, "sampling rate"),
        (np.array(["a"]), RATE, "array"),
    ]:
        with pytest.raises(UserError, match=words):
            session.push(wrong, rate)
    for wrong, words in [
        ({"emotion": "joy"}, "joy"),
        ({"emotion": [(0.0, "sad")]}, "An emotion is a name"),
        ({"intensity": 9}, "intensity"),
        ({"emotion": "sad", "emotion_text": "sad"}, "either"),
        ({"emotion_text": "sad"}, "text mapper"),
    ]:
        with pytest.raises(UserError, match=words):
            session.set(**wrong)
    assert session.push(sound[:0], RATE).shape == (0, 256, 256, 3)
    frames = np.concatenate([made, session.push(sound[10_000:], RATE), session.finish()])
    assert difference(frames, called) <= 1
    for call in (session.finish, lambda: session.push(sound, RATE)):
        with pytest.raises(UserError, match="over"):
            call()


def test_no_sound_gives_no_frames(live_pipeline, portrait):
    for sound in (voice(0), voice(0.19)):
        session = live_pipeline.live(portrait)
        assert len(lived(session, [sound])) == 0


def test_channels_that_cancel_out_are_noticed(live_pipeline, portrait):
    sound = voice(1.5)
    session = live_pipeline.live(portrait)
    with pytest.warns(InputWarning, match="cancel out"):
        session.hear(np.stack([sound, -0.8 * sound]), RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.hear(np.stack([sound, -0.8 * sound]), RATE)


def kept():
    """Bytes of all tensors and arrays that are there."""
    gc.collect()
    found = {}
    for each in gc.get_objects():
        if type(each) is torch.Tensor:
            storage = each.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values()) + sum(each.nbytes for each in gc.get_objects() if type(each) is np.ndarray)


def listens(session, seconds):
    """Sound in simulated time; one frame a second is looked at."""
    moment = voice(1.0)
    for second in range(seconds):
        for part in pieces(moment, 100):
            plan = session.hear(part, RATE)
        if second % 7 == 3:
            session.set(emotion=("happy", "sad")[second % 2], intensity=0.5 + second % 3 / 4)
        session.render(plan.only([0]))


def test_memory_stays_what_it_was(live_pipeline, portrait):
    session = live_pipeline.live(portrait, generator=1)
    listens(session, 15)
    before = kept()
    listens(session, 20)
    assert kept() <= before + 50_000 and session.frames > 30 * FPS  # a second of sound alone is 64,000 bytes


@pytest.mark.slow
def test_memory_is_flat_over_an_hour(live_pipeline, portrait):
    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    session = live_pipeline.live(portrait, generator=1)
    listens(session, 300)
    before = resident()
    listens(session, 3_300)
    assert resident() <= 1.02 * before
