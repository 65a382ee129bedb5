"""What rendered heads of every family share: names, a person, motion, and exact labels.

Everything is in picture coordinates: x right, y down, z towards the viewer, [-1, 1] across the frame. The
rotation centre of the head is the origin. A point moves as `R (P_c + E) + t`, with `E = sum_i w_i B_i` linear in the
weights; its place in the picture is what `in_perspective` makes of it.

The subject faces the camera, so the subject's right side is on the picture's left.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .looks import Look, Scene

FRAME = 256  # the side of the picture that pixel labels refer to; pictures may be denser

EYE_LINE = -0.12  # where the eyes are, in picture units above the head's rotation centre
LANDMARK_SPREAD = 0.4195  # r.m.s. distance of the 68 landmarks from their mean, in picture units

ARKIT_NAMES: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
FAR_SHARE = 0.2  # of a range of motion's frames, turned further than talking heads usually are
ARKIT_INDEX: dict[str, int] = {name: i for i, name in enumerate(ARKIT_NAMES)}
LANDMARK_NAMES: tuple[str, ...] = tuple(f"ibug_{i:02d}" for i in range(68))

# Keypoints of the motion model: features of the face only, none on the neck. "left" and "right" are the picture's.
_MIDDLE_KEYPOINTS = (
    "outer_lip_upper_middle", "outer_lip_lower_middle", "inner_lip_upper_middle", "inner_lip_lower_middle",
    "nose_tip", "nose_bridge", "chin", "forehead",
)  # fmt: skip
_PAIRED_KEYPOINTS = (
    "mouth_corner", "outer_lip_upper", "outer_lip_lower", "inner_lip_upper", "inner_lip_lower",
    "lid_upper", "lid_lower", "eye_inner_corner", "eye_outer_corner", "pupil",
    "brow_inner", "brow_middle", "brow_outer", "nose_wing", "jaw_outer", "jaw_inner", "temple",
)  # fmt: skip
KEYPOINT_NAMES: tuple[str, ...] = _MIDDLE_KEYPOINTS + tuple(
    f"{name}_{side}" for name in _PAIRED_KEYPOINTS for side in ("left", "right")
)

ARCH_TEETH = 16  # of either arch
TEETH = 10  # of them, that may be seen between the lips
GUM = 0.4  # how far from the root of a tooth, 0, to its edge, 1, the gum reaches
ARCH_POINTS = 2 * (TEETH + 1) * 2
"""Of upper and lower arch, from the picture's left to its right where two teeth meet, at the gum and at the edge."""

PARTS = (
    "skin", "lining", "gums", "upper_teeth", "lower_teeth", "tongue", "left_eye", "right_eye", "lashes",
)  # fmt: skip
"""Of a head's mesh. The lining is that of the mouth, the lashes are sheets, left and right are the picture's."""


@dataclass(frozen=True)
class HeadMesh:
    """What all heads of a family share.

    faces (F,3) int32, clockwise as seen from outside; part (F,): the place in `PARTS` of each; lips, eyelids, ears
    (V,): share in [0, 1] of a vertex in them; keypoints (K,) and landmarks (68,): their vertices; teeth (V, 2), of the
    teeth's vertices alone: how many teeth from the middle of the arch, negative to the picture's left, whole numbers
    where two meet, and how far from the root, 0, to the edge, 1; `GUM` where the gum ends; arches (ARCH_POINTS, n) and
    arch_weights: the vertices whose weighted means are the points of the dental arches.
    """

    faces: np.ndarray
    part: np.ndarray
    lips: np.ndarray
    eyelids: np.ndarray
    ears: np.ndarray
    keypoints: np.ndarray
    landmarks: np.ndarray
    teeth: np.ndarray
    arches: np.ndarray
    arch_weights: np.ndarray

    def is_part(self, *names: str) -> np.ndarray:
        """(F,) bool"""
        return np.isin(self.part, [PARTS.index(name) for name in names])

    def vertices_of(self, *names: str) -> np.ndarray:
        """Indices of the vertices of parts."""
        return np.unique(self.faces[self.is_part(*names)])


