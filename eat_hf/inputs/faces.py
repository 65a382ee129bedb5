"""Faces in pictures: finding them, cutting them out the way the network expects, and putting them back.

Faces are found by `face_detector`; `landmarks` reads their 68 landmarks (the iBUG 300-W layout that the official
preprocessing uses), says whether they are people's and whether the mouth is covered. Models that learnt from squares
cut out by dlib's landmarks are given such (`dlib_faces`). Points are pixel coordinates (x, y) with (0, 0) in the middle
of the top left pixel.
"""

import collections
import itertools
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..constants import FPS
from ..easing import smoothstep
from ..errors import InputWarning, UserError
from .dlib_faces import reread_landmarks
from .face_detector import CLOSER, Found, find_faces, glance, load_detector, points_upright
from .landmarks import DEFAULT_TEMPLATE as DEFAULT_TEMPLATE
from .landmarks import LandmarkReader, five_points, landmark_network, read_landmarks
from .landmarks import similarity_transform as similarity_transform
from .numbers import FrameSize

SIZE = 256  # side of the frame that the network sees
LARGEST_SIZE = 1024  # side of the largest frames
ALIGNED_LANDMARKS = 47  # jaw, brows, nose and eyes but for the last point; the mouth moves too much to align by
LONGEST_SEARCH = 50  # frames of a driving video in which a face must show up
LONGEST_GAP = 25  # frames of a driving video in which a face that turns away may be unseen
FOLLOWING_WINDOW = 12  # frames before and after, over which the place of a walking face is averaged
FOLLOWING_SIDE = 160  # of the part of a frame in which it is searched, scaled to it; the face has 64 of these pixels
LEASH = (0.07, 0.12)  # of the square's side: so far a face moves before the square follows, and has caught up with it
LEASH_SIZE = 1.25  # how much it grows or shrinks before the square does
PERSON = 0.5  # probability from which a face is a person's; people have 0.6 to 0.99, animals up to 0.45
# How far detector and landmark network may disagree about a face's five points, and the landmark network with itself
# about the mirrored face, in distances of the outer eye corners: people reach 0.12 and 0.06
LARGEST_DISAGREEMENT, LARGEST_ASYMMETRY = 0.15, 0.08
COVERED = 0.5  # probability from which a mouth counts as covered


@dataclass
class Face:
    """Attributes:
    box: (4,) left, top, right, bottom.
    landmarks: (68, 2).
    score: the detector's confidence, comparable between faces of one picture.
    prominence: size x centrality x score, what faces are sorted by.
    covered: probability in [0, 1] that something covers the mouth.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    prominence: float
    covered: float = 0.0


@dataclass
class AlignedPortrait:
    """Attributes:
    picture: (H, W, 3) uint8, the whole picture.
    crop: (256, 256, 3) uint8, what the network sees.
    matrix: (2, 3) from the picture's pixels to the crop's.
    detailed: (S, S, 3) uint8, the same square at the size of the frames.
    """

    picture: np.ndarray
    crop: np.ndarray
    matrix: np.ndarray
    detailed: np.ndarray


# Detection -----------------------------------------------------------------------------------------------------------


def load_face_models() -> None:
    """Load what finds faces and landmarks before the first portrait needs it."""
    landmark_network()
    load_detector()


def detect_faces(image: np.ndarray) -> list[Face]:
    """All faces of people in a picture (H, W, 3) uint8 RGB, the most prominent first; possibly none."""
    return sorted(_read_faces(image, find_faces(image)), key=lambda face: -face.prominence)


def _read_faces(image: np.ndarray, candidates: list[Found]) -> list[Face]:
    """What the detector takes for faces, and the landmark network for people's."""
    faces = []
    for found in candidates:
        read = read_landmarks(image, found.points)
        looks_right = read.person >= PERSON and read.asymmetry <= LARGEST_ASYMMETRY
        if looks_right and _disagreement(image, read.landmarks) <= LARGEST_DISAGREEMENT:
            prominence = _prominence(found.box, found.score, image)
            faces.append(Face(found.box, read.landmarks, found.score, prominence, read.covered))
    return faces


