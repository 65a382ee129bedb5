"""Rendered heads: the labels must be true of the pictures, and the same seed must give the same person."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("numba")

from training.corpus import heads, looks
from training.corpus.makehuman_heads import ASSETS, HeadAssets, makehuman_mesh
from training.corpus.people import sample_identity
from training.corpus.render import ClipRenderer, paint_background

STILL = np.zeros(3, np.float32)
FRONTAL = heads.head_rotation(0, 0, 0)


@pytest.fixture(scope="module")
def identity():
    return sample_identity(np.random.default_rng(15))


@pytest.fixture(scope="module")
def renderer(identity):
    return ClipRenderer(identity)


def pixel(point):
    return tuple(int(round(float(c))) for c in heads.to_pixels(point))


def landmarks_of(identity, arkit):
    return heads.posed(identity.landmarks, identity.landmark_basis, arkit, FRONTAL, STILL)


def test_assets_are_small_and_say_where_they_come_from():
    folder = ASSETS.parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6
    assert "CC0" in (folder / "NOTICE").read_text()


def test_names_and_symmetry():
    assert len(heads.ARKIT_NAMES) == 52 and {"jawOpen", "eyeBlinkLeft", "tongueOut"} <= set(heads.ARKIT_NAMES)
    mesh = makehuman_mesh()
    assert len(set(mesh.keypoints)) == len(heads.KEYPOINT_NAMES)
    assert len(set(mesh.landmarks)) == 68
    template = HeadAssets.load().vertices
    for name, vertex in zip(heads.KEYPOINT_NAMES, mesh.keypoints, strict=True):
        x = template[vertex, 0]
        assert (x < 0) == name.endswith("_left") and (x > 0) == name.endswith("_right")


def test_same_seed_same_person(identity, renderer):
    again = sample_identity(np.random.default_rng(15))
    other = sample_identity(np.random.default_rng(16))
    assert np.array_equal(again.vertices, identity.vertices) and np.array_equal(again.basis, identity.basis)
    assert again.look == identity.look and again.scene == identity.scene
    assert not np.array_equal(other.vertices, identity.vertices) and other.look != identity.look
    arkit = heads.arkit_weights(mouthSmileLeft=0.5)
    assert np.array_equal(ClipRenderer(again).frame(arkit, FRONTAL, STILL, 3), renderer.frame(arkit, FRONTAL, STILL, 3))


def test_faces_fill_the_frame_alike():
    for seed in range(4):
        points = heads.to_pixels(sample_identity(np.random.default_rng(seed)).landmarks)
        eyes = points[42:48].mean(0) - points[36:42].mean(0)
        assert 52 < eyes[0] < 70 and abs(points[36:48, 1].mean() - 112) < 1.5
        assert np.all(np.diff(points[:17, 0]) > -2)  # the jaw runs from the picture's left to its right


def test_rotation_is_pitch_yaw_roll():
    yaw, pitch, roll = np.radians([20.0, -8.0, 5.0])
    x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    z = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    assert np.allclose(heads.head_rotation(20, -8, 5), np.array(x) @ y @ z, atol=1e-6)
    assert heads.head_rotation(np.zeros(4), np.zeros(4), np.zeros(4)).shape == (4, 3, 3)


def test_labels_follow_the_motion(identity):
    motion = heads.range_of_motion(identity, np.random.default_rng(0), 8)
    labels = heads.clip_labels(identity, **vars(motion))
    for i in range(8):
        rotation = heads.head_rotation(motion.yaw[i], motion.pitch[i], motion.roll[i])
        moved = (labels["canonical"] + labels["expression"][i]) @ rotation.T + motion.translation[i]
        assert np.allclose(labels["keypoints"][i], moved, atol=1e-5)
        expression = sum(w * b for w, b in zip(motion.arkit[i], identity.keypoint_basis, strict=True))
        assert np.allclose(labels["expression"][i], expression, atol=1e-5)
        landmarks = heads.posed(
            identity.landmarks, identity.landmark_basis, motion.arkit[i], rotation, motion.translation[i]
        )
        assert np.allclose(labels["landmarks"][i], landmarks, atol=1e-5)
    left, top, right, bottom = labels["face_box"].T
    assert np.all(right - left > 90) and np.all(bottom - top > 90)


def test_range_of_motion_starts_calm(identity):
    motion = heads.range_of_motion(identity, np.random.default_rng(1), 200)
    assert motion.arkit.shape == (200, 52) and motion.arkit[0].max() == 0 and motion.arkit[:3].max() < 0.3
    assert np.abs(motion.yaw[:3]).max() < 12 and 30 < np.abs(motion.yaw).max() <= 45
    assert 0.8 < np.mean(np.abs(motion.yaw) <= 18) < 0.95
    assert motion.arkit.min() >= 0 and motion.arkit.max() <= 1.1


def test_keypoints_are_on_the_rendered_face(identity, renderer):
    rotation, translation = heads.head_rotation(10, -5, 4), np.array([0.04, -0.03, 0], np.float32)
    arkit = heads.arkit_weights(jawOpen=0.3, browInnerUp=0.5)
    picture, mask = renderer.frame_with_mask(arkit, rotation, translation)
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    points = heads.posed(identity.keypoints, identity.keypoint_basis, arkit, rotation, translation)
    points = heads.in_perspective(points, identity.scene.distance, identity.face_plane)
    reached = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))  # some keypoints lie on the outline
    assert all(reached[pixel(point)[::-1]] for point in points)
    assert 0.2 < mask.mean() < 0.9 and not mask[:60, :10].any()


def test_pupil_keypoint_is_where_the_pupil_is_drawn():
    seen = []
    for seed in (13, 15):
        person = sample_identity(np.random.default_rng(seed))
        pictures = ClipRenderer(person)
        for gaze in ({}, {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8}):
            arkit = heads.arkit_weights(**gaze)
            grey = pictures.frame(arkit, FRONTAL, STILL).mean(-1)
            eye = landmarks_of(person, arkit)
            centre = heads.posed(person.keypoints, person.keypoint_basis, arkit, FRONTAL, STILL)
            column, row = pixel(centre[heads.KEYPOINT_NAMES.index("pupil_right")])
            white = pixel(0.5 * (eye[42] + centre[heads.KEYPOINT_NAMES.index("pupil_right")]))
            seen.append((grey[row - 1 : row + 2, column - 1 : column + 2].min(), grey[white[1], white[0]], column))
    assert all(dark < bright - 15 for dark, bright, _ in seen)
    assert seen[1][2] > seen[0][2] + 2  # looking to the picture's right moves it there


def test_open_jaw_shows_the_inside_of_the_mouth(identity):
    closed, opened = heads.arkit_weights(), heads.arkit_weights(jawOpen=0.6)
    before, after = (heads.to_pixels(landmarks_of(identity, arkit)) for arkit in (closed, opened))
    assert after[66, 1] - before[66, 1] > 12 and abs(after[62, 1] - before[62, 1]) < 5
    assert np.linalg.norm(before[62] - before[66]) < 3
    column, top, bottom = int(round(after[62, 0])), int(after[62, 1]) + 3, int(after[66, 1]) - 2
    dim = ClipRenderer(identity, replace(identity.scene, mouth_light=0.1))
    shown = dim.frame(opened, FRONTAL, STILL)[top:bottom, column - 8 : column + 9].mean(-1)
    lip = dim.frame(closed, FRONTAL, STILL)[int(before[57, 1]) - 3, column].mean()
    assert shown.min() < 0.55 * lip  # the cavity
    assert shown.max() > 1.5 * shown.min()  # teeth or tongue in it


def test_blink_closes_the_lids(identity, renderer):
    for seed in range(6):
        person = sample_identity(np.random.default_rng(seed))
        shut = heads.arkit_weights(eyeBlinkLeft=1, eyeBlinkRight=1)
        wide, closed = (heads.to_pixels(landmarks_of(person, a)) for a in (heads.arkit_weights(), shut))
        for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
            assert wide[lower, 1] - wide[upper, 1] > 2.5
            assert abs(closed[lower, 1] - closed[upper, 1]) < 1.0
    points = heads.to_pixels(landmarks_of(identity, heads.arkit_weights()))
    left, top = points[36:42].min(0).astype(int) + [3, 0]
    right, bottom = points[36:42].max(0).astype(int) - [3, 0]
    contrast = [
        np.ptp(renderer.frame(arkit, FRONTAL, STILL)[top:bottom, left:right].mean(-1))
        for arkit in (heads.arkit_weights(), heads.arkit_weights(eyeBlinkLeft=1, eyeBlinkRight=1))
    ]
    assert contrast[1] < 0.8 * contrast[0]  # neither iris nor white is left


def test_skin_has_texture_that_moves_with_the_head(identity):
    far = dict(distance=1e3, vignette=0.0)  # a head that moves to the side is seen from no other side
    pictures = ClipRenderer(identity, replace(identity.scene, noise=0.0, blur=0.0, jpeg=0, **far))
    step = np.array([8 / 128, 0, 0], np.float32)  # 8 pixels to the right
    column, row = pixel(0.5 * (identity.landmarks[36] + identity.landmarks[48]))

    def pores(translation, shift):
        grey = pictures.frame(heads.arkit_weights(), FRONTAL, translation).astype(np.float32).mean(-1)
        fine = grey - cv2.GaussianBlur(grey, (0, 0), 3)
        return fine[row - 10 : row + 10, column + shift - 8 : column + shift + 8].ravel()

    still, carried, replaced = pores(STILL, 0), pores(step, 8), pores(step, 0)
    assert 0.3 < still.std() < 20
    assert np.corrcoef(still, carried)[0, 1] > 0.9 > 0.6 > np.corrcoef(still, replaced)[0, 1]


def test_torso_stays_when_the_head_turns(renderer):
    masks = [
        renderer.frame_with_mask(heads.arkit_weights(), heads.head_rotation(0, 0, roll), STILL)[1] for roll in (-6, 6)
    ]
    changed = masks[0] ^ masks[1]
    assert changed[-12:].mean() < 0.25 * changed[40:120].mean() + 0.01


def test_frame_seed_changes_only_the_grain(identity):
    for noise in (0.0, 0.02):
        pictures = ClipRenderer(identity, replace(identity.scene, noise=noise))
        one, two = (pictures.frame(heads.arkit_weights(), FRONTAL, STILL, seed).astype(int) for seed in (1, 2))
        assert np.array_equal(one, two) == (noise == 0)
        assert np.abs(one - two).mean() < 10


def test_backgrounds_differ_and_repeat():
    rng = np.random.default_rng(3)
    scenes = [looks.sample_scene(rng) for _ in range(12)]
    pictures = [paint_background(scene) for scene in scenes]
    assert np.array_equal(pictures[0], paint_background(scenes[0]))
    assert len({picture.tobytes() for picture in pictures}) == 12
    assert {scene.background for scene in scenes} <= set(looks.BACKGROUNDS)


def test_random_expressions_use_the_whole_face():
    rng = np.random.default_rng(0)
    used = np.max([heads.random_expression(rng) for _ in range(300)], 0)
    for unit in ("jawOpen", "mouthSmileLeft", "mouthPucker", "browDownRight", "eyeBlinkLeft", "eyeLookUpRight"):
        assert used[heads.ARKIT_INDEX[unit]] > 0.4


def test_unknown_unit_is_named():
    with pytest.raises(ValueError, match="'mouthGrin' is not an ARKit unit"):
        heads.arkit_weights(mouthGrin=1.0)


def check_tongue(person):
    """Raised, the tip is behind the upper teeth however far the jaw is open, and nothing else has moved."""
    pictures = ClipRenderer(person, replace(person.scene, noise=0.0, jpeg=0))
    surface, tip = pictures.surface, pictures.surface.tongue.argmax()
    upper_edge = person.arches[11]
    arkit = heads.arkit_weights(jawOpen=0.5, mouthLowerDownLeft=0.4, mouthLowerDownRight=0.4)
    low, high = (surface.pose(arkit, FRONTAL, STILL, raised) for raised in (0.0, 1.0))
    assert low[tip, 1] - upper_edge[1] > 0.06 > 0.04 > np.abs(high[tip, 1] - upper_edge[1])
    assert high[tip, 2] <= person.landmarks[62, 2]  # not through the lips
    moved = np.linalg.norm(high - low, axis=1) > 0
    assert set(np.flatnonzero(moved)) <= set(person.mesh.vertices_of("tongue"))
    shown = [pictures.frame(arkit, FRONTAL, STILL, 0, raised).astype(int) for raised in (0.0, 1.0)]
    rows, columns = np.nonzero(np.abs(shown[1] - shown[0]).sum(-1) > 24)
    mouth = heads.to_pixels(landmarks_of(person, arkit)[60:])
    assert len(rows) > 20
    assert mouth[:, 0].min() - 4 < columns.min() and columns.max() < mouth[:, 0].max() + 4
    assert mouth[:, 1].min() - 6 < rows.min() and rows.max() < mouth[:, 1].max() + 4


def test_the_tongue_reaches_the_upper_teeth(identity):
    check_tongue(identity)


def test_upper_teeth_show_below_an_open_lip(identity):
    posed = heads.posed(identity.arches, identity.arch_basis, heads.arkit_weights(jawOpen=0.3), FRONTAL, STILL)
    lip = landmarks_of(identity, heads.arkit_weights(jawOpen=0.3))[62, 1]
    assert posed[11, 1] > lip + 0.005  # y is down


def test_men_alone_have_beards():
    rng = np.random.default_rng(0)
    men, women = ([looks.sample_look(rng, 0.2, female, 0.5).beard for _ in range(60)] for female in (0.1, 0.9))
    assert not any(women) and 10 < sum(beard is not None for beard in men) < 40
    assert len({beard.shape for beard in men if beard}) >= 3


def test_an_open_lens_blurs_what_is_far_from_the_eyes(identity):
    scene = replace(identity.scene, noise=0.0, jpeg=0, blur=0.0, filter="none", video=0)
    sharp, soft = (
        ClipRenderer(identity, replace(scene, aperture=aperture)).frame(heads.arkit_weights(), FRONTAL, STILL)
        for aperture in (0.0, 6.0)
    )
    points = heads.to_pixels(landmarks_of(identity, heads.arkit_weights()))

    def detail(picture, place):
        column, row = place.round().astype(int)
        grey = picture.astype(np.float32).mean(-1)
        fine = grey - cv2.GaussianBlur(grey, (0, 0), 2)
        return fine[row - 8 : row + 8, column - 8 : column + 8].std()

    eye, ear = (detail(soft, place) / detail(sharp, place) for place in (points[36:42].mean(0), points[0]))
    assert eye > 0.7 and ear < 0.6


def test_a_clip_and_its_portrait_go_through_the_same_video(identity):
    motion = heads.range_of_motion(identity, np.random.default_rng(1), 4)
    scene = replace(identity.scene, noise=0.01, jpeg=0)
    plain, coded, again = (ClipRenderer(identity, replace(scene, video=crf)) for crf in (0, 34, 34))
    error = coded.clip(motion).astype(int) - plain.clip(motion)
    assert 1 < np.abs(error).mean() < 12 and abs(error.mean()) < 1.5
    assert np.array_equal(coded.clip(motion), again.clip(motion))
    assert 1 < np.abs(coded.portrait(motion).astype(int) - plain.portrait(motion)).mean() < 12


def test_scenes_for_networks_that_draw_are_not_degraded():
    scenes = [looks.sample_scene(np.random.default_rng(seed)) for seed in range(60)]
    degraded = ("blur", "noise", "jpeg", "video", "aperture")
    assert all(any(getattr(scene, name) for scene in scenes) for name in degraded)
    clean = [looks.undegraded(scene) for scene in scenes]
    assert not any(getattr(scene, name) for scene in clean for name in degraded)
    assert "grey" in {scene.filter for scene in clean} and "painted" not in {scene.filter for scene in clean}
    assert all(
        replace(scene, **{name: getattr(before, name) for name in (*degraded, "filter")}) == before
        for scene, before in zip(clean, scenes, strict=True)
    )
