import cv2
import numpy as np
import pytest

from eat_hf.inputs.face_detector import find_faces

CENTRE, SIDE = np.array([224, 118]), 100  # of the face in the photograph


def is_the_face(found, centre, side):
    return len(found) == 1 and np.abs((found[0].box[:2] + found[0].box[2:]) / 2 - centre).max() < 0.35 * side


@pytest.mark.parametrize("roll", [-60, -35, 20, 60])
def test_finds_faces_that_lean(portrait, roll):
    turn = cv2.getRotationMatrix2D(CENTRE.astype(float).tolist(), roll, 1.0)
    picture = cv2.warpAffine(portrait, turn, portrait.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    found = find_faces(picture)
    assert is_the_face(found, CENTRE, SIDE)
    eyes, mouth = found[0].points[:2].mean(0), found[0].points[3:].mean(0)
    down = np.array([np.sin(np.radians(roll)), np.cos(np.radians(roll))])  # where the mouth is, seen from the eyes
    assert (mouth - eyes) @ down > 0.9 * np.linalg.norm(mouth - eyes)


@pytest.mark.parametrize("scale", [0.24, 0.6, 5.0])
def test_finds_small_and_large_faces(portrait, scale):
    size = [round(n * scale) for n in portrait.shape[1::-1]]
    picture = cv2.resize(portrait, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    assert is_the_face(find_faces(picture), CENTRE * scale, SIDE * scale)


def test_five_points_are_where_the_features_are(portrait):
    """Read off the photograph."""
    found = find_faces(portrait)[0]
    assert np.abs(found.points[:2].mean(0) - (224, 108)).max() < 6
    assert np.abs(found.points[3:].mean(0) - (226, 148)).max() < 6


def test_a_grey_picture_shows_the_same_face(portrait):
    assert is_the_face(find_faces(cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)), CENTRE, SIDE)


def test_there_are_no_faces_in_noise_and_textures():
    rng = np.random.default_rng(0)
    for grain in (8, 32, 128, 512):
        noise = rng.integers(0, 256, (grain, grain, 3)).astype(np.uint8)
        assert find_faces(cv2.resize(noise, (512, 512), interpolation=cv2.INTER_CUBIC)) == []
    assert find_faces(np.full((300, 200, 3), 127, np.uint8)) == []
