import numpy as np
import pytest

from eat_hf.errors import UserError
from eat_hf.inputs.emotions import EmotionTrack, parse_emotion, parse_intensity, parse_timeline

EMOTIONS = ("angry", "happy", "neutral", "sad")


def weights(emotion, intensity=1.0, frames=100):
    return EmotionTrack.create(emotion, intensity, EMOTIONS).weights(frames, EMOTIONS)


def test_a_name_is_a_constant_row():
    assert np.array_equal(weights("happy", frames=3), [[0, 1, 0, 0]] * 3)


def test_weights_are_proportions():
    assert np.allclose(weights({"happy": 6, "sad": 2}, frames=2), [[0, 0.75, 0, 0.25]] * 2)


def test_timeline_cross_fades_over_ten_frames():
    rows = weights([(0.0, "neutral"), (2.0, "happy")])
    happy = rows[:, 1]
    assert (happy[:51] == 0).all() and (happy[60:] == 1).all()  # 2 s is frame 50, 0.4 s are 10 frames
    assert (np.diff(happy[50:61]) > 0).all() and happy[55] == pytest.approx(0.5)
    assert np.allclose(rows.sum(1), 1)


def test_timeline_may_come_unordered_and_starts_neutral():
    rows = weights([(3.0, {"sad": 1}), (1.0, "angry")])
    assert rows[10].tolist() == [0, 0, 1, 0] and rows[50].tolist() == [1, 0, 0, 0] and rows[99].tolist() == [0, 0, 0, 1]


def test_entries_closer_than_a_fade_stay_smooth():
    rows = weights([(0.0, "happy"), (1.0, "sad"), (1.12, "angry"), (1.2, "happy")])
    assert np.abs(np.diff(rows, axis=0)).max() < 0.25
    assert np.allclose(rows.sum(1), 1) and rows[-1, 1] == 1


@pytest.mark.parametrize(
    ("intensity", "row"), [(0, [0, 0, 1, 0]), (0.25, [0, 0.25, 0.75, 0]), (1.5, [0, 1.5, -0.5, 0])]
)
def test_intensity_moves_between_neutral_and_beyond(intensity, row):
    assert np.allclose(weights("happy", intensity, 2), [row] * 2)


def test_neutral_ignores_intensity():
    assert np.allclose(weights("neutral", 1.5, 2), [[0, 0, 1, 0]] * 2)


def test_intensity_timeline_is_linear():
    happy = weights("happy", [(0, 0.0), (2, 1.0)])[:, 1]
    assert happy[25] == pytest.approx(0.5) and happy[0] == 0 and (happy[50:] == 1).all()


@pytest.mark.parametrize(
    ("emotion", "intensity", "words"),
    [
        ("joyful", 1, "angry, happy, neutral, sad"),
        ({"happy": -1.0}, 1, "weight of happy"),
        ({"happy": float("nan")}, 1, "weight of happy"),
        ({"happy": 0, "sad": 0}, 1, "above 0"),
        ({}, 1, "above 0"),
        ([], 1, "empty"),
        ([(-1, "happy")], 1, "from 0 up"),
        ([(1, "happy"), (1, "sad")], 1, "same time"),
        ([("happy", "sad")], 1, "seconds"),
        (["happy"], 1, "pairs"),
        (7, 1, "pairs"),
        ("happy", 1.6, "between 0 and 1.5"),
        ("happy", -0.1, "between 0 and 1.5"),
        ("happy", float("nan"), "between 0 and 1.5"),
        ("happy", [(0, 1), (1, 9)], "between 0 and 1.5"),
    ],
)
def test_mistakes_are_named(emotion, intensity, words):
    with pytest.raises(UserError, match=words):
        weights(emotion, intensity)


def test_a_model_without_neutral_cannot_be_toned_down():
    assert EmotionTrack.create("happy", 1, ("happy",)).weights(1, ("happy",)).tolist() == [[1]]
    with pytest.raises(UserError, match="neutral"):
        EmotionTrack.create("happy", 0.5, ("happy",))


def test_parsing():
    assert parse_emotion(" happy ") == "happy"
    assert parse_emotion("happy=0.7, surprised=0.3") == {"happy": 0.7, "surprised": 0.3}
    assert parse_timeline("0:neutral, 1.5:happy=1+sad=2") == [(0.0, "neutral"), (1.5, {"happy": 1.0, "sad": 2.0})]
    assert parse_intensity("0.8") == 0.8
    assert parse_intensity("0:0,2:1.2") == [(0.0, 0.0), (2.0, 1.2)]


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_emotion, "happy=much"), (parse_timeline, "happy"), (parse_timeline, "x:happy"), (parse_intensity, "full")],
)
def test_unreadable_text_is_a_user_error(parse, text):
    with pytest.raises(UserError, match="0:neutral|Expected a number"):
        parse(text)


def test_a_stretch_of_frames_has_the_weights_of_the_whole():
    track = EmotionTrack.create([(0.5, "happy"), (1.0, "sad")], [(0, 0.2), (2, 1.4)], EMOTIONS)
    assert np.array_equal(track.weights(30, EMOTIONS, start=20), track.weights(100, EMOTIONS)[20:50])


@pytest.mark.parametrize("moment", [0.0, 0.2, 1.0, 1.24])
def test_a_change_is_an_entry_of_the_timeline(moment):
    track = EmotionTrack.create([(0.0, "neutral"), (1.0, "happy"), (3.0, "angry")], 0.5, EMOTIONS)
    changed = track.changed(moment, {"sad": 1, "happy": 1}, 1.2, EMOTIONS)
    before = [entry for entry in [(0.0, "neutral"), (1.0, "happy")] if entry[0] < moment]
    emotion = [*before, (moment, {"sad": 1, "happy": 1})]
    intensity = 1.2 if moment == 0 else [(0.0, 0.5), (moment, 0.5), (moment + 0.4, 1.2)]
    assert np.allclose(changed.weights(100, EMOTIONS), weights(emotion, intensity))
    same = track.changed(moment)
    assert np.array_equal(same.weights(100, EMOTIONS), track.weights(100, EMOTIONS))


def test_a_change_knows_the_emotions_and_is_no_timeline():
    track = EmotionTrack.create("neutral", 1, EMOTIONS)
    for wrong in ({"emotion": "joy"}, {"emotion": [(0, "sad")]}, {"intensity": 2}, {"intensity": [(0, 1)]}):
        with pytest.raises(UserError):
            track.changed(1.0, **wrong, emotions=EMOTIONS)
    with pytest.raises(UserError, match="does not know"):
        EmotionTrack.create("happy", 1, ("happy",)).changed(1.0, intensity=0.5, emotions=("happy",))


def test_what_no_longer_shows_is_forgotten():
    track = EmotionTrack.create("happy", 1, EMOTIONS)
    for number in range(200):
        track = track.changed(number + 0.5, ("sad", "angry")[number % 2], 0.5 + number % 3 / 4, EMOTIONS)
        later = track.since(number + 0.76)
        start = round(25 * (number + 0.76))
        assert np.allclose(later.weights(50, EMOTIONS, start=start), track.weights(50, EMOTIONS, start=start))
        assert len(later.keyframes) <= 3 and len(later.intensity) <= 4
        track = later
    assert track.names <= {"sad", "angry"}
