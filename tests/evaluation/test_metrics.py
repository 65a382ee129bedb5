"""Every metric against an independent implementation or a case done by hand, at identity, and for its direction."""

import cv2
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.transform import Rotation
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix
from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr
from torchmetrics.image.fid import FrechetInceptionDistance

from eat_hf.errors import UserError
from eat_hf.evaluation.metrics.emotion_accuracy import confusion_matrix
from eat_hf.evaluation.metrics.frechet import frechet_distance
from eat_hf.evaluation.metrics.identity import cosine_similarity, describe_chips, describe_faces
from eat_hf.evaluation.metrics.image_quality import psnr, ssim
from eat_hf.evaluation.metrics.jitter import RIGID, background_jitter, landmark_jitter
from eat_hf.evaluation.metrics.landmarks import MOUTH, landmark_distance
from eat_hf.evaluation.metrics.synchrony import synchrony
from eat_hf.evaluation.report.results import EmotionScores
from eat_hf.inputs.faces import DEFAULT_TEMPLATE, align_portrait, detect_faces
from eat_hf.media.pictures import read_image


def blurred(frames, sigma):
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def noisy(frames, deviation, seed=0):
    noise = np.random.default_rng(seed).normal(0, deviation, frames.shape)
    return np.rint(frames + noise).clip(0, 255).astype(np.uint8)


def shifted(frames, pixels):
    return np.roll(frames, pixels, axis=2)


WORSE = {"blur": (blurred, (0.6, 1.5, 4)), "noise": (noisy, (2, 8, 30)), "shift": (shifted, (1, 3, 8))}


@pytest.fixture(scope="module")
def frames(portrait):
    """Three views of a photograph, (3, 96, 120, 3)."""
    views = [portrait[y : y + 384, x : x + 480] for x, y in ((0, 0), (20, 60), (32, 128))]
    return np.stack([cv2.resize(view, (120, 96), interpolation=cv2.INTER_AREA) for view in views])


# Pixels --------------------------------------------------------------------------------------------------------------


def test_psnr_is_that_of_other_implementations(frames):
    other = noisy(frames, 10)
    found = psnr(frames, other)
    assert found.shape == (3,)
    for value, x, y in zip(found, frames, other, strict=True):
        assert value == pytest.approx(peak_signal_noise_ratio(x, y), abs=1e-9)
        reference = torch_psnr(torch.from_numpy(y).float(), torch.from_numpy(x).float(), data_range=255.0)
        assert value == pytest.approx(float(reference), abs=1e-4)


def test_psnr_by_hand():
    black = np.zeros((2, 4, 4, 3), np.uint8)
    other = black.copy()
    other[0] = 255
    other[1, 0, 0, 0] = 24  # squared error 576 / 48 = 12
    assert psnr(black, other) == pytest.approx([0, 10 * np.log10(255**2 / 12)])


@pytest.mark.parametrize("deviation", [1, 20])
def test_ssim_is_scikit_images(frames, deviation):
    other = blurred(noisy(frames, deviation), 1.0)
    other[2] = frames[0]  # a wholly different picture
    expected = [structural_similarity(x, y, channel_axis=2) for x, y in zip(frames, other, strict=True)]
    assert ssim(frames, other) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_flat_pictures():
    flat = np.full((1, 9, 9, 3), 250, np.uint8)
    other = np.full((1, 9, 9, 3), 40, np.uint8)
    assert ssim(flat, other) == pytest.approx([structural_similarity(flat[0], other[0], channel_axis=2)], abs=1e-6)
    assert ssim(255 - other, other) == pytest.approx(
        [structural_similarity(255 - other[0], other[0], channel_axis=2)], abs=1e-6
    )


def test_identical_pictures_are_perfect(frames):
    assert (psnr(frames, frames) == np.inf).all()
    assert (ssim(frames, frames) == 1).all()


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("kind", WORSE)
def test_damage_lowers_picture_quality(frames, metric, kind):
    damage, amounts = WORSE[kind]
    scores = np.stack([metric(frames, frames)] + [metric(frames, damage(frames, amount)) for amount in amounts])
    assert (np.diff(scores, axis=0) < 0).all()


