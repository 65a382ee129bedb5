"""68 landmarks (iBUG 300-W layout) of a face in a picture, read by the landmark network in two looks."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from .landmark_network import FaceLandmarks

# By whose landmarks a model wants faces cut out: the landmark network's, or dlib's as the authors of the paper did
LandmarkReader = Literal["network", "dlib"]
NETWORK = Path(__file__).parent / "face_models" / "face_landmarks"

# A frontal, neutral, symmetric face; eye centres 60 pixels apart, as in the released network's frames
DEFAULT_TEMPLATE = np.array(
    # jaw
    [(61, 113), (62, 130), (65, 148), (68, 165), (74, 182), (84, 196), (97, 208), (112, 218), (128, 220)]
    + [(144, 218), (159, 208), (172, 196), (182, 182), (188, 165), (191, 148), (194, 130), (195, 113)]
    # brows
    + [(72, 101), (80, 93), (92, 91), (105, 92), (116, 97), (140, 97), (151, 92), (164, 91), (176, 93), (184, 101)]
    # nose
    + [(128, 111), (128, 124), (128, 136), (128, 149), (116, 157), (122, 159), (128, 160), (134, 159), (140, 157)]
    # eyes
    + [(86, 113), (93, 108), (103, 108), (111, 115), (102, 117), (93, 117)]
    + [(145, 115), (153, 108), (163, 108), (170, 113), (163, 117), (154, 117)]
    # outer and inner lips
    + [(104, 177), (113, 173), (122, 172), (128, 173), (134, 172), (143, 173), (152, 177), (143, 185), (135, 188)]
    + [(128, 188), (121, 188), (113, 185), (108, 177), (121, 177), (128, 178), (135, 177), (148, 177), (134, 179)]
    + [(128, 181), (122, 179)],
    dtype=np.float64,
)
# The landmark on the other side of the face
MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
# The template in the network's upright crop, in sides of the crop: a face fills three quarters of it
CROP_TEMPLATE = (DEFAULT_TEMPLATE - (128, 155.5)) / 174 + 0.5


@dataclass(frozen=True)
class Reading:
    """Attributes:
    landmarks: (68, 2) in pixels of the picture.
    error: what the network expects the points to be off, in sides of its crop; 0.01 is sure, 0.05 is not.
    covered: probability in [0, 1] that the mouth is covered.
    person: probability in [0, 1] that it is a person's face.
    asymmetry: mean distance between the points and those read off the mirrored picture, in distances of the outer eye
        corners: up to 0.04 of people's faces, more where the points fit nothing.
    """

    landmarks: np.ndarray
    error: float
    covered: float
    person: float
    asymmetry: float


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """(68, 2) -> (5, 2): the eye on the picture's left, the other one, tip of the nose, corners of the mouth."""
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def similarity_transform(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(2, 3) matrix of the rotation, uniform scale and shift that brings points (N, 2) nearest to targets (N, 2)."""
    a, b = points @ (1, 1j), targets @ (1, 1j)  # as complex numbers, turning and scaling is one multiplication
    centred = a - a.mean()
    factor = np.vdot(centred, b - b.mean()) / np.vdot(centred, centred).real
    shift = b.mean() - factor * a.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


@functools.cache
def landmark_network(folder: Path = NETWORK) -> "FaceLandmarks":
    """The trained network of a folder, on the CPU; loaded once."""
    import torch

    from .landmark_network import FaceLandmarks

    return FaceLandmarks.from_pretrained(folder, use_safetensors=True, torch_dtype=torch.float32).eval()


def read_landmarks(image: np.ndarray, five: np.ndarray, network: "FaceLandmarks | None" = None) -> Reading:
    """Landmarks of the face in a picture (H, W, 3) uint8 RGB, or grey (H, W).

    The detector's five points make the face upright for a first look, and the 68 found by it for a second one. Each
    look is taken at the face and at its mirror image; what is returned lies between them.

    Args:
        five: (5, 2), see `five_points`.
        network: by default the one that comes with the package.
    """
    import torch

    network = landmark_network() if network is None else network
    size = network.config.input_size
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    template = CROP_TEMPLATE * size
    known, targets = np.asarray(five, np.float64), five_points(template)
    for _ in range(2):
        matrix = similarity_transform(known, targets)
        crop = torch.from_numpy(upright_crop(image, matrix, size)).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            read = network(torch.stack([crop, crop.flip(-1)]))
        straight, mirrored = read.landmarks.double().numpy()
        both = np.stack([straight, mirrored[MIRROR] * (-1, 1)])
        back = cv2.invertAffineTransform(matrix)
        found = (both.mean(0) + 1) * size / 2 - 0.5
        known = found @ back[:, :2].T + back[:, 2]
        targets = template
    return Reading(
        known,
        error=float(read.deviation.mean()) / 2,
        covered=float(read.covered.mean().sigmoid()),
        person=float(read.person.mean().sigmoid()),
        asymmetry=float(np.linalg.norm(both[0] - both[1], axis=1).mean() / np.linalg.norm(both[0, 36] - both[0, 45])),
    )


def upright_crop(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """(size, size, C) to which a similarity (2, 3) brings a picture; without aliasing when it shrinks."""
    shrink = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    corners = np.array([(x, y) for x in (0, size - 1) for y in (0, size - 1)], np.float64)
    back = cv2.invertAffineTransform(matrix)
    corners = corners @ back[:, :2].T + back[:, 2]
    # only what the crop shows is touched, however large the picture
    low = np.floor(corners.min(0) - 2).astype(int).clip(0, np.array(image.shape[1::-1]) - 1)
    high = np.ceil(corners.max(0) + 3).astype(int).clip(low + 1, image.shape[1::-1])
    part = image[low[1] : high[1], low[0] : high[0]]
    matrix = np.column_stack([matrix[:, :2], matrix[:, :2] @ low + matrix[:, 2]])
    if shrink < 1:
        height, width = (max(1, round(n * shrink)) for n in part.shape[:2])
        ratio = np.array(part.shape[1::-1]) / (width, height)
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        matrix = np.column_stack([matrix[:, :2] * ratio, matrix[:, :2] @ ((ratio - 1) / 2) + matrix[:, 2]])
    flags = cv2.INTER_LINEAR
    return cv2.warpAffine(part, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
