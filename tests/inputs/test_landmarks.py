import sys
import warnings

import cv2
import numpy as np
import pytest
import torch

from eat_hf.errors import InputWarning
from eat_hf.inputs import faces
from eat_hf.inputs.landmark_network import FaceLandmarks, FaceLandmarksOutput
from eat_hf.inputs.landmarks import (
    CROP_TEMPLATE,
    DEFAULT_TEMPLATE,
    MIRROR,
    five_points,
    read_landmarks,
    similarity_transform,
    upright_crop,
)

SIZE = 64


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FaceLandmarks(input_size=SIZE, down_channels=(8, 8, 16), up_channels=(16,), hidden=16).eval()


def test_the_template_lies_inside_the_crop():
    assert 0.1 < CROP_TEMPLATE.min() and CROP_TEMPLATE.max() < 0.9


def test_it_can_be_saved_and_loaded(network, tmp_path):
    network.save_pretrained(tmp_path)
    again = FaceLandmarks.from_pretrained(tmp_path).eval()
    pictures = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        one, other = network(pictures), again(pictures)
    for name in ("landmarks", "covered", "person"):
        assert torch.equal(one[name], other[name])
    assert one.landmarks.shape == (2, 68, 2) and one.deviation.shape == (2, 68) and (one.deviation > 0).all()


class Marked(torch.nn.Module):
    """Finds the one red pixel patch of every crop, and says that all points lie there around the template; beside
    that by `bias` to the right, which the mirrored crop must cancel."""

    config = type("Config", (), {"input_size": SIZE})

    def __init__(self, bias=0.0):
        super().__init__()
        self.bias = bias

    def __call__(self, pixel_values):
        red = (pixel_values[:, 0] - pixel_values[:, 1]).clamp(0)
        axis = torch.arange(SIZE, dtype=torch.float32)
        centre = torch.stack([(red.sum(1) * axis).sum(1), (red.sum(2) * axis).sum(1)], 1) / red.sum((1, 2))[:, None]
        points = torch.from_numpy(CROP_TEMPLATE * SIZE).float()
        symmetrical = (points + torch.tensor([SIZE, 0]) + points[MIRROR] * torch.tensor([-1, 1])) / 2
        place = centre[:, None] + 0.5 + torch.tensor([self.bias, 0])
        landmarks = (symmetrical - symmetrical[30] + place) * 2 / SIZE - 1
        n = len(pixel_values)
        return FaceLandmarksOutput(landmarks, torch.full((n, 68), 0.02), torch.zeros(n), torch.zeros(n))


@pytest.mark.parametrize("scale, roll", [(0.5, 0), (1.0, 50), (6.0, -120)])
def test_points_return_to_the_picture_they_came_from(scale, roll):
    turn = cv2.getRotationMatrix2D((128, 150), roll, scale)
    true = DEFAULT_TEMPLATE @ turn[:, :2].T + turn[:, 2] + (500, 500)
    picture = np.full((1600, 1600, 3), 90, np.uint8)
    x, y = true[30]
    radius = 4 * scale
    yy, xx = np.mgrid[:1600, :1600]
    picture[np.hypot(xx - x, yy - y) < radius] = (250, 0, 0)
    known = five_points(true) + 3 * scale  # as far as the detector may be off
    read = read_landmarks(picture, known, Marked())
    assert np.abs(read.landmarks - true).max() < 2.0 * max(scale, 1)
    assert read.covered == read.person == pytest.approx(0.5)
    assert read.asymmetry < 0.02
    biased = read_landmarks(picture, known, Marked(bias=3.0))  # which is seen, and cancels
    assert np.abs(biased.landmarks - true).max() < 2.0 * max(scale, 1) and biased.asymmetry > 0.1


def test_crops_of_large_faces_do_not_alias():
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3)).astype(np.uint8)
    matrix = similarity_transform(DEFAULT_TEMPLATE * 8, CROP_TEMPLATE * SIZE)
    assert upright_crop(noise, matrix, SIZE).std() < 25


def test_numbers_of_mirrored_points():
    assert np.array_equal(MIRROR[MIRROR], np.arange(68))
    mirrored = DEFAULT_TEMPLATE[MIRROR] * (-1, 1) + (2 * DEFAULT_TEMPLATE[30, 0], 0)
    assert np.abs(mirrored - DEFAULT_TEMPLATE).max() < 6  # a face is about symmetrical


def test_faces_are_read_without_dlib(portrait, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    [face] = faces.detect_faces(portrait)
    assert face.landmarks.shape == (68, 2) and 0 <= face.covered < 0.1


def test_what_the_networks_do_not_agree_on_is_no_face(portrait, monkeypatch):
    for name, value in (("LARGEST_DISAGREEMENT", 0.0), ("PERSON", 1.1)):
        with monkeypatch.context() as other:
            other.setattr(faces, name, value)
            assert faces.detect_faces(portrait) == []


def test_a_covered_mouth_is_told(portrait):
    """A hand, a mask, a microphone over the mouth: the face is found, and whoever chose the picture hears of it."""
    [free] = faces.detect_faces(portrait)
    assert free.covered < 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faces.choose_face([free])
    x, y = free.landmarks[48:68].mean(0)
    width = np.ptp(free.landmarks[36:48, 0])
    yy, xx = np.mgrid[: len(portrait), : portrait.shape[1]]
    mask = np.hypot((xx - x) / 0.75, (yy - y - 0.05 * width) / 0.5) < width
    mask &= yy > free.landmarks[30, 1] - 0.1 * width
    covered = portrait.copy()
    covered[mask] = (150, 190, 205)
    [found] = faces.detect_faces(covered)
    assert found.covered > 0.5
    with pytest.warns(InputWarning, match="mouth seems to be covered"):
        faces.choose_face([found])
    read = read_landmarks(covered, five_points(free.landmarks))
    assert read.covered > 0.5