def test_pictures_that_do_not_pair(frames):
    with pytest.raises(UserError, match="3 frames of 120x96 .* 2 of 120x96"):
        psnr(frames, frames[:2])
    with pytest.raises(UserError, match="uint8"):
        ssim(frames, frames / 255)
    with pytest.raises(UserError, match="at least 7x7"):
        ssim(frames[:, :5], frames[:, :5])
    assert psnr(frames[:0], frames[:0]).shape == ssim(frames[:0], frames[:0]).shape == (0,)


# Landmarks -----------------------------------------------------------------------------------------------------------


def faces_of_points(count, seed=0, deviation=0.0):
    return DEFAULT_TEMPLATE + np.random.default_rng(seed).normal(0, deviation, (count, 68, 2))


def test_landmark_distance_by_hand():
    a = np.zeros((1, 68, 2))
    b = a.copy()
    b[0, ::2] = (6, 8)  # the centroid moves by (3, 4), so every point is 5 away from it
    assert landmark_distance(a, b) == pytest.approx([5])
    b[0] = 0
    b[0, 48:58] = (0, 2)  # half the mouth
    assert landmark_distance(a, b, MOUTH) == pytest.approx([1])
    # all points: centroid 20/68 down, 10 points are 2 - 20/68 away from it, 58 are 20/68
    assert landmark_distance(a, b) == pytest.approx([(10 * (2 - 20 / 68) + 58 * 20 / 68) / 68])


def test_landmark_distance_ignores_place_but_neither_size_nor_turn():
    points = faces_of_points(4)
    moved = points + np.random.default_rng(0).normal(0, 50, (4, 1, 2))
    assert landmark_distance(points, points).max() == 0
    assert landmark_distance(points, moved).max() < 1e-9
    turned = points @ Rotation.from_euler("z", 5, degrees=True).as_matrix()[:2, :2].T
    for other in (points * 1.05, turned):
        centred = [p - p.mean(1, keepdims=True) for p in (points, other)]
        expected = torch.nn.functional.pairwise_distance(*map(torch.from_numpy, centred), eps=0).mean(1)
        assert landmark_distance(points, other) == pytest.approx(expected.numpy())
        assert landmark_distance(points, other).min() > 1


def test_landmark_distance_grows_with_the_error():
    points = faces_of_points(5)
    scores = [landmark_distance(points, faces_of_points(5, 1, d), MOUTH) for d in (0.5, 2, 6)]
    assert (np.diff(scores, axis=0) > 0).all()
    opened = points.copy()
    opened[:, 55:60, 1] += 8  # the lower lip alone
    assert (landmark_distance(points, opened, MOUTH) > landmark_distance(points, opened)).all()


def test_frames_without_a_face_stay_unknown():
    points = faces_of_points(3)
    lost = points.copy()
    lost[1] = np.nan
    assert np.isnan(landmark_distance(points, lost)).tolist() == [False, True, False]
    with pytest.raises(UserError, match="same length"):
        landmark_distance(points, points[:2])


# Jitter --------------------------------------------------------------------------------------------------------------


def test_background_jitter_by_hand():
    frames = np.full((3, 256, 256, 3), 100, np.uint8)
    assert background_jitter(frames) == 0
    frames[1, 8:-8, 8:-8] = 200  # the middle does not count
    assert background_jitter(frames) == 0
    frames[1, 7] = 97  # one row flickers by 3, twice
    assert background_jitter(frames) == pytest.approx(3 * 256 / (256**2 - 240**2))
    assert np.isnan(background_jitter(frames[:1]))


def test_background_jitter_grows_with_noise_and_shaking(frames):
    still = np.repeat(frames[:1], 6, 0)
    noise = [background_jitter(noisy(still, d)) for d in (0, 2, 8)]
    assert noise[0] == 0 < noise[1] < noise[2]
    shaking = [background_jitter(np.stack([np.roll(f, n * (i % 2), 1) for i, f in enumerate(still)])) for n in (1, 4)]
    assert 0 < shaking[0] < shaking[1]


