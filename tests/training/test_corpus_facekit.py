"""The second family of heads, on a stand-in: the real model is the user's."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")

from facekit_stand_in import write_stand_in  # noqa: E402

from eat_hf.errors import UserError  # noqa: E402
from training.corpus import heads  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.corpus.facekit_heads import FaceKit, sample_facekit  # noqa: E402
from training.corpus.figure import Figure  # noqa: E402
from training.corpus.people import sample_identity  # noqa: E402
from training.corpus.render import ClipRenderer  # noqa: E402

STILL = np.zeros(3, np.float32)
FRONTAL = heads.head_rotation(0, 0, 0)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_stand_in(tmp_path_factory.mktemp("facekit") / "ict_facekit.npz")


@pytest.fixture(scope="module")
def person(path):
    return sample_facekit(np.random.default_rng(5), FaceKit.load(path))


def test_parts_and_points_are_found(path, person):
    mesh = FaceKit.load(path).mesh
    assert all(len(mesh.vertices_of(part)) for part in heads.PARTS if part != "gums")
    assert len(set(mesh.keypoints)) == len(heads.KEYPOINT_NAMES) and len(set(mesh.landmarks)) == 68
    for name, (x, _, _) in person.named_keypoints.items():
        assert (x < -0.01) == name.endswith("_left") and (x > 0.01) == name.endswith("_right")
    assert 0.4 < person.landmarks[:, 2].mean() < 0.9  # the face looks at the viewer


def test_half_of_the_people_are_of_it(path):
    model = FaceKit.load(path)
    families = [sample_identity(np.random.default_rng(seed), model).family for seed in range(40)]
    assert 10 < families.count("facekit") < 30
    assert {sample_identity(np.random.default_rng(seed)).family for seed in range(4)} == {"makehuman"}


def test_teeth_follow_skull_and_jaw(person):
    closed, opened = (
        person.arches + np.tensordot(heads.arkit_weights(jawOpen=jaw), person.arch_basis, 1) for jaw in (0, 0.5)
    )
    upper, lower = slice(0, 22), slice(22, 44)
    assert np.allclose(opened[upper], closed[upper])
    assert (opened[lower, 1] - closed[lower, 1] > 0.05).all()
    for arch in (upper, lower):
        meets = closed[arch].reshape(-1, 2, 3)
        assert (np.diff(meets[:, 1, 0]) > 0).all()  # from the picture's left to its right
    edges = closed.reshape(2, 11, 2, 3)[..., 1]
    assert (edges[0, :, 1] > edges[0, :, 0]).all() and (edges[1, :, 1] < edges[1, :, 0]).all()  # gum, then edge


def test_its_tongue_rises_with_the_whole_tip_first(person):
    surface = Figure(person).surface
    arkit = heads.arkit_weights(jawOpen=0.5)
    low, high = (surface.pose(arkit, FRONTAL, STILL, raised) for raised in (0.0, 1.0))
    tip, moved = surface.tongue.argmax(), low[:, 1] - high[:, 1]
    assert moved[tip] == moved.max() > 0.02 and abs(high[tip, 1] - person.arches[11, 1]) < 0.04
    assert set(np.flatnonzero(moved)) <= set(person.mesh.vertices_of("tongue"))


def test_it_is_rendered_with_its_teeth(person):
    pictures = ClipRenderer(person, replace(person.scene, noise=0.0, jpeg=0, filter="none"))
    closed, opened = (
        pictures.frame(heads.arkit_weights(jawOpen=jaw), FRONTAL, STILL).astype(int) for jaw in (0.0, 0.5)
    )
    changed = np.abs(opened - closed).sum(-1) > 60
    rows, columns = np.nonzero(changed)
    mouth = heads.to_pixels(person.landmarks[48:]).mean(0)
    assert changed.sum() > 300 and np.hypot(columns.mean() - mouth[0], rows.mean() - mouth[1]) < 40


def test_a_larger_picture_shows_the_same(person):
    scene = replace(person.scene, noise=0.0, jpeg=0, blur=0.0, filter="none")
    small, large = (
        ClipRenderer(person, scene, size).frame(heads.arkit_weights(), FRONTAL, STILL) for size in (256, 512)
    )
    assert large.shape == (512, 512, 3)
    reduced = large.reshape(256, 2, 256, 2, 3).mean((1, 3))
    assert np.abs(reduced - small).mean() < 4


def test_a_corpus_of_both_families(path, tmp_path):
    plan = Plan(tmp_path, identities=4, speech_clips=0, latent_clips=0, range_frames=3, seed=1, ict_facekit=str(path))
    build_corpus(plan, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert {line["family"] for line in lines} == {"makehuman", "facekit"}
    info = json.loads((tmp_path / "corpus.json").read_text())
    assert info["families"] == ["makehuman", "facekit"] and "--ict-facekit" in info["command"]
    with pytest.raises(UserError, match="families"):  # not half of one corpus and half of another
        build_corpus(replace(plan, ict_facekit=""), progress=False)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "ict_facekit.npz").write_bytes(b"no model")
    np.savez(tmp_path / "other.npz", neutral=np.zeros((3, 3)))
    for name in ("ict_facekit.npz", "other.npz", "missing.npz"):
        with pytest.raises(UserError, match=f"{name} cannot be read as ICT FaceKit"):
            FaceKit.load(tmp_path / name)
