from fractions import Fraction

import cv2
import numpy as np
import pytest
import skimage.data
from media_files import video, written

from eat_hf.errors import InputWarning, UserError
from eat_hf.inputs.faces import (
    DEFAULT_TEMPLATE,
    PasteBack,
    align_portrait,
    choose_face,
    crop_driving_video,
    detect_faces,
    driving_box,
    find_driver,
    find_portrait,
    similarity_transform,
)
from eat_hf.media.pictures import read_image
from eat_hf.media.videos import read_video

PORTRAITS = (
    "portrait_frontal.jpg",
    "painting_mona_lisa.jpg",
    "painting_small_face.jpg",
    "photo_1900s.jpg",
    "illustration_profile_lean.png",
)


@pytest.fixture(scope="module")
def face(portrait):
    return detect_faces(portrait)[0]


def move(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


def eye_distance(points):
    return np.hypot(*(points[42:48].mean(0) - points[36:42].mean(0)))


def test_finds_the_one_face(portrait, face):
    assert len(detect_faces(portrait)) == 1
    eyes, mouth = face.landmarks[36:48].mean(0), face.landmarks[48:60].mean(0)
    assert np.abs(eyes - (224, 108)).max() < 6 and np.abs(mouth - (226, 148)).max() < 6  # read off the photograph


def test_landmarks_follow_the_picture(portrait, face):
    shifted = np.roll(portrait, 7, axis=1)
    moved = detect_faces(shifted)[0].landmarks - face.landmarks
    assert np.abs(moved - (7, 0)).max() < 3 and np.abs(moved.mean(0) - (7, 0)).max() < 0.7


@pytest.mark.parametrize("name", PORTRAITS)
def test_real_portraits_have_a_face_where_alignment_wants_it(real_inputs, name):
    picture = read_image(real_inputs / name)
    found = detect_faces(picture)
    assert len(found) == 1
    aligned = move(found[0].landmarks, align_portrait(picture, found[0]).matrix)
    assert np.abs(aligned - DEFAULT_TEMPLATE)[:47].mean() < 8
    assert 45 < eye_distance(aligned) < 72


def test_an_animal_is_no_face(real_inputs):
    found = detect_faces(read_image(real_inputs / "no_human_face.jpg"))
    with pytest.raises(UserError, match="No face"):
        choose_face(found)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "brick", "rocket"])
def test_what_shows_nobody_has_no_face(name):
    """A cat, a cup, a wall and a rocket."""
    assert detect_faces(getattr(skimage.data, name)()) == []


def test_several_faces_are_sorted_by_prominence(portrait, face):
    small = cv2.resize(portrait[:256, 96:352], (180, 180), interpolation=cv2.INTER_AREA)
    canvas = np.full((512, 900, 3), 127, np.uint8)
    canvas[:, 200:712] = portrait
    canvas[300:480, 710:890] = small
    found = detect_faces(canvas)
    assert len(found) == 2 and found[0].prominence > found[1].prominence
    assert found[0].landmarks[:, 0].mean() < 712 < found[1].landmarks[:, 0].mean()
    with pytest.warns(InputWarning, match="2 faces"):
        assert choose_face(found) is found[0]
    assert choose_face(found, 1) is found[1]
    with pytest.raises(UserError, match="no face number 2"):
        choose_face(found, 2)


def test_similarity_transform_is_exact_on_similar_points():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 2))
    angle, scale = 0.6, 3.0
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    targets = points @ turn.T + (5, -2)
    assert np.allclose(similarity_transform(points, targets), np.c_[turn, (5, -2)])


@pytest.mark.parametrize("scale", [0.7, 3.3])
def test_alignment_does_not_depend_on_the_pictures_size(portrait, face, scale):
    crop = align_portrait(portrait, face).crop.astype(int)
    size = tuple(round(n * scale) for n in portrait.shape[1::-1])
    scaled = cv2.resize(portrait, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    ratio = np.array(size) / portrait.shape[1::-1]
    landmarks = (face.landmarks + 0.5) * ratio - 0.5
    other = align_portrait(scaled, type(face)(face.box, landmarks, 1.0, 1.0)).crop.astype(int)
    sharpest = 6 if scale < 1 else 3  # a smaller picture has lost detail
    assert np.abs(crop - other).mean() < sharpest


def test_large_faces_are_shrunk_without_aliasing(face):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2048, 2048, 3)).astype(np.uint8)
    big = type(face)(face.box, DEFAULT_TEMPLATE * 8, 1.0, 1.0)
    crop = align_portrait(noise, big).crop
    assert crop.std() < 25  # noise of deviation 74 averaged over 8x8 pixels; picked pixels would keep it