def test_landmark_jitter_by_hand():
    points = np.repeat(DEFAULT_TEMPLATE[None], 5, 0)
    assert landmark_jitter(points, 256) == 0
    glide = points + np.arange(5)[:, None, None] * (2, -1)
    assert landmark_jitter(glide, 256) < 1e-9
    tremble = points + np.array([0, 1, 0, 1, 0])[:, None, None] * (3, 4)  # second differences of length 10
    assert landmark_jitter(tremble, 256) == pytest.approx(10)
    assert landmark_jitter(tremble, 128) == pytest.approx(20)
    talking = points.copy()
    talking[::2, [i for i in range(68) if i not in RIGID]] += 9
    assert landmark_jitter(talking, 256) == 0


def test_landmark_jitter_grows_with_trembling_and_skips_gaps():
    values = [landmark_jitter(faces_of_points(20, deviation=d), 256) for d in (0.1, 0.5, 2)]
    assert np.all(np.diff(values) > 0)
    points = np.repeat(DEFAULT_TEMPLATE[None], 8, 0)
    points[3:] += 30  # a jump
    assert landmark_jitter(points, 256) > 1
    points[3] = np.nan  # hides the jump
    assert landmark_jitter(points, 256) == 0
    assert np.isnan(landmark_jitter(points[1:5], 256)) and np.isnan(landmark_jitter(points[:1], 256))


# Fréchet distance ----------------------------------------------------------------------------------------------------


def samples(n, d, seed=0, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return scale * rng.normal(size=(n, d)) @ mix + shift


def by_definition(a, b):
    c, k = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(c + k - 2 * sqrtm(c @ k).real)


@pytest.mark.parametrize("n, m, d", [(60, 90, 8), (200, 30, 16), (40, 40, 40), (9, 500, 12)])
def test_frechet_is_the_definition(n, m, d):
    a, b = samples(n, d, 0), samples(m, d, 1, scale=1.3, shift=0.2)
    assert frechet_distance(a, b) == pytest.approx(by_definition(a, b), abs=2e-5)  # what sqrtm reaches when singular


class FirstPixels(torch.nn.Module):
    """Pictures -> their first 12 values, so that torchmetrics' FID works on chosen features."""

    num_features = 12

    def forward(self, pictures):
        return pictures.flatten(1)[:, :12].double()


def test_frechet_is_torchmetrics():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 200, (50, 3, 8, 8), np.uint8), rng.integers(40, 256, (70, 3, 8, 8), np.uint8)
    reference = FrechetInceptionDistance(FirstPixels(), input_img_size=(3, 8, 8)).set_dtype(torch.float64)
    reference.update(torch.from_numpy(a), real=True)
    reference.update(torch.from_numpy(b), real=False)
    features = [x.reshape(len(x), -1)[:, :12].astype(float) for x in (a, b)]
    assert frechet_distance(*features) == pytest.approx(float(reference.compute()), rel=1e-6)


def test_frechet_in_one_dimension_by_hand():
    a, b = np.array([[0.0], [2.0]]), np.array([[10.0], [14.0], [18.0]])  # variances 2 and 16
    assert frechet_distance(a, b) == pytest.approx(13**2 + (4 - np.sqrt(2)) ** 2)


@pytest.mark.parametrize("n, d", [(100, 2048), (20, 64), (300, 64), (65, 64), (64, 64)])
def test_frechet_is_nothing_at_identity(n, d):
    a = samples(n, d)
    assert 0 <= frechet_distance(a, a) < 1e-6
    assert 0 <= frechet_distance(a, a[::-1]) < 1e-6  # order does not count
    assert frechet_distance(a, a + 1) == pytest.approx(d)


def test_frechet_with_fewer_samples_than_features_is_exact():
    # sets in two subspaces at right angles: no product of covariances, so the traces and the means remain
    rng = np.random.default_rng(0)
    a, b = np.zeros((30, 100)), np.zeros((40, 100))
    a[:, :50], b[:, 50:] = rng.normal(size=(30, 50)), rng.normal(size=(40, 50))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    # the span of the samples, in any position, holds all there is to know
    turn = np.linalg.qr(rng.normal(size=(300, 300)))[0][:20]
    a, b = samples(100, 20), samples(120, 20, 1, scale=2)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_frechet_with_dead_and_repeated_features():
    a, b = samples(80, 10), samples(90, 10, 1, scale=1.5)
    wide = [np.concatenate([x, np.zeros((len(x), 5)), x[:, :3]], 1) for x in (a, b)]
    same = [np.concatenate([x, x[:, :3]], 1) for x in (a, b)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(*same), rel=1e-6)
    assert frechet_distance(wide[0], wide[0]) < 1e-6


