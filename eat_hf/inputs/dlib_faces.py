"""Faces and landmarks as dlib sees them: what official weights were trained on, and a judge for measuring.

dlib and the weights of its networks are the optional extra `dlib`. Points are pixel coordinates (x, y) with (0, 0) in
the middle of the top left pixel.
"""

import functools
import threading
from dataclasses import dataclass
from types import ModuleType

import cv2
import numpy as np

from ..errors import UserError
from .face_detector import overlap

DETECTION_SIDES = (640, 1280)  # large faces are found in the small copy, small faces in the large one
THINNEST = 40  # pixels of such a copy's shorter side; the detectors' windows see faces of 40 and more
# Scores: the frontal detector gives animals and textures up to 0, faces at least 0.5; the network gives 0.35 and 1
FRONTAL_SCORE, NETWORK_SCORE = 0.25, 0.8

_DETECTING = threading.Lock()  # the detectors keep state while they look, and threads would break each other's


@dataclass
class JudgedFace:
    """Attributes:
    box: (4,) left, top, right, bottom.
    landmarks: (68, 2).
    score: the detector's confidence, comparable between faces of one picture.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


# Models --------------------------------------------------------------------------------------------------------------


def load_dlib() -> tuple[ModuleType, ModuleType]:
    """The modules `dlib` and `face_recognition_models`.

    Raises:
        UserError: they are not installed.
    """
    try:
        import dlib
        import face_recognition_models
    except ImportError:
        raise UserError(
            "This needs dlib's face landmarks, as converted official weights and measuring do; install them with "
            "pip install 'eat_hf[dlib]'."
        ) from None
    return dlib, face_recognition_models


@functools.cache
def _frontal_detector():
    return load_dlib()[0].get_frontal_face_detector()


@functools.cache
def _network_detector():
    dlib, models = load_dlib()
    return dlib.cnn_face_detection_model_v1(models.cnn_face_detector_model_location())


@functools.cache
def _landmark_predictor():
    dlib, models = load_dlib()
    return dlib.shape_predictor(models.pose_predictor_model_location())


# Finding -------------------------------------------------------------------------------------------------------------


def detect_faces_with_dlib(image: np.ndarray) -> list[JudgedFace]:
    """All faces in a picture (H, W, 3) uint8 RGB, in no order; possibly none.

    The fast frontal detector is asked first. Where it finds nothing, a convolutional network, which takes seconds but
    sees leaning, shadowed and painted faces, has the last word.
    """
    return [
        JudgedFace(box, _landmarks(copy, box * scale) / scale, float(score))
        for box, score, copy, scale in _frontal_faces(image) or _network_faces(image)
    ]


def reread_landmarks(image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """dlib's landmarks (68, 2) of a face that was found at a box (4,) and landmarks (68, 2) by somebody else.

    They are those of the face that dlib finds there, or else of the square in which dlib would have found it.
    """
    middle = landmarks.mean(0)
    there = [
        face
        for face in detect_faces_with_dlib(image)
        if overlap(face.box, box) > 0.3 and np.abs(face.landmarks.mean(0) - middle).max() < (box[2] - box[0]) / 2
    ]
    if there:
        return min(there, key=lambda face: float(np.linalg.norm(face.landmarks.mean(0) - middle))).landmarks
    low, high = landmarks.min(0), landmarks.max(0)
    half = (high - low).max() / 2
    middle = (low + high) / 2
    copy, scale = _scaled(image, DETECTION_SIDES[-1])
    return _landmarks(copy, np.concatenate([middle - half, middle + half]) * scale) / scale


def frontal_faces(image: np.ndarray, side: int) -> list[np.ndarray]:
    """Boxes (4,) left, top, right, bottom of the frontal faces in a copy of a picture whose longer side is `side`."""
    copy, scale = _scaled(image, side)
    return [_corners(box) / scale for box, _ in _run_frontal_detector(copy)]


def predict_landmarks(image: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """(68, 2) landmarks of the face in a box, one quick guess in a copy whose longer side is `side`.

    For videos, where neighbours tell what is noise; `detect_faces_with_dlib` serves single pictures.
    """
    copy, scale = _scaled(image, side)
    return _guess_landmarks(copy, box * scale) / scale


def _scaled(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    scale = side / max(image.shape[:2])
    if scale == 1:
        return np.ascontiguousarray(image), 1.0
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), scale


def _run_frontal_detector(copy: np.ndarray) -> list:
    """(box, score) of the faces in a picture. A strip has none, and dlib would crash on it."""
    if min(copy.shape[:2]) < THINNEST:
        return []
    with _DETECTING:
        boxes, scores, _ = _frontal_detector().run(copy, 0, FRONTAL_SCORE)
    return list(zip(boxes, scores, strict=True))


def _frontal_faces(image: np.ndarray) -> list[tuple[np.ndarray, float, np.ndarray, float]]:
    """(box, score, copy of the picture it was found in, that copy's scale), without overlaps."""
    candidates = []
    for side in DETECTION_SIDES:
        copy, scale = _scaled(image, side)
        candidates += [(_corners(b) / scale, s, copy, scale) for b, s in _run_frontal_detector(copy)]
    return _without_overlaps(candidates)


def _network_faces(image: np.ndarray) -> list[tuple[np.ndarray, float, np.ndarray, float]]:
    copy, scale = _scaled(image, DETECTION_SIDES[0])
    if min(copy.shape[:2]) < THINNEST:
        return []
    with _DETECTING:
        found = [d for d in _network_detector()(copy, 0) if d.confidence > NETWORK_SCORE]
    return _without_overlaps([(_corners(d.rect) / scale, d.confidence, copy, scale) for d in found])


def _corners(box) -> np.ndarray:
    return np.array([box.left(), box.top(), box.right(), box.bottom()], dtype=np.float64)


def _without_overlaps(candidates: list) -> list:
    kept: list = []
    for candidate in sorted(candidates, key=lambda c: -c[1]):
        if all(overlap(candidate[0], other[0]) < 0.3 for other in kept):
            kept.append(candidate)
    return kept


def _landmarks(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """68 landmarks; averaged over slightly moved boxes, since the predictor depends on where exactly it starts."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2] - box[0]) / 2
    guesses = []
    moves = [(0, 0, 1), (-0.08, 0, 1), (0.08, 0, 1), (0, -0.08, 1), (0, 0.08, 1), (0, 0, 0.94), (0, 0, 1.06)]
    for dx, dy, size in moves:
        corner = centre + half * (np.array([dx, dy]) - size)
        guesses.append(_guess_landmarks(image, np.array([*corner, *(corner + 2 * half * size)])))
    return np.mean(guesses, 0)


def _guess_landmarks(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    rectangle = load_dlib()[0].rectangle(*np.rint(box).astype(int).tolist())
    return np.array([(point.x, point.y) for point in _landmark_predictor()(image, rectangle).parts()], np.float64)