@dataclass(frozen=True)
class Identity:
    """One person.

    mesh of the family; vertices (V,3) canonical and neutral; basis (52,V,3) displacement per unit of each ARKit
    weight; look; scene, a default one; attributes: plain floats (female, age, ...) and the family's name, for the
    corpus' metadata.
    """

    mesh: HeadMesh
    vertices: np.ndarray
    basis: np.ndarray
    look: Look
    scene: Scene
    family: str
    attributes: dict[str, float]

    @property
    def keypoints(self) -> np.ndarray:
        """Canonical keypoints K_c (K,3)."""
        return self.vertices[self.mesh.keypoints]

    @property
    def keypoint_basis(self) -> np.ndarray:
        """(52,K,3)"""
        return self.basis[:, self.mesh.keypoints]

    @property
    def named_keypoints(self) -> dict[str, np.ndarray]:
        """Name -> canonical keypoint (3,)."""
        return dict(zip(KEYPOINT_NAMES, self.keypoints, strict=True))

    @property
    def landmarks(self) -> np.ndarray:
        """Canonical iBUG landmarks (68,3)."""
        return self.vertices[self.mesh.landmarks]

    @property
    def arches(self) -> np.ndarray:
        """Canonical points of the dental arches (ARCH_POINTS,3)."""
        return np.einsum("pn,pnc->pc", self.mesh.arch_weights, self.vertices[self.mesh.arches])

    @property
    def arch_basis(self) -> np.ndarray:
        """(52,ARCH_POINTS,3)"""
        return np.einsum("pn,upnc->upc", self.mesh.arch_weights, self.basis[:, self.mesh.arches])

    @property
    def face_plane(self) -> float:
        """Depth of the face in picture units, where a camera sees sizes as they are."""
        return float(self.landmarks[:, 2].mean())

    @property
    def landmark_basis(self) -> np.ndarray:
        """(52,68,3)"""
        return self.basis[:, self.mesh.landmarks]


@dataclass
class Motion:
    """A clip's motion: arkit (T,52), angles in degrees (T,), translation (T,3) in picture units, and how far the tongue
    is raised (T,), 0 at rest, where it stays by default, to 1 behind the upper teeth."""

    arkit: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    translation: np.ndarray
    tongue: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self):
        if self.tongue is None:
            self.tongue = np.zeros(len(self.yaw), np.float32)


def arkit_weights(**units: float) -> np.ndarray:
    """(52,) weights from unit names, e.g. `arkit_weights(jawOpen=0.5)`."""
    weights = np.zeros(len(ARKIT_NAMES), np.float32)
    for name, value in units.items():
        if name not in ARKIT_INDEX:
            raise ValueError(f"{name!r} is not an ARKit unit; the units are {', '.join(ARKIT_NAMES)}")
        weights[ARKIT_INDEX[name]] = value
    return weights


def head_rotation(yaw, pitch, roll) -> np.ndarray:
    """R_pitch @ R_yaw @ R_roll (..., 3, 3) float32 of angles in degrees, scalars or arrays of one shape."""
    yaw, pitch, roll = (np.radians(np.asarray(angle, np.float64)) for angle in (yaw, pitch, roll))
    one, zero = np.ones_like(yaw), np.zeros_like(yaw)

    def matrix(*rows):
        return np.stack([np.stack(row, -1) for row in rows], -2)

    cos, sin = np.cos(pitch), np.sin(pitch)
    about_x = matrix((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))
    cos, sin = np.cos(yaw), np.sin(yaw)
    about_y = matrix((cos, zero, sin), (zero, one, zero), (-sin, zero, cos))
    cos, sin = np.cos(roll), np.sin(roll)
    about_z = matrix((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))
    return (about_x @ about_y @ about_z).astype(np.float32)


def posed(points, basis, arkit, rotation, translation) -> np.ndarray:
    """R (P_c + E) + t: points (N,3), basis (52,N,3), arkit (52,), rotation (3,3), translation (3,) -> (N,3)."""
    moved = points + np.tensordot(arkit, basis, 1)
    return (moved @ rotation.T + translation).astype(np.float32)