def _disagreement(image: np.ndarray, landmarks: np.ndarray) -> float:
    """How far from landmarks (68, 2) the detector sees the five points of the face once it is upright, in distances of
    the outer eye corners; infinite where it sees none."""
    template = (DEFAULT_TEMPLATE - (128, 155)) / 320 * CLOSER + CLOSER / 2
    seen = points_upright(image, similarity_transform(landmarks, template))
    if seen is None:
        return np.inf
    eyes = np.linalg.norm(landmarks[36] - landmarks[45])
    return float(np.linalg.norm(five_points(landmarks) - seen, axis=1).mean() / eyes)


def _prominence(box: np.ndarray, score: float, image: np.ndarray) -> float:
    height, width = image.shape[:2]
    centre, size = (box[:2] + box[2:]) / 2, (box[2] - box[0]) * (box[3] - box[1])
    off_centre = np.hypot(*((centre + 0.5) / (width, height) - 0.5)) / np.hypot(0.5, 0.5)
    return float(size / (width * height) * (1 - 0.5 * off_centre) * score)


def choose_face(faces: list[Face], face: int | None = None) -> Face:
    """The face to animate: the most prominent, or number `face`, counted from 0 in order of prominence.

    Warns (`InputWarning`) when there are several and none was asked for, and when its mouth is covered.

    Raises:
        UserError: there is no face, or none of that number.
    """
    if not faces:
        raise UserError("No face was found; use a picture in which one face is large, upright and well lit.")
    if face is None:
        if len(faces) > 1:
            warnings.warn(
                f"{len(faces)} faces were found; the most prominent one is animated. "
                f"Choose another with its number, 1 to {len(faces) - 1} in order of prominence.",
                InputWarning,
                3,
            )
        face = 0
    if not 0 <= face < len(faces):
        count = f"{len(faces)} faces were" if len(faces) > 1 else "1 face was"
        raise UserError(f"There is no face number {face}: {count} found, counted from 0.")
    if faces[face].covered > COVERED:
        warnings.warn(
            "The mouth seems to be covered, and what covers it will move with the lips; use a picture that shows the "
            "whole face.",
            InputWarning,
            3,
        )
    return faces[face]


# Cutting out ---------------------------------------------------------------------------------------------------------


def align_portrait(
    image: np.ndarray, face: Face, template: np.ndarray | None = None, size: FrameSize = SIZE
) -> AlignedPortrait:
    """Turn, scale and shift a picture so that the face lies where the network expects it.

    Args:
        image: (H, W, 3) uint8 RGB.
        template: (68, 2) where the landmarks should lie in the 256 frame; `DEFAULT_TEMPLATE` if None.
        size: of the frames; "portrait" is what the picture has of the square, 256 to 1024.
    """
    template = DEFAULT_TEMPLATE if template is None else np.asarray(template, np.float64)
    matrix = similarity_transform(face.landmarks[:ALIGNED_LANDMARKS], template[:ALIGNED_LANDMARKS])
    if size == "portrait":
        own = SIZE / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
        size = int(np.clip(2 * round(own / 2), SIZE, LARGEST_SIZE))
    crop = _warp(image, matrix, (SIZE, SIZE))
    larger = crop if size == SIZE else _warp(image, _compose(_enlargement(SIZE, size), matrix), (size, size))
    return AlignedPortrait(picture=image, crop=crop, matrix=matrix, detailed=larger)


def find_portrait(
    picture: np.ndarray,
    face: int | Face | None = None,
    align: bool = True,
    template: np.ndarray | None = None,
    size: FrameSize = SIZE,
    reader: LandmarkReader = "network",
) -> AlignedPortrait:
    """The face of a picture (H, W, 3) uint8 RGB, where the network expects it.

    Args:
        face: which one, see `choose_face`, or one that `detect_faces` found.
        align: False takes a square picture of 256 pixels, or as many as the frames have, as it is.
        template, size: as in `align_portrait`.
        reader: by whose landmarks it is cut out.

    Raises:
        UserError: there is no such face, the picture that is taken as it is has another size, or dlib is not installed.
    """
    if not align:
        return _as_it_is(picture, size)
    chosen = face if isinstance(face, Face) else choose_face(detect_faces(picture), face)
    return align_portrait(picture, _read_by(reader, picture, chosen), template, size)


