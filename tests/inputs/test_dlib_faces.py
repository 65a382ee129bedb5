"""dlib's landmarks, for official weights and for measuring."""

import sys

import numpy as np
import pytest

pytest.importorskip("dlib", reason="dlib comes with the extra `dlib`")

from eat_hf.errors import UserError  # noqa: E402
from eat_hf.inputs import dlib_faces  # noqa: E402
from eat_hf.inputs.dlib_faces import detect_faces_with_dlib, reread_landmarks  # noqa: E402
from eat_hf.inputs.faces import align_portrait, detect_faces, find_driver, find_portrait  # noqa: E402


@pytest.fixture(scope="module")
def judged(portrait):
    [face] = detect_faces_with_dlib(portrait)
    return face


def test_it_sees_what_the_network_sees(portrait, judged):
    [face] = detect_faces(portrait)
    eyes = np.linalg.norm(judged.landmarks[36] - judged.landmarks[45])
    assert np.linalg.norm(face.landmarks - judged.landmarks, axis=1).mean() < 0.06 * eyes


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 640), (12, 640), (40, 1000)])
def test_strips_show_no_face(shape):
    """The detector itself crashes on some."""
    assert detect_faces_with_dlib(np.full((*shape, 3), 90, np.uint8)) == []


def test_official_weights_get_its_crops(portrait, judged):
    [face] = detect_faces(portrait)
    own, as_published = find_portrait(portrait, face), find_portrait(portrait, face, reader="dlib")
    expected = align_portrait(portrait, judged)
    assert np.allclose(as_published.matrix, expected.matrix) and not np.allclose(own.matrix, expected.matrix)
    assert np.array_equal(as_published.crop, expected.crop)
    # squares of driving videos, too
    frames = [portrait] * 2
    own, as_published = (next(find_driver(iter(frames), "a.mp4", reader=reader)) for reader in ("network", "dlib"))
    assert own.shape == as_published.shape and not np.array_equal(own, as_published)


def test_a_face_that_it_does_not_find_is_read_all_the_same(portrait, judged, monkeypatch):
    [face] = detect_faces(portrait)
    monkeypatch.setattr(dlib_faces, "detect_faces_with_dlib", lambda image: [])
    read = reread_landmarks(portrait, face.box, face.landmarks)
    eyes = np.linalg.norm(judged.landmarks[36] - judged.landmarks[45])
    assert np.linalg.norm(read - judged.landmarks, axis=1).mean() < 0.06 * eyes


def test_without_it_official_weights_say_so(portrait, monkeypatch):
    for name in ("_frontal_detector", "_landmark_predictor"):
        getattr(dlib_faces, name).cache_clear()
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"pip install 'eat_hf\[dlib\]'"):
        find_portrait(portrait, reader="dlib")
