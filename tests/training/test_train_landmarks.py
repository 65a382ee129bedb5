import numpy as np
import pytest
import torch

from eat_hf.errors import UserError
from eat_hf.inputs.landmark_network import LandmarkNetwork
from eat_hf.inputs.landmarks import CROP_TEMPLATE, DEFAULT_TEMPLATE
from training.train_landmarks import MIRRORED, draw_crops, main, read_data


def data(count=12, side=160):
    """Grey pictures with a bright spot on the tip of the nose."""
    rng = np.random.default_rng(0)
    points = (DEFAULT_TEMPLATE - 128) * 0.6 + side / 2 + rng.uniform(-6, 6, (count, 1, 2))
    yy, xx = np.mgrid[:side, :side]
    spots = np.hypot(xx - points[:, 30, 0, None, None], yy - points[:, 30, 1, None, None]) < 4
    pictures = np.where(spots[..., None], 255, 40).repeat(3, -1).astype(np.uint8)
    return {"pictures": pictures, "landmarks": points.astype(np.float32)}


def test_mirroring_twice_changes_nothing():
    assert [MIRRORED[n] for n in MIRRORED] == list(range(68))
    mirrored = DEFAULT_TEMPLATE[MIRRORED] * (-1, 1) + (256, 0)
    assert np.abs(mirrored - DEFAULT_TEMPLATE).max() < 4  # the template is about symmetric


def test_labels_follow_the_pictures(monkeypatch):
    for name in ("vary_look", "spoil"):
        monkeypatch.setattr(f"training.train_landmarks.{name}", lambda pictures: pictures)
    monkeypatch.setattr(
        "training.train_landmarks.occlude", lambda pictures, points: (pictures, torch.zeros(len(points), dtype=bool))
    )
    torch.manual_seed(0)
    faces = data()
    pictures = torch.from_numpy(faces["pictures"]).permute(0, 3, 1, 2) / 255
    crops = draw_crops(pictures, torch.from_numpy(faces["landmarks"]), torch.zeros(12, dtype=bool), 128)
    spots = (crops["pictures"].mean(1) - 0.3).clamp(0)
    axis = torch.arange(128.0)
    total = spots.sum((1, 2))
    centres = torch.stack([(spots.sum(1) @ axis) / total, (spots.sum(2) @ axis) / total], -1)
    assert (centres - crops["landmarks"][:, 30]).abs().max() < 0.7
    assert (crops["landmarks"].mean(1) / 128 - torch.from_numpy(CROP_TEMPLATE).mean(0)).abs().max() < 0.25


def test_covered_mouths_are_labelled():
    torch.manual_seed(0)
    faces = data(64)
    pictures = torch.from_numpy(faces["pictures"]).permute(0, 3, 1, 2) / 255
    crops = draw_crops(pictures, torch.from_numpy(faces["landmarks"]), torch.arange(64) < 2, 128)
    assert crops["covered"][:2].all() and 4 < crops["covered"].sum() < 40
    assert 0 <= crops["pictures"].min() and crops["pictures"].max() <= 1


@pytest.mark.parametrize("name", ["faces.npz", "faces.safetensors"])
def test_it_trains_on_a_file(tmp_path, name):
    source = tmp_path / "faces.npz"
    np.savez(source, **data())
    run = [f"--output_dir={tmp_path}/run", "--steps=2", "--batch_size=4", "--device=cpu", "--checkpoint_every=100"]
    if name != source.name:
        main([f"--data={source}", f"--write={tmp_path / name}", *run])
    main([f"--data={tmp_path / name}", *run])
    assert LandmarkNetwork.from_pretrained(tmp_path / "run" / "landmark_network").config.size == 128


def test_mistakes_in_the_data_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no data at"):
        read_data(str(tmp_path / "missing.npz"))
    wrong = data()
    np.savez(tmp_path / "points.npz", pictures=wrong["pictures"], landmarks=wrong["landmarks"][:, :5])
    with pytest.raises(UserError, match="landmarks of .* must be of shape"):
        read_data(str(tmp_path / "points.npz"))
    np.savez(tmp_path / "none.npz", landmarks=wrong["landmarks"])
    with pytest.raises(UserError, match="has no pictures"):
        read_data(str(tmp_path / "none.npz"))