def test_frechet_grows_with_the_difference_is_symmetric_and_repeats():
    a = samples(150, 32)
    for others in (
        [samples(150, 32, 1, shift=s) for s in (0.1, 0.5, 2)],
        [samples(150, 32, 1, scale=s) for s in (1, 1.5, 3)],
    ):
        distances = [frechet_distance(a, other) for other in others]
        assert np.all(np.diff(distances) > 0)
        assert distances == [frechet_distance(a, other) for other in others]
        assert distances == pytest.approx([frechet_distance(other, a) for other in others])


def test_frechet_needs_numbers():
    with pytest.raises(UserError, match="at least two"):
        frechet_distance(np.zeros((1, 4)), np.zeros((5, 4)))
    with pytest.raises(UserError, match="must be"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(UserError, match="finite"):
        frechet_distance(np.full((5, 4), np.nan), np.zeros((5, 4)))


# Synchrony -----------------------------------------------------------------------------------------------------------


def as_the_public_code(lips, audio, radius=15):
    """Window by window, in torch; pairwise_distance adds 1e-6 to every difference."""
    lips, audio = torch.from_numpy(lips), torch.from_numpy(audio)
    padded = torch.nn.functional.pad(audio, (0, 0, radius, radius))
    rows = []
    for f in range(len(lips)):
        window = padded[f : f + 2 * radius + 1]
        rows.append(torch.nn.functional.pairwise_distance(lips[f].expand_as(window), window))
    mean = torch.stack(rows, 1).mean(1)
    least, index = mean.min(0)
    return float(mean.median() - least), float(least), radius - int(index)


def embeddings(frames, seed=0, width=32):
    return np.random.default_rng(seed).normal(size=(frames, width)).astype(np.float32)


@pytest.mark.parametrize("delay", [-15, -2, 0, 3, 15])
def test_synchrony_is_that_of_the_public_code(delay):
    sound = embeddings(80)
    lips = np.roll(sound, delay, 0) + 0.3 * embeddings(80, 1)  # lips that come `delay` frames after their sound
    found = synchrony(lips, sound)
    assert found.offset == delay and found.curve.shape == (31,)
    assert (found.confidence, found.distance, found.offset) == pytest.approx(as_the_public_code(lips, sound), abs=1e-4)


def test_synchrony_at_identity_and_at_the_ends():
    sound = embeddings(40)
    perfect = synchrony(sound, sound, radius=4)
    assert (perfect.distance, perfect.offset) == (0, 0) and perfect.confidence > 1
    # one frame: only offset 0 sees sound, everything else sees 0
    alone = synchrony(np.array([[3.0, 4.0]]), np.array([[3.0, 0.0]]), radius=2)
    assert alone.curve.tolist() == [5, 5, 4, 5, 5]
    assert (alone.confidence, alone.distance, alone.offset) == (1, 4, 0)
    longer = synchrony(sound, np.concatenate([sound, embeddings(9, 5)]), radius=4)
    assert np.array_equal(longer.curve, perfect.curve)


def test_worse_lips_are_less_in_step():
    sound = embeddings(100)
    scores = [synchrony(sound + noise * embeddings(100, 1), sound) for noise in (0.1, 0.5, 1, 2)]
    assert np.all(np.diff([s.confidence for s in scores]) < 0)
    assert np.all(np.diff([s.distance for s in scores]) > 0)
    strangers = synchrony(embeddings(100, 2), sound)
    assert strangers.confidence < 0.2 * scores[0].confidence


def test_synchrony_needs_embeddings():
    with pytest.raises(UserError, match="too short"):
        synchrony(embeddings(0), embeddings(5))
    with pytest.raises(UserError, match="must be"):
        synchrony(embeddings(5), embeddings(5, width=16))


# Emotions ------------------------------------------------------------------------------------------------------------

EMOTIONS = ("happy", "angry", "sad", "neutral")


def test_a_confusion_matrix_by_hand():
    true = ["happy", "happy", "happy", "sad", "sad", "neutral"]
    seen = ["happy", "sad", "happy", "sad", "neutral", "neutral"]
    found = confusion_matrix(true, seen, EMOTIONS)
    assert found.tolist() == [[2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_emotion_accuracy_is_torchmetrics():
    true, seen = (np.random.default_rng(seed).integers(0, 4, 60) for seed in (0, 1))
    found = confusion_matrix([EMOTIONS[i] for i in true], [EMOTIONS[i] for i in seen], EMOTIONS)
    true, seen = torch.from_numpy(true), torch.from_numpy(seen)
    assert found.tolist() == multiclass_confusion_matrix(seen, true, 4).tolist()
    scores = EmotionScores(EMOTIONS, found)
    expected = 100 * float(multiclass_accuracy(seen, true, 4, average="micro"))
    assert scores.accuracy == pytest.approx(expected, abs=1e-5)
    recalls = 100 * multiclass_accuracy(seen, true, 4, average="none")
    assert list(scores.recall.values()) == pytest.approx(recalls.tolist(), abs=1e-4)


def test_emotion_accuracy_falls_with_every_error():
    true = list(EMOTIONS) * 5
    wrong = [EMOTIONS[(EMOTIONS.index(name) + 1) % 4] for name in true]
    seen = [wrong[:n] + true[n:] for n in (0, 3, 10, 20)]
    assert [EmotionScores(EMOTIONS, confusion_matrix(true, s, EMOTIONS)).accuracy for s in seen] == [100, 85, 50, 0]


def test_emotions_must_be_known():
    with pytest.raises(UserError, match="'bored'"):
        confusion_matrix(["happy"], ["bored"], EMOTIONS)
    with pytest.raises(UserError, match="2 labels"):
        confusion_matrix(["happy", "sad"], ["sad"], EMOTIONS)
    with pytest.raises(UserError, match="no clip"):
        confusion_matrix([], [], EMOTIONS)


# Identity ------------------------------------------------------------------------------------------------------------


def test_cosine_similarity_is_torchs_and_by_hand():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 16))
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert cosine_similarity(a, b) == pytest.approx(expected)
    assert cosine_similarity(a, a) == pytest.approx(np.ones(5)) and cosine_similarity(a, -3 * a) == pytest.approx(-1)
    assert cosine_similarity(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])) == pytest.approx([0.6, 0.8])
    with pytest.raises(UserError, match="must be"):
        cosine_similarity(a, b[:3])