def in_perspective(points: np.ndarray, distance: float, plane: float) -> np.ndarray:
    """Points (..., 3) as a camera sees them that is `distance` away from the plane z = `plane`, where sizes stay: x and
    y are places in the picture, z stays."""
    nearness = 1 / (1 - (points[..., 2:] - np.float32(plane)) / np.float32(distance))
    return np.concatenate([points[..., :2] * nearness, points[..., 2:]], -1)


def to_pixels(points: np.ndarray) -> np.ndarray:
    """Pixel coordinates (pixel centres are whole numbers) of picture coordinates' x and y."""
    return (points[..., :2] + 1) * (FRAME / 2) - 0.5


def clip_labels(
    identity: Identity, arkit, yaw, pitch, roll, translation, tongue, distance: float | None = None
) -> dict[str, np.ndarray]:
    """Exact labels of a clip of T frames: the arrays of a corpus npz file.

    arkit (T,52), angles (T,) in degrees, translation (T,3), tongue (T,); distance of the camera, None for one that
    sees without perspective. Returns these and canonical (K,3), expression (T,K,3) in the head's frame, keypoints
    (T,K,3) and landmarks (T,68,3), arches (T,ARCH_POINTS,3) as the camera sees them, camera (2,), its distance from the
    face and that plane's depth (see `in_perspective`), face_box (T,4) as left, top, right, bottom in pixels of a 256
    frame, arkit_names; all arrays float32.
    """
    arkit, translation = np.asarray(arkit, np.float32), np.asarray(translation, np.float32)
    rotation = head_rotation(yaw, pitch, roll)
    expression = np.tensordot(arkit, identity.keypoint_basis, 1)
    landmark_motion = np.tensordot(arkit, identity.landmark_basis, 1)

    def pose(points):
        posed = points @ rotation.transpose(0, 2, 1) + translation[:, None]
        return in_perspective(posed, np.inf if distance is None else distance, identity.face_plane)

    keypoints = pose(identity.keypoints + expression)
    landmarks = pose(identity.landmarks + landmark_motion)
    around = to_pixels(np.concatenate([keypoints, landmarks], 1))
    labels = {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "translation": translation,
        "arkit": arkit,
        "tongue": tongue,
        "canonical": identity.keypoints,
        "expression": expression,
        "keypoints": keypoints,
        "landmarks": landmarks,
        "arches": pose(identity.arches + np.tensordot(arkit, identity.arch_basis, 1)),
        "camera": (np.inf if distance is None else distance, identity.face_plane),
        "face_box": np.concatenate([around.min(1), around.max(1)], 1),
    }
    return {name: np.asarray(a, np.float32) for name, a in labels.items()} | {"arkit_names": np.array(ARKIT_NAMES)}


def framing(landmarks: np.ndarray, rng: np.random.Generator) -> tuple[np.float32, np.ndarray]:
    """Scale (picture units per mesh unit) and rotation centre (3,) of a head whose landmarks (68,3) are in mesh units,
    y up: faces fill the frame alike, as aligned portraits do."""
    spread = np.sqrt(((landmarks - landmarks.mean(0))[:, :2] ** 2).sum(1).mean())
    scale = LANDMARK_SPREAD / spread * rng.uniform(0.96, 1.04)
    eye_line = landmarks[36:48, 1].mean()
    ears = landmarks[[0, 16], 2].mean()
    return np.float32(scale), np.array([0, eye_line + EYE_LINE / scale, ears], np.float32)


