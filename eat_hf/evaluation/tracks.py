"""Where the face is in every frame of a clip, and the pictures that metrics and judges cut out around it.

Detection and the 68 landmarks (iBUG 300-W layout) are dlib's, as in the authors' evaluation. A frame without a face has
no landmarks (NaN); `FaceTrack.filled` bridges such gaps for judges that need every frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import medfilt

from ..inputs.dlib_faces import frontal_faces, load_dlib, predict_landmarks
from ..inputs.landmarks import similarity_transform

LANDMARK_SIDE = 256  # pixels of the longer side; the authors' videos are 256 x 256
# Of the copies in which faces are searched. The detector's window of 80 pixels sees faces of 42 % of the picture, as in
# cropped videos, in the first one, which takes half the time of a search at 256; smaller ones in the second.
DETECTION_SIDES = (192, 512)
# Nose (9 points), the whole right eye and the outer half of the left one of the mean face that the authors align to,
# in a picture of 163 pixels of which 128 are kept
MEAN_FACE = np.array(
    [(65, 37), (65, 47), (65, 57), (66, 68), (54, 75), (60, 77), (66, 78), (71, 76), (77, 75)]
    + [(28, 39), (35, 35), (43, 35), (50, 40), (43, 42), (34, 42), (79, 40), (86, 34), (94, 34)],
    dtype=np.float64,
)
MEAN_FACE_POINTS = slice(27, 45)
EYES_AND_MOUTH = np.array([(87, 59), (137, 59), (112, 120)], dtype=np.float64)  # in the 224 picture SyncNet is shown


@dataclass(frozen=True)
class FaceTrack:
    """Attributes:
    boxes: (T, 4) left, top, right, bottom of the face in pixels, NaN where none was found.
    landmarks: (T, 68, 2) pixels, NaN likewise.
    """

    boxes: np.ndarray
    landmarks: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(T,) bool: frames with a face."""
        return ~np.isnan(self.boxes[:, 0])

    def filled(self) -> "FaceTrack":
        """The same with gaps bridged linearly and the ends held. Needs at least one face."""
        rows, known = np.arange(len(self.boxes)), np.flatnonzero(self.found)
        values = np.concatenate([self.boxes, self.landmarks.reshape(len(rows), -1)], 1)
        values = np.stack([np.interp(rows, known, column[known]) for column in values.T], 1)
        return FaceTrack(values[:, :4], values[:, 4:].reshape(self.landmarks.shape))


def track_faces(
    frames: np.ndarray, sides: tuple[int, ...] = DETECTION_SIDES, landmark_side: int = LANDMARK_SIDE
) -> FaceTrack:
    """Find the face in every frame (T, H, W, 3) uint8 RGB: the largest one, later the one nearest
    to where it was.

    Pictures are searched in copies whose longer side is one of `sides`, the one that found the last face first;
    landmarks are read off a copy of `landmark_side`, since faces of talking-head videos do not need more.
    """
    boxes, landmarks = np.full((len(frames), 4), np.nan), np.full((len(frames), 68, 2), np.nan)
    last, order = None, list(sides)
    for n, frame in enumerate(frames):
        frame = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)  # as the authors do, and faster
        for side in order:
            if found := frontal_faces(frame, side):
                break
        else:
            continue
        order.sort(key=lambda other, chosen=side: other != chosen)
        last = max(found, key=lambda box: box[2] - box[0]) if last is None else min(found, key=_distance_to(last))
        boxes[n], landmarks[n] = last, predict_landmarks(frame, last, landmark_side)
    return FaceTrack(boxes, landmarks)


def _distance_to(box: np.ndarray):
    return lambda other: float(np.abs(other - box).sum())