def test_driving_box_is_the_official_one():
    landmarks = np.full((68, 2), 410.0)
    landmarks[0], landmarks[1] = (400, 300), (500, 420)  # bounds
    left, top, side = driving_box(landmarks, (1280, 720))
    assert (left, top, side) == (450 - 105, 330 - 105, 210)
    assert driving_box(landmarks, (510, 720)) == (510 - 210, 225, 210)  # shifted inside
    assert driving_box(landmarks, (1280, 200))[2] == 200


def test_driving_crop_stays_in_place(portrait, face):
    frames = [portrait, np.roll(portrait, 20, axis=1)]
    first, second = crop_driving_video(frames, face)
    assert first.shape == second.shape == (256, 256, 3)
    box = driving_box(face.landmarks, (512, 512))
    shift = round(20 * 256 / box[2])
    assert np.abs(np.roll(first, shift, axis=1)[:, 60:].astype(int) - second[:, 60:]).mean() < 3


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 640), (12, 640), (40, 1000)])
def test_strips_show_no_face(shape):
    """The detector itself crashes on some."""
    assert detect_faces(np.full((*shape, 3), 90, np.uint8)) == []


@pytest.fixture(scope="module")
def walk(portrait):
    """The photograph's head in a wide picture, ever further to the right: (n, 256, 640, 3)."""
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    frames = np.zeros((40, 256, 640, 3), np.uint8)
    for n, frame in enumerate(frames):
        frame[:, 9 * n : 9 * n + 256] = small
    return frames


@pytest.mark.filterwarnings("error::eat_hf.errors.InputWarning")
def test_a_driver_who_walks_away_is_followed(walk):
    crops = list(find_driver(iter(walk), "walk.mp4"))
    assert len(crops) == len(walk) and {crop.shape for crop in crops} == {(256, 256, 3)}
    seen = [detect_faces(crop)[0].landmarks.mean(0) for crop in crops[::13]]
    assert np.abs(np.array(seen) - seen[0]).max() < 26  # a tenth of the crop; the walk is three crops wide