def test_descriptors_are_dlibs_and_tell_faces_apart(portrait):
    import dlib
    import face_recognition_models

    face = detect_faces(portrait)[0]
    aligned = align_portrait(portrait, face)
    stretch = np.array([[1.3, 0, -38], [0, 0.75, 32]])  # another shape of head; dlib only turns, scales and shifts
    stretched = cv2.warpAffine(aligned.crop, stretch, (256, 256))
    places = face.landmarks @ aligned.matrix[:, :2].T + aligned.matrix[:, 2]
    others = [(aligned.crop, places), (noisy(aligned.crop, 25), places)]
    others += [(stretched, places @ stretch[:, :2].T + stretch[:, 2])]
    found = describe_faces(portrait[None], face.landmarks[None])
    found = np.concatenate([found, *(describe_faces(image[None], points[None]) for image, points in others)])
    assert found.shape == (4, 128) and describe_chips(np.zeros((0, 150, 150, 3), np.uint8)).shape == (0, 128)

    network = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
    points = [dlib.point(*p) for p in np.rint(face.landmarks).astype(int).tolist()]
    shape = dlib.full_object_detection(dlib.rectangle(*face.box.astype(int).tolist()), points)
    assert found[0] == pytest.approx(np.array(network.compute_face_descriptor(portrait, shape)), abs=1e-6)

    same, grainy, strange = cosine_similarity(found[:1], found[1:])
    assert same > 0.998 and 0.998 > grainy > 0.98 > 0.97 > strange


def test_strangers_are_less_alike_than_pictures_of_one_person(portrait, real_inputs):
    stranger = read_image(real_inputs / "portrait_frontal.jpg")
    small = cv2.resize(stranger, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    a, b, c = (
        describe_faces(image[None], detect_faces(image)[0].landmarks[None]) for image in (portrait, stranger, small)
    )
    assert cosine_similarity(b, c)[0] > 0.98 and np.linalg.norm(b - c) < 0.3
    assert cosine_similarity(a, b)[0] < 0.9 and np.linalg.norm(a - b) > 0.6