def random_expression(rng: np.random.Generator) -> np.ndarray:
    """(52,) weights of one unrelated range-of-motion frame: mouth, jaw, eyes, brows and gaze drawn independently."""
    weights: dict[str, float] = {}

    def add(**units: float) -> None:
        for name, value in units.items():
            weights[name] = weights.get(name, 0.0) + float(value)

    def add_both(**units: float) -> None:
        """On both sides, nearly alike."""
        for unit, value in units.items():
            for name in (f"{unit}Left", f"{unit}Right"):
                uneven = rng.uniform(0.85, 1.0)
                weights[name] = weights.get(name, 0.0) + float(value) * uneven

    strength = rng.uniform(0.35, 1.0)
    mouth = rng.choice(
        ("smile", "frown", "press", "stretch", "pucker", "funnel", "dimple", "lopsided", "raise", "rest"),
        p=(0.24, 0.12, 0.08, 0.08, 0.08, 0.08, 0.04, 0.06, 0.06, 0.16),
    )
    if mouth == "smile":
        add_both(mouthSmile=strength, cheekSquint=0.7 * strength, mouthUpperUp=0.3 * strength)
    elif mouth in ("frown", "press", "stretch", "dimple"):
        add_both(**{f"mouth{mouth.title()}": strength})
    elif mouth in ("pucker", "funnel"):
        add(**{f"mouth{mouth.title()}": strength})
    elif mouth == "lopsided":
        side = rng.choice(("Left", "Right"))
        unit = rng.choice(("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"))
        add(**{f"{unit}{side}": strength, f"mouth{side}": rng.uniform(0, 0.5)})
    elif mouth == "raise":
        add_both(mouthUpperUp=strength, mouthLowerDown=strength * rng.random())

    if rng.random() < 0.55:
        add(jawOpen=rng.uniform(0.08, 0.75))
    if rng.random() < 0.15:
        add(mouthRollLower=rng.uniform(0.3, 0.7), mouthRollUpper=rng.uniform(0, 0.5))
    if rng.random() < 0.08:
        add(cheekPuff=rng.uniform(0.3, 0.8))

    eyes = rng.choice(("blink", "wide", "squint", "wink", "rest"), p=(0.25, 0.13, 0.1, 0.05, 0.47))
    if eyes == "wink":
        add(**{f"eyeBlink{rng.choice(('Left', 'Right'))}": rng.uniform(0.6, 1.0)})
    elif eyes == "blink":  # not through add: lids move together, and a full blink is exactly closed
        weights["eyeBlinkLeft"] = weights["eyeBlinkRight"] = min(float(rng.uniform(0.4, 1.15)), 1.0)
    elif eyes != "rest":
        add_both(**{f"eye{eyes.title()}": rng.uniform(0.4, 1)})

    brows = rng.choice(("up", "worried", "down", "rest"), p=(0.16, 0.14, 0.2, 0.5))
    strength = rng.uniform(0.4, 1)
    if brows == "up":
        add(browInnerUp=strength)
        add_both(browOuterUp=strength)
    elif brows == "worried":
        add(browInnerUp=strength)
    elif brows == "down":
        add_both(browDown=strength, noseSneer=strength * rng.uniform(0, 0.9))

    if rng.random() < 0.3:
        sideways, vertical = rng.uniform(-0.8, 0.8), rng.uniform(-0.7, 0.7)
        towards_left, other = ("Left", "Right") if sideways > 0 else ("Right", "Left")
        add(**{f"eyeLookOut{towards_left}": abs(sideways), f"eyeLookIn{other}": abs(sideways)})
        for side in ("Left", "Right"):  # both eyes alike
            add(**{f"eyeLook{'Up' if vertical > 0 else 'Down'}{side}": abs(vertical)})
    return np.minimum(arkit_weights(**weights), 1.1)


def range_of_motion(identity: Identity, rng: np.random.Generator, frames: int = 32,
                    expression: Callable[[np.random.Generator], np.ndarray] = random_expression) -> Motion:  # fmt: skip
    """Unrelated frames of one person over the range talking heads use and some beyond it; the first 3 are near neutral
    and frontal.

    expression: draws the ARKit weights (52,) of each."""
    calm = np.minimum(np.arange(frames) * 0.12, 1.0) * (np.arange(frames) < 3) + (np.arange(frames) >= 3)
    arkit = np.stack([expression(rng) * amount for amount in calm])
    far = rng.random(frames) < FAR_SHARE
    yaw, pitch, roll = (
        np.where(far, rng.uniform(-most, most, frames), rng.uniform(-usual, usual, frames)) * calm
        for usual, most in ((18, 45), (10, 22), (8, 15))
    )
    translation = rng.uniform(-0.06, 0.06, (frames, 3)) * calm[:, None]
    translation[:, 2] = 0  # the camera is orthographic: depth could not be seen
    tongue = np.where(rng.random(frames) < 0.3, rng.uniform(0.3, 1.0, frames), 0) * calm
    return Motion(*(np.asarray(a, np.float32) for a in (arkit, yaw, pitch, roll, translation, tongue)))