@pytest.mark.filterwarnings("error::eat_hf.errors.InputWarning")
def test_a_driver_who_sways_is_cut_out_as_by_the_authors(walk):
    frames = [np.roll(walk[10], round(3 * np.sin(n / 3)), axis=1) for n in range(30)]
    fixed = list(crop_driving_video(frames, detect_faces(frames[0])[0]))
    for one, other in zip(find_driver(iter(frames), "sway.mp4"), fixed, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("error::eat_hf.errors.InputWarning")
@pytest.mark.parametrize("kind", ["pixels that are not square", "a size that changes on the way"])
def test_what_a_driver_does_is_the_same_in_every_form_of_video(tmp_path, walk, kind):
    """Against the same video with square pixels of one size."""
    frames = walk[:24, :, :480]
    plain = [detect_faces(frame)[0] for frame in find_driver(iter(frames), "plain")][::8]
    if kind == "pixels that are not square":
        narrow = np.stack([cv2.resize(frame, (360, 256), interpolation=cv2.INTER_AREA) for frame in frames])
        path = video(tmp_path / "hdv.mp4", narrow, aspect=Fraction(4, 3))
    else:
        small = [cv2.resize(frame, (360, 192), interpolation=cv2.INTER_AREA) for frame in frames[12:]]
        parts = [video(tmp_path / f"{n}.ts", part, "mpegts") for n, part in enumerate((frames[:12], small))]
        path = written(tmp_path / "joined.ts", b"".join(part.read_bytes() for part in parts))
    seen = [detect_faces(frame)[0] for frame in find_driver(read_video(path), path.name)][:24:8]
    for face, expected in zip(seen, plain, strict=True):
        assert np.abs(face.landmarks - expected.landmarks).max() < 12  # pixels of 256


def test_a_driver_who_is_lost_is_a_warning(walk):
    frames = [*walk[:5], *np.zeros((40, *walk[0].shape), np.uint8)]
    with pytest.warns(InputWarning, match=r"gone.mp4 is lost after 0\.[23] s"):
        assert len(list(find_driver(iter(frames), "gone.mp4"))) == 45


def test_pasting_the_crop_back_gives_the_picture(portrait, face):
    aligned = align_portrait(portrait, face)
    pasted = PasteBack(portrait, aligned.matrix)(aligned.crop)
    assert pasted.shape == portrait.shape
    inside = PasteBack(portrait, aligned.matrix).mask > 0.9
    assert np.abs(pasted.astype(int) - portrait)[inside].mean() < 4  # twice interpolated, so a little softer
    rows, columns = (slice(i.min(), i.max()) for i in np.where(inside))
    before, after = (image[rows, columns].mean(2).astype(np.float32) for image in (portrait, pasted))
    # of sides that are odd when padded, OpenCV's middle is half a pixel off, for the same picture, too
    shift = np.subtract(cv2.phaseCorrelate(before, after)[0], cv2.phaseCorrelate(before, before)[0])
    assert np.hypot(*shift) < 0.1  # pixels


def test_frames_may_be_as_large_as_the_face(portrait, face):
    """The same square at every size, and at its own it is as sharp as the picture."""
    large = cv2.resize(portrait, (1536, 1536), interpolation=cv2.INTER_CUBIC)
    big = type(face)(face.box * 3, (face.landmarks + 0.5) * 3 - 0.5, 1.0, 1.0)
    published = align_portrait(large, big)
    assert published.detailed is published.crop
    for size in (512, 1024, "portrait"):
        aligned = align_portrait(large, big, size=size)
        side = len(aligned.detailed)
        assert side == (size if size != "portrait" else 2 * round(128 / np.sqrt(np.linalg.det(aligned.matrix[:, :2]))))
        assert np.array_equal(aligned.crop, published.crop) and np.array_equal(aligned.matrix, published.matrix)
        small = cv2.resize(aligned.detailed, (256, 256), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - aligned.crop).mean() < 2
        pasted = PasteBack(large, aligned.matrix, side)(aligned.detailed)
        inside = PasteBack(large, aligned.matrix, side).mask > 0.9
        lost = np.abs(pasted.astype(int) - large)[inside].mean()
        assert lost < 1
    tiny = align_portrait(cv2.resize(large, (96, 96)), type(face)(face.box / 5.33, face.landmarks / 5.33, 1.0, 1.0),
                          size="portrait")  # fmt: skip
    assert tiny.detailed.shape == (256, 256, 3)


def test_squares_that_were_cut_out_before(portrait):
    for size, fits, wrong in ((256, (256,), "256 x 256"), (512, (256, 512), "256 x 256 or 512 x 512")):
        for side in fits:
            square = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
            aligned = find_portrait(square, align=False, size=size)
            assert aligned.crop.shape == (256, 256, 3) and aligned.detailed.shape == (size, size, 3)
            assert np.array_equal(aligned.crop if side == 256 else aligned.detailed, square)
        with pytest.raises(UserError, match=f"the portrait must be {wrong} pixels, not 512 x 300"):
            find_portrait(portrait[:300], align=False, size=size)


def test_paste_back_leaves_the_rest_untouched_and_fades(portrait, face):
    aligned = align_portrait(portrait, face)
    paste = PasteBack(portrait, aligned.matrix)
    pasted = paste(255 - aligned.crop)
    outside = paste.mask == 0
    assert outside.mean() > 0.5 and np.array_equal(pasted[outside], portrait[outside])
    assert (paste.mask == 1).any()
    steps = max(np.abs(np.diff(paste.mask, axis=axis)).max() for axis in (0, 1))
    assert steps < 0.12  # no edge for the eye to catch, although this crop is shrunk almost to half
    centre = tuple(face.landmarks[33].round().astype(int)[::-1])
    assert paste.mask[centre] == 1
    assert np.abs(pasted[centre].astype(int) - (255 - portrait[centre].astype(int))).max() < 30


def test_paste_back_keeps_a_large_picture_in_bounds_and_even(face, portrait):
    large = cv2.resize(portrait, (2211, 2211), interpolation=cv2.INTER_LINEAR)
    scale = 2211 / 512
    big = type(face)(face.box * scale, (face.landmarks + 0.5) * scale - 0.5, 1.0, 1.0)
    aligned = align_portrait(large, big)
    pasted = PasteBack(large, aligned.matrix)(aligned.crop)
    assert pasted.shape == (1920, 1920, 3)
    whole = cv2.resize(large, (1920, 1920), interpolation=cv2.INTER_AREA)
    assert np.abs(pasted.astype(int) - whole).mean() < 1.5
    odd = portrait[:401, :333]
    assert PasteBack(odd, align_portrait(odd, face).matrix)(aligned.crop).shape == (400, 332, 3)


def test_faces_at_the_border_can_be_pasted(portrait, face):
    cut = portrait[60:]  # the crop reaches beyond the picture's top
    landmarks = face.landmarks - (0, 60)
    near = type(face)(face.box, landmarks, 1.0, 1.0)
    aligned = align_portrait(cut, near)
    assert move(np.zeros((1, 2)), aligned.matrix)[0, 1] > 0
    assert np.abs(PasteBack(cut, aligned.matrix)(aligned.crop).astype(int) - cut).mean() < 0.5
