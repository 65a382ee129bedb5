"""Labels of every pixel must be true of the pictures."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("numba")

from facekit_stand_in import write_stand_in  # noqa: E402

from eat_hf.errors import UserError  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.corpus.dense import MASKS, DenseLabels, read_surface, surface_arrays  # noqa: E402
from training.corpus.facekit_heads import FaceKit, sample_facekit  # noqa: E402
from training.corpus.heads import Motion, arkit_weights, clip_labels, to_pixels  # noqa: E402
from training.corpus.looks import Beard  # noqa: E402
from training.corpus.makehuman_heads import sample_makehuman  # noqa: E402
from training.corpus.render import ClipRenderer  # noqa: E402
from training.data.dataset import Corpus  # noqa: E402

PLAIN = {"noise": 0.0, "jpeg": 0, "blur": 0.0, "vignette": 0.0, "filter": "none", "collar": "crew"}
PLACES = np.stack(np.meshgrid(np.arange(256.0), np.arange(256.0)), -1).astype(np.float32)


def motion(*frames):
    """Frames of (weights, yaw, translation to the right)."""
    arkit, yaw, right = zip(*frames, strict=True)
    still = np.zeros(len(frames), np.float32)
    return Motion(np.stack(arkit), np.float32(yaw), still, still, np.stack([right, still, still], 1))


@pytest.fixture(scope="module", params=["makehuman", "facekit"])
def person(request, tmp_path_factory):
    if request.param == "makehuman":
        return sample_makehuman(np.random.default_rng(2))
    path = write_stand_in(tmp_path_factory.mktemp("facekit") / "ict_facekit.npz")
    return sample_facekit(np.random.default_rng(5), FaceKit.load(path))


@pytest.fixture(scope="module")
def filmed(person):
    """Pictures, labels and dense labels of three frames: neutral, an open mouth, a turned head."""
    look = replace(person.look, glasses=None, hat=None)
    person = replace(person, look=look)
    renderer = ClipRenderer(person, replace(person.scene, **PLAIN))
    neutral = arkit_weights()
    moves = motion((neutral, 0, 0), (arkit_weights(jawOpen=0.6), 0, 0.05), (neutral, 25, 0))
    labels = clip_labels(person, **vars(moves), distance=renderer.scene.distance)
    arrays = surface_arrays(renderer.surface, renderer.solid)
    return renderer.clip(moves), labels, DenseLabels(renderer.surface, renderer.solid, labels), arrays


def test_every_part_is_where_its_landmarks_are(filmed):
    _, labels, dense, _ = filmed
    closed, opened = dense.masks(0), dense.masks(1)
    assert closed.shape == (256, 256) and closed.dtype == np.uint8
    landmarks = to_pixels(labels["landmarks"]).round().astype(int)

    def at(masks, points):
        column, row = np.mean(points, axis=0).round().astype(int)
        return MASKS[masks[row, column]]

    assert at(closed, landmarks[0, [27, 28]]) == "skin"
    assert at(closed, landmarks[0, [51, 62]]) == at(closed, landmarks[0, [57, 66]]) == "lips"
    for eye in (slice(36, 42), slice(42, 48)):
        column, row = landmarks[0, eye].mean(0).round().astype(int)
        assert (closed[row - 1 : row + 2, column - 8 : column + 9] == MASKS.index("eyes")).mean() > 0.6
    mouth = {MASKS[part] for part in np.unique(opened[landmarks[1, 62, 1] + 1 : landmarks[1, 66, 1]])}
    assert {"lips", "teeth", "inner_mouth"} <= mouth
    assert np.isin(closed, [MASKS.index("teeth"), MASKS.index("inner_mouth")]).mean() < 0.001
    assert MASKS[closed[5, 5]] == "background" and MASKS.index("clothes") in closed[-4:]
    shares = np.bincount(closed.ravel(), minlength=len(MASKS)) / closed.size
    assert 0.1 < shares[MASKS.index("skin")] < 0.6 and not shares[MASKS.index("hat")]


def test_flow_takes_pixels_to_where_the_same_is_seen(filmed):
    pictures, labels, dense, _ = filmed
    for one, other in ((0, 1), (0, 2), (1, 0)):
        flow, visible = dense.flow(one, other)
        assert flow.shape == (256, 256, 2) and flow.dtype == np.float32 and visible.dtype == bool
        # as the landmarks say, which are exact
        start, end = (to_pixels(labels["landmarks"][frame]) for frame in (one, other))
        for point in (27, 28, 30, 33, 51):
            column, row = start[point].round().astype(int)
            assert np.abs(flow[row, column] - (end - start)[point]).max() < 1.0
        # as the pictures say: what is fetched from there is what is here
        fetched = cv2.remap(pictures[other], *np.moveaxis(PLACES + flow, -1, 0), cv2.INTER_LINEAR)
        error, unmoved = (
            np.abs(shown[visible].astype(int) - pictures[one][visible]).mean() for shown in (fetched, pictures[other])
        )
        assert error < 0.75 * unmoved
        assert np.array_equal(flow[5, 5], [0, 0]) and visible[5, 5]


def test_what_is_hidden_is_known(filmed):
    _, labels, dense, _ = filmed
    _, still_seen = dense.flow(0, 0)
    assert still_seen.mean() > 0.999
    masks, (_, seen) = dense.masks(1), dense.flow(1, 0)
    inside = np.isin(masks, [MASKS.index("teeth"), MASKS.index("inner_mouth")])
    assert inside.sum() > 50 and seen[inside].mean() < 0.15  # behind closed lips
    _, turned = dense.flow(0, 2)
    skin = dense.masks(0) == MASKS.index("skin")
    middle = round(float(to_pixels(labels["landmarks"])[0, 30, 0]))
    outer = [turned[:, side][skin[:, side]].mean() for side in (slice(middle - 45), slice(middle + 45, None))]
    assert max(outer) > min(outer) + 0.3  # one cheek turns away


def test_sizes_and_the_file_change_nothing(filmed, tmp_path):
    _, labels, dense, arrays = filmed
    np.savez_compressed(tmp_path / "surface.npz", **arrays)
    assert (tmp_path / "surface.npz").stat().st_size < 4e6
    read = DenseLabels(*read_surface(tmp_path / "surface.npz"), labels, 512)
    assert (read.masks(1)[::2, ::2] == dense.masks(1)).mean() > 0.97
    (large, seen), (small, also_seen) = read.flow(1, 2), dense.flow(1, 2)
    both = seen[::2, ::2] & also_seen
    assert np.median(np.abs(large[::2, ::2][both] / 2 - small[both])) < 0.1
    with pytest.raises(ValueError, match="at one size"):
        dense.flow(0, 1, read)


def test_a_beard_is_hair_that_moves_with_the_jaw(person):
    beard = Beard("full", 0.05, 1.0, (0.1, 0.07, 0.05))
    bearded = replace(person, look=replace(person.look, glasses=None, hat=None, beard=beard))
    renderer = ClipRenderer(bearded, replace(person.scene, **PLAIN))
    moves = motion((arkit_weights(), 0, 0), (arkit_weights(jawOpen=0.5), 0, 0))
    labels = clip_labels(person, **vars(moves), distance=renderer.scene.distance)
    dense, points = DenseLabels(renderer.surface, renderer.solid, labels), to_pixels(labels["landmarks"])
    hair, lips = MASKS.index("hair"), MASKS.index("lips")
    bottoms = []
    for frame in (0, 1):
        masks = dense.masks(frame)
        lip, chin = points[frame, 57].round().astype(int), points[frame, 8].round().astype(int)
        below = masks[lip[1] + 6 : chin[1], lip[0] - 12 : lip[0] + 13]
        assert (below == hair).mean() > 0.75 and (masks == lips).sum() > 100
        bottoms.append(np.flatnonzero((masks == hair)[:, chin[0]]).max())
    assert bottoms[1] - bottoms[0] > 0.3 * (points[1, 8, 1] - points[0, 8, 1]) > 2


def test_a_corpus_keeps_them_when_asked_to(tmp_path):
    pytest.importorskip("espeakng_loader")
    plan = Plan(tmp_path / "dense", identities=1, speech_clips=1, latent_clips=1, frames_per_clip=12, range_frames=4,
                seed=4, dense_labels=True)  # fmt: skip
    build_corpus(plan, progress=False)
    corpus = Corpus(plan.output)
    ranges, speech, latent = corpus.clips()
    dense, spoken = DenseLabels.of(ranges), DenseLabels.of(speech)
    person = dense.masks(0) > 0
    background = ranges.frames()[0].astype(int) - ranges.frames()[3]
    hidden = person | (dense.masks(3) > 0)
    assert np.abs(background[~hidden]).mean() < np.abs(background[hidden]).mean()
    flow, visible = spoken.flow(None, 6)  # from the portrait
    assert visible.mean() > 0.9 and np.abs(flow).max() < 60
    _, across = dense.flow(0, 3, spoken)
    assert across[person].mean() > 0.4 and not across[~person].any()
    with pytest.raises(UserError, match="has no dense labels: make one with --dense-labels"):
        DenseLabels.of(latent)

    build_corpus(replace(plan, output=tmp_path / "plain", dense_labels=False), progress=False)
    names = {path.name for path in (tmp_path / "plain" / "clips").iterdir()}
    assert {path.name for path in (plan.output / "clips").iterdir()} - names == {"id0000_surface.npz"}
    plain = Corpus(tmp_path / "plain").clips(rendered=True)
    assert all("clothes" not in clip.labels() and "surface" not in clip.metadata for clip in plain)
    for clip, same in zip(plain, (ranges, speech), strict=True):
        assert np.array_equal(clip.frames(), same.frames())
    assert "--dense-labels" in json.loads((plan.output / "corpus.json").read_text())["command"]
    with pytest.raises(UserError, match="dense_labels True, not False"):
        build_corpus(replace(plan, dense_labels=False), progress=False)
    (plan.output / "clips" / "id0000_surface.npz").unlink()
    build_corpus(plan, progress=False)
    assert np.array_equal(DenseLabels.of(ranges).masks(1), dense.masks(1))