def _read_by(reader: LandmarkReader, picture: np.ndarray, face: Face) -> Face:
    if reader == "network":
        return face
    return replace(face, landmarks=reread_landmarks(picture, face.box, face.landmarks))


def _as_it_is(picture: np.ndarray, size: FrameSize) -> AlignedPortrait:
    """A square that was cut out before: of 256 pixels, or of as many as the frames have."""
    height, width = picture.shape[:2]
    if size == "portrait":
        size = int(np.clip(height - height % 2, SIZE, LARGEST_SIZE))
    if height != width or height not in (SIZE, size):
        sizes = " or ".join(f"{side} x {side}" for side in sorted({SIZE, size}))
        raise UserError(f"With align=False the portrait must be {sizes} pixels, not {width} x {height}.")

    def scaled(side: int) -> np.ndarray:
        return picture if side == height else _warp(picture, _enlargement(height, side), (side, side))

    return AlignedPortrait(picture, scaled(SIZE), _enlargement(height, SIZE), scaled(size))


def _checked_size(picture: np.ndarray, what: str) -> np.ndarray:
    height, width = picture.shape[:2]
    if (height, width) != (SIZE, SIZE):
        raise UserError(f"With align=False {what} must be {SIZE} x {SIZE} pixels, not {width} x {height}.")
    return picture


def _warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Apply a similarity (2, 3) to a picture; without aliasing when it shrinks, edges repeated beyond the picture.

    Args:
        size: width and height of the result.
    """
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 1:
        small = _shrunk(image, scale)
        image, matrix = small, _compose(matrix, _enlargement(small.shape[1::-1], image.shape[1::-1]))
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _shrunk(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The (2, 3) transform that applies `first`, then `second`."""
    return second @ np.vstack([first, (0, 0, 1)])


def _enlargement(size: int | tuple[int, int], other: int | tuple[int, int]) -> np.ndarray:
    """(2, 3) from the pixels of a picture to those of a copy of another size, each its side or (width, height); their
    corners coincide, not the middles of pixels."""
    x, y = np.broadcast_to(np.divide(other, size), 2)
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])


