"""Measures of a face whose landmarks are placed by hand, and lips that follow a voice with a known delay."""

import numpy as np
import pytest

from training.experiments.face_measures import change_between, follow_loudness, measure_face

EYE_DISTANCE = 60


def face(frames=1, **moved):
    """(frames, 68, 2): eyes 60 pixels apart. `moved`: places of groups of points that differ from the neutral ones."""
    groups = {
        "left_eye": ([36, 39], (100, 100)),
        "right_eye": ([42, 45], (160, 100)),
        "inner_brows": ([21, 22], (130, 85)),
        "outer_brows": ([*range(17, 21), *range(23, 27)], (130, 85)),
        "left_corner": ([48], (106, 160)),
        "right_corner": ([54], (154, 160)),
        "upper_lip": ([50, 51, 52], (130, 154)),
        "inner_upper": ([61, 62, 63], (130, 159)),
        "inner_lower": ([65, 66, 67], (130, 162)),
        "chin": ([7, 8, 9], (130, 196)),
    }
    points = np.zeros((frames, 68, 2))
    for name, (indices, place) in groups.items():
        points[:, indices] = moved.pop(name, place)
    assert not moved
    return points


NEUTRAL = face()


def changes(**moved):
    """What is not 0 of the change from the neutral face, in pixels."""
    change = change_between(measure_face(face(**moved)), measure_face(NEUTRAL))
    return {name: pytest.approx(EYE_DISTANCE * value) for name, value in change.items() if abs(value) > 1e-9}


def test_neutral_face_in_eye_distances():
    expected = {
        "mouth_opening": 3 / 60, "jaw": 96 / 60, "mouth_width": 48 / 60, "corner_height": -1, "left_corner": -1,
        "right_corner": -1, "smile": -1 + 24 / 60, "upper_lip": -54 / 60, "brow": 15 / 60, "inner_brow": 15 / 60,
    }  # fmt: skip
    assert {name: value.item() for name, value in measure_face(NEUTRAL).items()} == pytest.approx(expected)


def test_smile_lifts_and_widens_the_mouth():
    assert changes(left_corner=(103, 156), right_corner=(157, 156)) == {
        "corner_height": 4, "left_corner": 4, "right_corner": 4, "mouth_width": 6, "smile": 4 + 3,
    }  # fmt: skip


def test_brows_as_a_whole_and_their_inner_ends():
    assert changes(inner_brows=(130, 80), outer_brows=(130, 80)) == {"brow": 5, "inner_brow": 5}
    assert changes(inner_brows=(130, 80)) == {"brow": 1, "inner_brow": 5}  # two of ten points


def test_open_mouth_and_jaw():
    assert changes(inner_lower=(130, 170), chin=(130, 206)) == {"mouth_opening": 8, "jaw": 10}


def test_one_corner_is_no_smile_of_both():
    assert changes(right_corner=(154, 154)) == {"right_corner": 6, "corner_height": 3, "smile": 3, "one_corner": 6}
    both = changes(left_corner=(106, 155), right_corner=(154, 154))
    assert both["one_corner"] == 1
    fallen = changes(left_corner=(106, 165))  # the other one does not rise
    assert "one_corner" not in fallen and fallen["left_corner"] == -5


def test_place_size_and_roll_of_the_head_do_not_matter():
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    smiling = face(left_corner=(103, 156), right_corner=(157, 156))
    moved = 1.7 * smiling @ turn.T + (31, -12)
    for name, value in measure_face(smiling).items():
        assert measure_face(moved)[name] == pytest.approx(value), name


def test_changes_are_of_the_frames_with_a_face_in_both_clips():
    neutral, emotional = face(4), face(3, chin=(130, 202))
    emotional[1, 7:10, 1] += 1000
    neutral[1] = np.nan  # takes the odd frame out
    emotional[2] = np.nan
    assert change_between(measure_face(emotional), measure_face(neutral))["jaw"] == pytest.approx(0.1)
    lost = np.full((3, 68, 2), np.nan)
    assert np.isnan(list(change_between(measure_face(lost), measure_face(neutral)).values())).all()


@pytest.mark.parametrize("lag", [-5, -2, 0, 3, 5])
def test_lips_follow_with_a_known_lag(lag):
    voice = np.random.default_rng(0).random(70)
    lips = 2 + 0.1 * np.roll(voice, lag)
    lips[[20, 41]] = np.nan
    assert follow_loudness(lips, voice) == (pytest.approx(1), lag)


def test_lips_that_move_the_wrong_way_or_too_late_do_not_follow():
    voice = np.random.default_rng(0).random(200)
    assert follow_loudness(-voice, voice, max_lag=0) == (pytest.approx(-1), 0)
    assert follow_loudness(np.roll(voice, 6), voice)[0] < 0.3
    assert follow_loudness(np.roll(voice, 6), voice, max_lag=6) == (pytest.approx(1), 6)


@pytest.mark.parametrize("lips", [np.full(30, np.nan), np.ones(30)])
def test_nothing_follows_without_a_face_or_movement(lips):
    correlation, lag = follow_loudness(lips, np.random.default_rng(0).random(30))
    assert np.isnan(correlation) and lag == 0