def mean_face_crops(frames: np.ndarray, track: FaceTrack) -> np.ndarray:
    """The pictures of protocol `eat_official`: (n, 128, 128, 3) uint8, one for every frame with a face.

    A square of 1.28 box heights is scaled to 163 pixels, then turned, scaled and shifted so that nose and eyes meet the
    mean face, of which the upper left 128 pixels (but for a border of one) are kept.
    """
    crops = []
    for frame, box, points in zip(
        frames[track.found], track.boxes[track.found], track.landmarks[track.found], strict=True
    ):
        half = int(0.64 * (box[3] - box[1]))
        left, top = (int(c) - half for c in (box[:2] + box[2:]) / 2)
        square, scale = _cut(frame, left, top, 2 * half, 163), 163 / (2 * half)
        matrix = similarity_transform((points[MEAN_FACE_POINTS] - (left, top)) * scale, MEAN_FACE)
        crops.append(cv2.warpAffine(square, matrix, (163, 163), flags=cv2.INTER_LINEAR)[1:129, 1:129])
    return np.stack(crops) if crops else np.zeros((0, 128, 128, 3), np.uint8)


def mouth_aligned_crops(frames: np.ndarray, track: FaceTrack, size: int = 224) -> np.ndarray:
    """What SyncNet sees in protocol `eat_official`: (T, size, size, 3) uint8.

    One similarity transform for the clip brings its mean eyes and mouth to fixed places; a shift for every frame,
    slightly smoothed, then holds the mouth still.
    """
    points = track.landmarks
    places = np.stack([points[:, 36:42].mean(1), points[:, 42:48].mean(1), points[:, 60:68].mean(1)], 1)  # (T, 3, 2)
    scale = size / 224
    matrix = similarity_transform(places.mean(0), EYES_AND_MOUTH)
    shift, crops = None, []
    for frame, mouth in zip(frames, places[:, 2], strict=True):
        wanted = EYES_AND_MOUTH[2] - (matrix[:, :2] @ mouth + matrix[:, 2])
        shift = wanted if shift is None else 0.2 * shift + 0.8 * wanted
        moved = scale * np.column_stack([matrix[:, :2], matrix[:, 2] + shift])
        crops.append(cv2.warpAffine(frame, moved, (size, size), flags=cv2.INTER_LINEAR))
    return np.stack(crops)


def tracked_crops(frames: np.ndarray, track: FaceTrack, size: int = 224, padding: float = 0.4) -> np.ndarray:
    """What SyncNet sees in protocol `standard`, as its authors' pipeline tracks and crops: (T, size, size, 3) uint8.

    The square of `smooth_squares` reaches `padding` of the face's size past the box to the left, right and (twice)
    below.
    """
    crops = []
    for frame, (x, y, half) in zip(frames, smooth_squares(track.boxes), strict=True):
        left, top = x - half * (1 + padding), y - half
        crops.append(_cut(frame, round(left), round(top), round(2 * half * (1 + padding)), size, border=110))
    return np.stack(crops)


def smooth_squares(boxes: np.ndarray) -> np.ndarray:
    """Squares around boxes (T, 4), through a median filter of 13 frames: (T, 3), centre (x, y) and half a side."""
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1) / 2
    return np.stack([medfilt(np.pad(c, 6, mode="edge"), 13)[6:-6] for c in (*centres.T, halves)], 1)


def face_chips(frames: np.ndarray, landmarks: np.ndarray, size: int = 224, padding: float = 0.25) -> np.ndarray:
    """Upright faces for Emotion-FAN, as dlib cuts them: (n, size, size, 3) uint8 for landmarks (n, 68, 2)."""
    dlib, _ = load_dlib()
    chips = []
    for frame, points in zip(frames, landmarks, strict=True):
        corners = np.rint([*points.min(0), *points.max(0)]).astype(int).tolist()
        shape = dlib.full_object_detection(
            dlib.rectangle(*corners), [dlib.point(*p) for p in np.rint(points).astype(int).tolist()]
        )
        chips.append(dlib.get_face_chip(np.ascontiguousarray(frame), shape, size=size, padding=padding))
    return np.stack(chips) if chips else np.zeros((0, size, size, 3), np.uint8)


def _cut(frame: np.ndarray, left: int, top: int, side: int, size: int, border: int = 0) -> np.ndarray:
    """A square of the frame, which may reach beyond it, scaled to (size, size, 3)."""
    height, width = frame.shape[:2]
    margins = (max(0, -top), max(0, top + side - height), max(0, -left), max(0, left + side - width))
    if any(margins):
        frame = cv2.copyMakeBorder(frame, *margins, cv2.BORDER_CONSTANT, value=(border,) * 3)
        left, top = left + margins[2], top + margins[0]
    square = frame[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
