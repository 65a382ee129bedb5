"""What a classifier says becomes a timeline of emotions."""

import warnings

import numpy as np
import pytest

from eat_hf.constants import EMOTIONS
from eat_hf.errors import InputWarning, UserError
from eat_hf.inputs.emotions import EmotionTrack, parse_intensity, parse_timeline, write_intensity, write_timeline
from eat_hf.inputs.voice_emotion import emotion_timeline, heard_windows, label_emotions, parse_labels, window_starts

RATE = 16_000


@pytest.mark.parametrize(
    ("labels", "meaning"),
    [
        (["neu", "hap", "ang", "sad"], ["neutral", "happy", "angry", "sad"]),
        (["ANGER", "Joy", "no emotion", "Fearful"], ["angry", "happy", "neutral", "fear"]),
        (["female_angry", "male_happy", "male-calm"], ["angry", "happy", "neutral"]),
        (["生气/angry", "厌恶/disgusted", "其他/other"], ["angry", "disgusted", "neutral"]),
        (["pleasant_surprise", "contempt", "02_Sadness"], ["surprised", "contempt", "sad"]),
    ],
)
def test_usual_labels_are_known(labels, meaning):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert label_emotions(labels, EMOTIONS) == meaning


def test_a_table_comes_first_and_adapters_are_known_by_name():
    known = (*EMOTIONS, "crying hard")
    labels = ["LABEL_0", "happy", "Crying Hard", "sad"]
    table = {"LABEL_0": "fear", "happy": "surprised"}
    assert label_emotions(labels, known, table) == ["fear", "surprised", "crying hard", "sad"]


def test_strange_labels_are_neutral_and_said():
    with pytest.warns(InputWarning, match="count as neutral: 'sarcasm'"):
        assert label_emotions(["happy", "sarcasm"], EMOTIONS) == ["happy", "neutral"]
    with pytest.warns(InputWarning, match="count as nothing: 'contempt'"):
        assert label_emotions(["happy", "contempt"], ("happy", "sad")) == ["happy", None]


@pytest.mark.parametrize(
    ("labels", "table", "words"),
    [
        (["LABEL_0", "LABEL_1"], None, "'LABEL_0', 'LABEL_1', of which none is known; say what they mean"),
        (["other", "noise"], None, "none is known"),
        (["happy"], {"joy": "happy"}, "has no label 'joy', only 'happy'"),
        (["happy"], {"happy": "blissful"}, "Unknown emotion 'blissful' of the label 'happy'; this model knows angry"),
        ([f"LABEL_{n}" for n in range(4000)], None, "and 3980 more"),
    ],
)
def test_labels_that_cannot_be_used(labels, table, words):
    with pytest.raises(UserError, match=words) as caught:
        label_emotions(labels, EMOTIONS, table)
    assert len(str(caught.value)) < 700


def test_labels_as_typed():
    assert parse_labels("hap=happy, a=b=sad") == {"hap": "happy", "a=b": "sad"}
    for text, words in (("happy", "written like"), ("=happy", "written like"), ("a=x,a=y", "twice")):
        with pytest.raises(UserError, match=words):
            parse_labels(text)


def test_windows_lie_inside_the_sound():
    assert window_starts(2 * RATE).tolist() == [0]
    starts = window_starts(10 * RATE)
    assert starts[0] == 0 and starts[-1] == 8 * RATE and np.allclose(np.diff(starts), RATE / 2)
    sound = np.concatenate([np.ones(4 * RATE), np.zeros(6 * RATE)]) * 0.1
    assert heard_windows(sound).tolist() == [True] * 8 + [False] * 9


def timeline(*spans, heard=None, extra=()):
    """Of a classifier that is sure: (label, how many windows) one after the other."""
    names = ["happy", "sad", None, *extra]
    said = np.eye(len(names))[[names.index(label) for label, count in spans for _ in range(count)]]
    samples = round((2 + 0.5 * (len(said) - 1)) * RATE)
    return emotion_timeline(said, np.ones(len(said), bool) if heard is None else heard, samples, names)


def test_each_emotion_fades_in_where_it_begins():
    # windows 9 and 10 are centred on 5.5 s and 6 s; the fade of 0.4 s has its middle between them
    assert timeline(("happy", 10), ("sad", 10)) == [(0.0, {"happy": 1.0}), (5.55, {"sad": 1.0})]


def test_moments_are_no_emotions():
    assert [seconds for seconds, _ in timeline(("happy", 10), ("sad", 2), ("happy", 10))] == [0.0]
    assert len(timeline(*[("happy", 1), ("sad", 1)] * 20)) <= 2


def test_mixtures_are_kept_and_small_shares_dropped():
    said = np.tile([0.62, 0.33, 0.05], (5, 1))
    track = emotion_timeline(said, np.ones(5, bool), 4 * RATE, ["happy", "neutral", "sad"])
    assert track == [(0.0, {"happy": 0.65, "neutral": 0.35})]
    assert emotion_timeline(said, np.ones(5, bool), 4 * RATE, ["happy", "happy", "sad"]) == [(0.0, {"happy": 1.0})]


def test_what_is_said_of_silence_does_not_count():
    heard = np.array([True] * 8 + [False] * 8 + [True] * 8)
    track = timeline(("happy", 8), ("sad", 8), ("happy", 8), heard=heard)
    assert track == [(0.0, {"happy": 1.0})]
    assert timeline(("sad", 4), heard=np.zeros(4, bool)) == [(0.0, {"neutral": 1.0})]


def test_of_hours_there_are_no_more_entries_than_a_timeline_may_have():
    track = timeline(*[("happy", 5), ("sad", 5)] * 800)
    assert 500 < len(track) <= 1000
    EmotionTrack.create(track, 1.0)


def test_timelines_can_be_written_and_read():
    track = [(0.0, {"happy": 1.0}), (2.05, {"sad": 0.65, "neutral": 0.35})]
    assert write_timeline(track) == "0:happy, 2.05:sad=0.65+neutral=0.35"
    read = EmotionTrack.create(parse_timeline(write_timeline(track)), 1.0)
    assert read.keyframes == EmotionTrack.create(track, 1.0).keyframes
    assert parse_intensity(write_intensity([(0.0, 0.8), (1.52, 1.25)])) == [(0.0, 0.8), (1.52, 1.25)]
    assert parse_intensity(" voice ") == "voice"
