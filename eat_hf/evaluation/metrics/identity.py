"""Whether it is still the same person: cosine similarity of face descriptors (CSIM), here dlib's.

dlib's descriptors were trained so that pictures of one person lie within a Euclidean distance of 0.6. All of them share
a large common part: the cosine is 0.8 to 0.9 between strangers, so compare it with that and not with 0.
"""

import functools

import numpy as np

from ...errors import UserError
from ...inputs.dlib_faces import load_dlib
from ..tracks import face_chips

CHIP = 150  # side of the face picture that dlib's network sees


@functools.cache
def _network():
    dlib, models = load_dlib()
    return dlib.face_recognition_model_v1(models.face_recognition_model_location())


def describe_chips(chips: np.ndarray) -> np.ndarray:
    """Faces cut out upright, (n, 150, 150, 3) uint8 RGB -> dlib's descriptors (n, 128) float64."""
    if not len(chips):
        return np.zeros((0, 128))
    return np.array(_network().compute_face_descriptor([np.ascontiguousarray(chip) for chip in chips]))


def describe_faces(frames: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """dlib's descriptors (n, 128) of the faces at landmarks (n, 68, 2) in frames (n, H, W, 3) uint8 RGB.

    About a tenth of a second a face, so choose frames rather than describe a whole clip.
    """
    return describe_chips(face_chips(frames, landmarks, CHIP))


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row: (n, d) and (n, d), or (1, d) to compare all with one -> (n,) in [-1, 1].

    Raises:
        UserError: the shapes do not fit.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or (len(a) != len(b) and 1 not in (len(a), len(b))):
        raise UserError(f"Descriptors must be (n, d) and (n, d), not {a.shape} and {b.shape}.")
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