def driving_box(landmarks: np.ndarray, size: tuple[int, int], scale: float = 2.1) -> tuple[int, int, int]:
    """Left, top and side of the square that is cut out of every frame of a driving video.

    Args:
        landmarks: (68, 2) of the first frame.
        size: width and height of the video.
        scale: side of the square in widths of the landmarks.
    """
    low, high = landmarks.min(0), landmarks.max(0)
    x, y = (low[0] + high[0]) // 2, (3 * low[1] + high[1]) // 4
    side = int(min(scale * (high[0] - low[0]), *size))
    left, top = (int(np.clip(c - side // 2, 0, n - side)) for c, n in zip((x, y), size, strict=True))
    return left, top, side


def find_driver(
    frames: Iterator[np.ndarray],
    name: str,
    face: int | None = None,
    align: bool = True,
    scale: float = 2.1,
    reader: LandmarkReader = "network",
) -> Iterator[np.ndarray]:
    """The square around the face that a driving video shows first, of every frame: (256, 256, 3) uint8 each.

    The square stays where its authors put it as long as the face stays about there, and follows one that walks away;
    an `InputWarning` says where the face is lost.

    Args:
        frames: (H, W, 3) uint8 RGB, one after the other.
        name: of the video, for messages.
        face: which one, see `choose_face`.
        align: False takes frames of 256 x 256 as they are.
        scale: side of the square in widths of the face.
        reader: by whose landmarks of the first face.

    Raises:
        UserError: there is no face in the first two seconds, frames that are taken as they are have another size, or
            dlib is not installed.
    """
    if not align:
        return (_checked_size(frame, f"the driving video {name}") for frame in frames)
    searched: list[np.ndarray] = []
    for n, frame in enumerate(itertools.islice(frames, LONGEST_SEARCH)):
        searched.append(frame)
        if faces := detect_faces(frame):
            chosen = choose_face(faces, face)
            square = driving_box(_read_by(reader, frame, chosen).landmarks, frame.shape[1::-1], scale)
            return _follow_driver(itertools.chain(searched, frames), chosen, name, square, n)
    raise UserError(f"No face was found in the first two seconds of the driving video {name}.")


def crop_driving_video(frames: Iterable[np.ndarray], face: Face, scale: float = 2.1) -> Iterator[np.ndarray]:
    """Cut the square around the first frame's face out of every frame, as the authors do: (256, 256, 3) uint8 each."""
    box = None
    for frame in frames:
        if box is None:
            box = driving_box(face.landmarks, frame.shape[1::-1], scale)
        yield _cut_square(frame, np.array(box))


def _follow_driver(
    frames: Iterable[np.ndarray], face: Face, name: str, square: tuple[int, int, int], seen_first: int
) -> Iterator[np.ndarray]:
    """The squares around a face that may walk away, (256, 256, 3) uint8 each, `FOLLOWING_WINDOW` frames later.

    Args:
        square: left, top and side of the first.
        seen_first: number of the frame in which the face was found.
    """
    places: list[np.ndarray] = []  # of every frame
    waiting: collections.deque[np.ndarray] = collections.deque()
    unseen, told, given = 0, False, 0
    place = _place(face.box)

    def cut(frame: np.ndarray) -> np.ndarray:
        nonlocal given
        reach = min(FOLLOWING_WINDOW, given, len(places) - 1 - given)  # as far back as ahead, so nothing lags
        near = places[given - reach : given + reach + 1]
        given += 1
        return _cut_square(frame, _moved_square(square, places[0], np.mean(near, 0)))

    for number, frame in enumerate(frames):
        found = None if number < seen_first else _face_near(frame, place)
        if found is not None:
            place = found
        unseen = 0 if found is not None or number <= seen_first else unseen + 1
        if unseen > LONGEST_GAP and not told:
            told = True
            start = (number - LONGEST_GAP) / FPS
            warnings.warn(
                f"The face of the driving video {name} is lost after {start:.1f} s; the head motion from there on "
                "may be wrong. Use a video in which one face stays in sight.",
                InputWarning,
                2,
            )
        places.append(place)
        waiting.append(frame)
        if len(waiting) > FOLLOWING_WINDOW:
            yield cut(waiting.popleft())
    while waiting:
        yield cut(waiting.popleft())


def _place(box: np.ndarray) -> np.ndarray:
    """(3,) x and y of a box' middle, and its width. It hardly moves as the head turns, other than the features do."""
    return np.array([*((box[:2] + box[2:]) / 2), box[2] - box[0]])


def _face_near(frame: np.ndarray, place: np.ndarray) -> np.ndarray | None:
    """`_place` of the face that is nearest to where it was; None if none is near."""
    x, y, side = place
    reach = 1.25 * side
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    part = frame[top : int(y + reach) + 1, left : int(x + reach) + 1]
    if not min(part.shape[:2]):
        return None
    seen = [found for found in glance(part, FOLLOWING_SIDE) if 0.5 < (found.box[2] - found.box[0]) / side < 2]
    places = [_place(found.box) + (left, top, 0) for found in seen]
    return min(places, key=lambda found: float(np.hypot(*(found[:2] - (x, y)))), default=None)


def _moved_square(square: tuple[int, int, int], first: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(3,) left, top, side of the square for a face that is now elsewhere; within the leash it stays."""
    left, top, side = square
    growth = now[2] / first[2]
    growth = max(1.0, growth / LEASH_SIZE) if growth > 1 else min(1.0, growth * LEASH_SIZE)
    way = now[:2] - first[:2]
    slack, taut = LEASH
    way = way * smoothstep(np.clip((np.hypot(*way) / side - slack) / (taut - slack), 0, 1))
    # the square keeps its place relative to the face as it grows
    corner = first[:2] + way - growth * (first[:2] - (left, top))
    return np.array([*corner, growth * side])


def _cut_square(frame: np.ndarray, square: np.ndarray) -> np.ndarray:
    """(256, 256, 3); what lies beyond the frame repeats its border."""
    left, top, side = (int(each) for each in np.rint(square))
    height, width = frame.shape[:2]
    margins = (max(0, -top), max(0, top + side - height), max(0, -left), max(0, left + side - width))
    if any(margins):
        frame = cv2.copyMakeBorder(np.ascontiguousarray(frame), *margins, cv2.BORDER_REPLICATE)
        left, top = left + margins[2], top + margins[0]
    cut = frame[top : top + side, left : left + side]
    return cv2.resize(cut, (SIZE, SIZE), interpolation=cv2.INTER_AREA if side > SIZE else cv2.INTER_CUBIC)


# Putting back --------------------------------------------------------------------------------------------------------


class PasteBack:
    """Lays frames of an aligned portrait back into the picture it was cut from.

    The mask stays where it is for the whole clip and fades out towards the border of the crop, so neither an edge nor
    a tremble shows; pixels where it is zero keep the picture's very colours.

    Args:
        picture: (H, W, 3) uint8 RGB.
        matrix: `AlignedPortrait.matrix`.
        size: of the frames.
        max_side: pictures with a longer side are scaled down to it.

    Attributes:
        picture: the scaled picture, with even sides, as video codecs want them.
        mask: (h, w) float32 in [0, 1] over the whole of it.
    """

    FEATHER = 40 / 256  # of the frame's side

    def __init__(self, picture: np.ndarray, matrix: np.ndarray, size: int = SIZE, max_side: int = 1920):
        scale = min(1.0, max_side / max(picture.shape[:2]))
        matrix = _compose(_enlargement(SIZE, size), np.asarray(matrix, np.float64))
        if scale < 1:
            full, picture = picture, _shrunk(picture, scale)
            matrix = _compose(matrix, _enlargement(picture.shape[1::-1], full.shape[1::-1]))
        height, width = (n - n % 2 for n in picture.shape[:2])
        self.picture = np.ascontiguousarray(picture[:height, :width])
        back = cv2.invertAffineTransform(matrix)
        edges = np.array([(x, y, 1) for x in (-1, size) for y in (-1, size)]) @ back.T
        self._left, self._top = np.floor(edges.min(0)).astype(int).clip(0, (width - 1, height - 1))
        right, bottom = np.ceil(edges.max(0)).astype(int).clip((self._left, self._top), (width - 1, height - 1)) + 1
        self._size = (int(right - self._left), int(bottom - self._top))
        self._matrix = back - np.array([[0, 0, self._left], [0, 0, self._top]])
        square = _feathered_square(size, round(self.FEATHER * size))
        patch = cv2.warpAffine(square, self._matrix, self._size, flags=cv2.INTER_LINEAR)
        self._patch_mask = patch[..., None]
        self.mask = np.zeros((height, width), np.float32)
        self.mask[self._top : bottom, self._left : right] = patch

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """One frame (S, S, 3) uint8 -> the whole picture (h, w, 3) uint8."""
        result = self.picture.copy()
        width, height = self._size
        place = result[self._top : self._top + height, self._left : self._left + width]
        patch = _warp(frame, self._matrix, self._size)
        place[:] = np.rint(place + self._patch_mask * (patch.astype(np.float32) - place)).clip(0, 255)
        return result


def _feathered_square(size: int, feather: int) -> np.ndarray:
    """(size, size) float32: 1 inside, falling smoothly to 0 at a border with rounded corners."""
    depth = np.minimum(np.arange(size), np.arange(size)[::-1]).clip(max=2 * feather).astype(np.float32)
    inset = 2 * feather - depth
    distance = np.hypot(inset[:, None], inset[None]) - feather  # from the inside, past the quarter circle of a corner
    return smoothstep((1 - distance / feather).clip(0, 1))
