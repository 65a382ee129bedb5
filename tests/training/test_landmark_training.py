"""The landmark network and its training on rendered heads."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from eat_hf.inputs.landmark_network import FaceLandmarks  # noqa: E402
from eat_hf.inputs.landmarks import DEFAULT_TEMPLATE, MIRROR  # noqa: E402
from eat_hf.models.components import load_component  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.data.frames import FrameBank  # noqa: E402
from training.landmarks.animals import without_people  # noqa: E402
from training.landmarks.train import MOUTH, cover_mouths, crop_faces, keep_convention, main  # noqa: E402


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(Plan(folder, identities=8, speech_clips=0, latent_clips=0, range_frames=6, seed=2), progress=False)
    return folder


def test_it_learns_and_is_saved(corpus, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "components:\n  face_landmarks: {class: FaceLandmarks, input_size: 64, down_channels: [8, 16, 24], "
        "up_channels: [16], hidden: 32}\nstages:\n  landmarks: {}\n"
    )
    run = ["--config", str(config), "--corpus", str(corpus), "--batch_size", "16", "--log_every", "1"]
    errors = {}
    for steps in (1, 60):
        folder = tmp_path / str(steps)
        main(
            [*run, "--output_dir", str(folder), "--steps", str(steps), "--warmup_steps", "5", "--learning_rate", "0.01"]
        )
        errors[steps] = json.loads((folder / "results.json").read_text())["error_of_eye_distance"]
    assert errors[60] < 0.6 * errors[1]
    model = load_component(tmp_path / "60" / "face_landmarks")
    out = model(torch.rand(3, 3, 64, 64))
    assert isinstance(model, FaceLandmarks) and out.landmarks.shape == (3, 68, 2)
    assert (
        out.deviation.shape == (3, 68) and (out.deviation > 0).all() and out.covered.shape == out.person.shape == (3,)
    )
    again = tmp_path / "again"  # a run may go on from a network
    main([*run, "--output_dir", str(again), "--steps", "1", "--initial", str(tmp_path / "60" / "face_landmarks")])
    assert json.loads((again / "results.json").read_text())["error_of_eye_distance"] < 0.6 * errors[1]


def marked(points, size=256):
    """A picture (1, 3, size, size) whose green is a bump at each of the points (P, 2)."""
    grid = torch.linspace(-1 + 1 / size, 1 - 1 / size, size)
    x, y = (torch.exp(-((grid - points[:, i : i + 1]) ** 2) / 0.0008) for i in (0, 1))
    return torch.stack([torch.zeros(size, size), (y[:, :, None] * x[:, None]).amax(0), torch.zeros(size, size)])[None]


def test_crops_carry_their_landmarks():
    torch.manual_seed(0)
    landmarks = 0.4 * torch.rand(1, 68, 2) - 0.2
    crops, moved = crop_faces(marked(landmarks[0]), landmarks, 128, roll=60)
    columns, rows = ((moved[0] + 1) * 64 - 0.5).round().long().T
    seen = (columns >= 0) & (columns < 128) & (rows >= 0) & (rows < 128)
    assert seen.sum() > 50 and (crops[0, 1, rows[seen], columns[seen]] > 0.6).all()
    _, straight = crop_faces(marked(landmarks[0]), landmarks, 128, roll=0, spread=0)
    low, high = straight[0].amin(0), straight[0].amax(0)
    assert torch.allclose(low, -high, atol=1e-5) and np.isclose((high - low).max() / 2, 1 / 1.25, atol=1e-4)


def test_covered_mouths_are_covered():
    torch.manual_seed(1)
    landmarks = 0.3 * torch.rand(200, 68, 2) - 0.15
    pictures = torch.full((200, 3, 64, 64), 0.5)
    out, covered = cover_mouths(pictures, landmarks)
    assert 0.05 < covered.mean() < 0.3
    columns, rows = ((landmarks[:, MOUTH].mean(1) + 1) * 32).long().T
    at_mouth = (out[torch.arange(200), :, rows, columns] - 0.5).abs().amax(1) > 0.01
    assert at_mouth[covered == 1].float().mean() > 0.9
    untouched = (out == pictures).flatten(1).all(1)
    assert untouched.float().mean() > 0.6 and not covered[untouched].any()


def test_a_convention_is_kept(corpus):
    """Points that are taught to sit elsewhere return to where they were."""
    torch.manual_seed(0)
    one = FaceLandmarks(input_size=64, down_channels=(8, 16), up_channels=(8,), hidden=16).eval()
    other = FaceLandmarks(**one.config).eval()
    other.load_state_dict(one.state_dict())
    step = torch.linspace(-0.1, 0.1, 68)[:, None] * torch.tensor([0.0, 1.0])
    step = (step + step[MIRROR]) / 2  # on both sides alike
    with torch.no_grad():
        one.to_shift.bias += step.flatten()
    keep_convention(one, other, FrameBank.load(str(corpus), "validation"), 64)
    assert torch.allclose(one.to_shift.bias, other.to_shift.bias, atol=1e-5)


def test_animals_are_not_what_they_were_made_of():
    """Nearly every picture changes around the eyes or the mouth, and stays a picture."""
    torch.manual_seed(2)
    count = 100
    points = torch.from_numpy((DEFAULT_TEMPLATE - 128) / 128).float().expand(count, -1, -1)
    people = torch.rand(count, 3, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3)
    animals = without_people(people, points)
    assert animals.shape == people.shape and animals.min() >= 0 and animals.max() <= 1
    inner = (animals - people).abs()[:, :, 24:50, 18:46].mean((1, 2, 3))
    assert (inner > 0.05).float().mean() > 0.95
