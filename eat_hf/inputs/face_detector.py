"""Faces in pictures: boxes and five points of each, found by YuNet, a network of 76,000 weights that OpenCV runs.

YuNet (Wu, Peng and Yu 2023; MIT licence, see face_models/NOTICE) knows faces of 10 to 300 pixels, so a picture is
searched in copies of several sizes, and in turned ones if nothing sure was found. It sees faces that lean by 60
degrees, but takes them for nearly upright ones. Its score is highest where a face is upright, so each is looked at
again in small copies turned by several angles, and the best of them says where its features are.
"""

import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .landmarks import upright_crop

MODEL = Path(__file__).parent / "face_models" / "yunet_2023mar.onnx"
# Longer sides of the copies: faces from all of the picture down to a fortieth of it are found in the first two, those
# that are smaller or fill more than the picture in the others, which are searched only when nothing sure was found
SIDES, MORE_SIDES = (320, 640), (160, 1280)
TURNS = (-50, 50)  # degrees, of copies that are searched last
CLOSER, CLOSER_TURNS = 160, (-50, -25, 0, 25, 50)  # pixels and degrees of the copies in which a face is seen again
SURE, DOUBTFUL = 0.8, 0.6  # scores: faces reach 0.85, textures now and then 0.6
SMALLEST = 12  # pixels in the copy

_DETECTING = threading.Lock()  # one detector for all threads, of which a search changes the size


@dataclass(frozen=True)
class Found:
    """Attributes:
    box: (4,) left, top, right, bottom in pixels of the picture.
    points: (5, 2) the eye on the face's right, the other one, tip of the nose, right and left corner of the mouth.
    score: in [0, 1].
    """

    box: np.ndarray
    points: np.ndarray
    score: float


@functools.cache
def load_detector() -> "cv2.FaceDetectorYN":
    """The detector, loaded once."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # warns of a choice that nobody made
    try:
        return cv2.FaceDetectorYN.create(str(MODEL), "", (320, 320), DOUBTFUL, 0.3, 200)
    finally:
        cv2.utils.logging.setLogLevel(level)


def find_faces(image: np.ndarray, sides: tuple[int, ...] = SIDES, thorough: bool = True) -> list[Found]:
    """All faces of a picture (H, W, 3) uint8 RGB, or grey (H, W), the surest first; possibly none.

    Args:
        sides: longer sides, in pixels, of the copies that are searched.
        thorough: if no face is sure, search other sizes, too, and at last turned copies.

    A face that no look is sure of is none.
    """
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR)
    looks: list[list[tuple[int, float]]] = [[(side, 0) for side in sides]]
    if thorough:
        looks += [[(side, 0) for side in MORE_SIDES], [(sides[0], turn) for turn in TURNS]]
    found: list[Found] = []
    for look in looks:
        for side, turn in look:
            if side <= max(look[0][0], 2 * max(image.shape[:2])):  # enlarging further shows nothing new
                found += _search(image, side, turn)
        closer = [_look_closer(image, face) for face in without_overlaps(found)]
        if sure := [face for face in closer if face.score >= SURE]:
            return without_overlaps(sure)
    return []


def glance(image: np.ndarray, side: int) -> list[Found]:
    """What looks like a face in one copy of a picture (H, W, 3) uint8 RGB, for videos in which one was found before;
    of faces that lean, the points are not exact."""
    return without_overlaps(_search(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), side, 0))


def _search(image: np.ndarray, side: int, turn: float) -> list[Found]:
    """In a copy whose longer side is `side`, turned by so many degrees within a larger canvas."""
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    copy = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    # what is near a border is seen with some grey around it; sides that divide by 32 are the network's own
    room = 0.1 if not turn else 0.3
    canvas = [int(np.ceil((n + 2 * room * side) / 32)) * 32 for n in (width, height)]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0)
    matrix[:, 2] += (np.array(canvas) - (width, height)) / 2
    copy = cv2.warpAffine(copy, matrix, canvas, flags=cv2.INTER_LINEAR, borderValue=(104, 117, 123))
    ratio = np.array(image.shape[1::-1]) / (width, height)
    to_copy = np.column_stack([matrix[:, :2] / ratio, matrix[:, :2] @ (0.5 / ratio - 0.5) + matrix[:, 2]])
    return _faces_in(copy, to_copy)


def _look_closer(image: np.ndarray, face: Found) -> Found:
    """The same face with the points and the score of the copy in which it is upright."""
    centre, side = (face.box[:2] + face.box[2:]) / 2, float((face.box[2:] - face.box[:2]).max())
    seen = [face]
    for turn in CLOSER_TURNS:
        matrix = cv2.getRotationMatrix2D(centre.tolist(), turn, CLOSER / (2 * side))
        matrix[:, 2] += (CLOSER - 1) / 2 - centre
        for other in _faces_in(upright_crop(image, matrix, CLOSER), matrix):
            if np.abs((other.box[:2] + other.box[2:]) / 2 - centre).max() < side / 3:
                seen.append(other)
    best = max(seen[1:] or seen, key=lambda found: found.score)
    return Found(face.box, best.points, best.score)


def points_upright(image: np.ndarray, to_crop: np.ndarray) -> np.ndarray | None:
    """Five points (5, 2) in pixels of the picture of the face that a similarity (2, 3) brings, upright, to the middle
    of a crop of `CLOSER` pixels; None if none is seen there."""
    crop = cv2.cvtColor(upright_crop(image, to_crop, CLOSER), cv2.COLOR_RGB2BGR)
    seen = [face for face in _faces_in(crop, to_crop) if face.score >= DOUBTFUL]
    middle = cv2.invertAffineTransform(to_crop) @ (CLOSER / 2, CLOSER / 2, 1)
    return min(seen, key=lambda face: np.linalg.norm(face.points.mean(0) - middle)).points if seen else None


def _faces_in(copy: np.ndarray, matrix: np.ndarray) -> list[Found]:
    """In a copy (H, W, 3), BGR, to which a matrix (2, 3) brought the picture; of the picture."""
    with _DETECTING:
        detector = load_detector()
        detector.setInputSize(copy.shape[1::-1])
        rows = detector.detect(copy)[1]
    back = cv2.invertAffineTransform(matrix)
    scale = np.sqrt(abs(np.linalg.det(back[:, :2])))
    faces = []
    for row in () if rows is None else rows.astype(np.float64):
        size = row[2:4]
        if size.min() < SMALLEST or not np.isfinite(row).all():
            continue
        centre, half = back[:, :2] @ (row[:2] + size / 2) + back[:, 2], scale * size / 2
        points = row[4:14].reshape(5, 2) @ back[:, :2].T + back[:, 2]
        faces.append(Found(np.concatenate([centre - half, centre + half]), points, float(row[14])))
    return faces


def without_overlaps(candidates: list[Found]) -> list[Found]:
    """The surest of those that overlap, surest first."""
    kept: list[Found] = []
    for candidate in sorted(candidates, key=lambda found: -found.score):
        if all(overlap(candidate.box, other.box) < 0.3 for other in kept):
            kept.append(candidate)
    return kept


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Area that both boxes cover, as a share of the smaller one."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(np.prod(sides.clip(0)) / max(min(areas), 1e-9))
