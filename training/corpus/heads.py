"""Heads with exact labels: identities sampled from CC0 MakeHuman shapes, moved by the 52 ARKit units.

Everything is in picture coordinates: x right, y down, z towards the viewer, [-1, 1] across the 256-pixel frame. The
rotation centre of the head is the origin, and since the corpus is rendered without perspective, the x and y of a posed
point are its place in the picture. A point moves as `R (P_c + E) + t`, with `E = sum_i w_i B_i` linear in the weights.

The subject faces the camera, so the subject's right side is on the picture's left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .looks import Look, Scene, sample_look, sample_scene

FRAME = 256
ASSETS = Path(__file__).parent / "assets" / "head.npz"
TARGET_UNIT = 1e-3  # target displacements are stored in thousandths of a mesh unit

EYE_LINE = -0.12  # where the eyes are, in picture units above the head's rotation centre
LANDMARK_SPREAD = 0.4195  # r.m.s. distance of the 68 landmarks from their mean, in picture units

# Vertices on the picture's left half (the subject's right) and on the middle line; the other half is found by symmetry.
_JAW = (870, 868, 270, 912, 895, 893, 743, 1951, 1954)  # iBUG 0-8
_BROW = (262, 224, 204, 205, 208)  # 17-21
_BRIDGE = (132, 1721, 201, 302)  # 27-30
_NOSTRILS = (286, 314, 343)  # 31-33
_EYE = (1663, 1656, 1673, 2442, 1670, 1668)  # 36-41
_OUTER_UPPER, _OUTER_LOWER = (425, 2009, 457, 466), (492, 486, 406)  # 48-51, 57-59
_INNER_UPPER, _INNER_LOWER = (1595, 470, 474), (493, 481)  # 60-62, 66-67

# iBUG-68 point -> the point on the other side of the face
_LANDMARK_MIRROR = {**{i: 16 - i for i in range(17)}, **{i: 43 - i for i in range(17, 27)}, 31: 35, 32: 34}
_LANDMARK_MIRROR |= {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 58: 56, 59: 55}
_LANDMARK_MIRROR |= {60: 64, 61: 63, 67: 65}

# Keypoints of the motion model: features of the face only, none on the neck. "left" and "right" are the picture's.
_MIDDLE_KEYPOINTS = {
    "outer_lip_upper_middle": 466,
    "outer_lip_lower_middle": 492,
    "inner_lip_upper_middle": 474,
    "inner_lip_lower_middle": 493,
    "nose_tip": 302,
    "nose_bridge": 131,
    "chin": 1869,
    "forehead": 1978,
}
_LEFT_KEYPOINTS = {
    "mouth_corner": 425,
    "outer_lip_upper": 457,
    "outer_lip_lower": 480,
    "inner_lip_upper": 470,
    "inner_lip_lower": 481,
    "lid_upper": 1655,
    "lid_lower": 1669,
    "eye_inner_corner": 2442,
    "eye_outer_corner": 1663,
    "pupil": None,  # front pole of the eyeball, found on the mesh
    "brow_inner": 208,
    "brow_middle": 204,
    "brow_outer": 262,
    "nose_wing": 1753,
    "jaw_outer": 1898,
    "jaw_inner": 1881,
    "temple": 1857,
}

# Upper-lid margin vertex -> the lower-lid vertex it meets, along the right eye: sizes the blink of every identity.
_LID_PAIRS = ((1657, 1667), (1656, 1668), (1655, 1669), (1673, 1670))


class HeadAssets:
    """The packed head: mesh, groups, masks and targets, in mesh units (y up). Use `HeadAssets.load()`.

    vertices (V,3), faces (F,3) int32 wound so that normals point outwards in picture coordinates, groups (F,),
    group_names, masks {name: (V,) in [0, 1]}, mirror (V,): the vertex at the same place on the other side.
    """

    def __init__(self, path: Path = ASSETS):
        with np.load(path) as packed:
            self.vertices = packed["vertices"]
            self.faces = np.ascontiguousarray(packed["faces"][:, ::-1].astype(np.int32))
            self.groups = packed["groups"]
            self.group_names = tuple(packed["group_names"].tolist())
            self.masks = {n: packed[f"mask_{n}"] / np.float32(255) for n in ("lips", "eyelids", "mouth", "ears")}
            names = packed["target_names"].tolist()
            offsets, steps, deltas = packed["target_offsets"], packed["target_steps"], packed["target_deltas"]
        self._targets = {}
        for name, start, stop in zip(names, offsets[:-1], offsets[1:], strict=True):
            index = np.cumsum(steps[start:stop], dtype=np.int64)
            self._targets[name] = (index, deltas[:, start:stop].T.astype(np.float32) * np.float32(TARGET_UNIT))
        self.target_names = tuple(names)
        self.mirror = self._find_mirror()

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> "HeadAssets":
        """The bundled head, read once."""
        return HeadAssets()

    def group_vertices(self, name: str) -> np.ndarray:
        """Indices of the vertices of a mesh group such as "helper-l-eye"."""
        return np.unique(self.faces[self.groups == self.group_names.index(name)])

    def add_target(self, vertices: np.ndarray, name: str, weight: float) -> None:
        """Add `weight` times a target to `vertices` (V,3) in place."""
        index, delta = self._targets[name]
        vertices[index] += np.float32(weight) * delta

    def _find_mirror(self) -> np.ndarray:
        from scipy.spatial import cKDTree

        return cKDTree(self.vertices).query(self.vertices * np.array([-1, 1, 1], np.float32))[1]


def _landmark_vertices(assets: HeadAssets) -> tuple[int, ...]:
    left = dict(enumerate(_JAW)) | {17 + i: v for i, v in enumerate(_BROW)} | {27 + i: v for i, v in enumerate(_BRIDGE)}
    left |= {31 + i: v for i, v in enumerate(_NOSTRILS)} | {36 + i: v for i, v in enumerate(_EYE)}
    left |= {48 + i: v for i, v in enumerate(_OUTER_UPPER)} | {57 + i: v for i, v in enumerate(_OUTER_LOWER)}
    left |= {60 + i: v for i, v in enumerate(_INNER_UPPER)} | {66 + i: v for i, v in enumerate(_INNER_LOWER)}
    mirrored = {_LANDMARK_MIRROR[i]: int(assets.mirror[v]) for i, v in left.items() if i in _LANDMARK_MIRROR}
    vertices = mirrored | left
    return tuple(vertices[i] for i in range(68))


def _keypoint_vertices(assets: HeadAssets) -> dict[str, int]:
    eye = assets.group_vertices("helper-r-eye")
    ball = assets.vertices[eye]
    off_axis = np.hypot(*(ball[:, :2] - ball[:, :2].mean(0)).T) + (ball[:, 2] < ball[:, 2].mean())
    pupil = int(eye[np.argmin(off_axis)])
    keypoints = dict(_MIDDLE_KEYPOINTS)
    for name, vertex in _LEFT_KEYPOINTS.items():
        vertex = pupil if vertex is None else vertex
        keypoints[f"{name}_left"] = vertex
        keypoints[f"{name}_right"] = int(assets.mirror[vertex])
    return keypoints


_assets = HeadAssets.load()
ARKIT_NAMES: tuple[str, ...] = tuple(n.removeprefix("arkit/") for n in _assets.target_names if n.startswith("arkit/"))
ARKIT_INDEX: dict[str, int] = {name: i for i, name in enumerate(ARKIT_NAMES)}
LANDMARKS_68: tuple[int, ...] = _landmark_vertices(_assets)
LANDMARK_NAMES: tuple[str, ...] = tuple(f"ibug_{i:02d}" for i in range(68))
_keypoints = _keypoint_vertices(_assets)
KEYPOINT_NAMES: tuple[str, ...] = tuple(_keypoints)
KEYPOINT_VERTICES: tuple[int, ...] = tuple(_keypoints.values())
_LOCAL_TARGETS = tuple(n for n in _assets.target_names if n.startswith("local/") and "/asym/" not in n)
_ASYMMETRIES = tuple(n for n in _assets.target_names if "/asym/" in n)


@dataclass(frozen=True)
class Identity:
    """One person.

    vertices (V,3) canonical and neutral; basis (52,V,3) displacement per unit of each ARKit weight; look; scene, a
    default one; attributes: plain floats (race weights, female, age, weight) for the corpus' metadata.
    """

    vertices: np.ndarray
    basis: np.ndarray
    look: Look
    scene: Scene
    attributes: dict[str, float]

    @property
    def keypoints(self) -> np.ndarray:
        """Canonical keypoints K_c (K,3)."""
        return self.vertices[list(KEYPOINT_VERTICES)]

    @property
    def keypoint_basis(self) -> np.ndarray:
        """(52,K,3)"""
        return self.basis[:, list(KEYPOINT_VERTICES)]

    @property
    def landmarks(self) -> np.ndarray:
        """Canonical iBUG landmarks (68,3)."""
        return self.vertices[list(LANDMARKS_68)]

    @property
    def landmark_basis(self) -> np.ndarray:
        """(52,68,3)"""
        return self.basis[:, list(LANDMARKS_68)]


@dataclass
class Motion:
    """A clip's motion: arkit (T,52), angles in degrees (T,), translation (T,3) in picture units."""

    arkit: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    translation: np.ndarray


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


def to_pixels(points: np.ndarray) -> np.ndarray:
    """Pixel coordinates (pixel centres are whole numbers) of picture coordinates' x and y."""
    return (points[..., :2] + 1) * (FRAME / 2) - 0.5


def clip_labels(identity: Identity, arkit, yaw, pitch, roll, translation) -> dict[str, np.ndarray]:
    """Exact labels of a clip of T frames: the arrays of a corpus npz file.

    arkit (T,52), angles (T,) in degrees, translation (T,3). Returns these and canonical (K,3), expression (T,K,3) in
    the head's frame, keypoints (T,K,3), landmarks (T,68,3), face_box (T,4) as left, top, right, bottom in pixels,
    arkit_names; all arrays float32.
    """
    arkit, translation = np.asarray(arkit, np.float32), np.asarray(translation, np.float32)
    rotation = head_rotation(yaw, pitch, roll)
    expression = np.tensordot(arkit, identity.keypoint_basis, 1)
    landmark_motion = np.tensordot(arkit, identity.landmark_basis, 1)

    def pose(points):
        return points @ rotation.transpose(0, 2, 1) + translation[:, None]

    keypoints = pose(identity.keypoints + expression)
    landmarks = pose(identity.landmarks + landmark_motion)
    around = to_pixels(np.concatenate([keypoints, landmarks], 1))
    labels = {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "translation": translation,
        "arkit": arkit,
        "canonical": identity.keypoints,
        "expression": expression,
        "keypoints": keypoints,
        "landmarks": landmarks,
        "face_box": np.concatenate([around.min(1), around.max(1)], 1),
    }
    return {name: np.asarray(a, np.float32) for name, a in labels.items()} | {"arkit_names": np.array(ARKIT_NAMES)}


def sample_identity(rng: np.random.Generator) -> Identity:
    """A new person; the same generator state gives the same person."""
    assets = HeadAssets.load()
    vertices = assets.vertices.copy()
    attributes = _add_macros(vertices, assets, rng)
    _add_local_targets(vertices, assets, rng)
    basis = _sample_basis(vertices, assets, rng)

    scale, origin = _framing(vertices, rng)
    to_picture = scale * np.array([1, -1, 1], np.float32)
    look = sample_look(rng, attributes["african"], attributes["female"], attributes["age"])
    return Identity(
        vertices=((vertices - origin) * to_picture).astype(np.float32),
        basis=basis * to_picture,
        look=look,
        scene=sample_scene(rng),
        attributes=attributes,
    )


def _add_macros(vertices, assets, rng) -> dict[str, float]:
    races = dict(zip(("caucasian", "african", "asian"), rng.dirichlet([0.55] * 3), strict=True))
    female = rng.beta(0.4, 0.4)
    age = 0.9 * rng.beta(0.5, 1.0)
    weight = rng.triangular(-0.8, 0, 0.9)  # -1 thin, 1 heavy
    genders = {"male": 1 - female, "female": female}
    ages = {"young": 1 - age, "old": age}
    weights = {"minweight": max(-weight, 0), "averageweight": 1 - abs(weight), "maxweight": max(weight, 0)}
    for gender, gender_weight in genders.items():
        for years, age_weight in ages.items():
            both = gender_weight * age_weight
            for race, race_weight in races.items():
                assets.add_target(vertices, f"macro/{race}-{gender}-{years}", both * race_weight)
            for name, amount in weights.items():
                if amount > 0:
                    assets.add_target(vertices, f"macro/universal-{gender}-{years}-averagemuscle-{name}", both * amount)
    attributes = {**races, "female": female, "age": age, "weight": weight}
    return {name: round(float(value), 4) for name, value in attributes.items()}


def _add_local_targets(vertices, assets, rng, count: int = 20) -> None:
    for name in rng.choice(_LOCAL_TARGETS, count, replace=False):
        weight = rng.uniform(0, 0.6)
        assets.add_target(vertices, name, weight)
        folder, _, file = name.rpartition("/")
        if file[:2] in ("l-", "r-"):  # both sides alike, but never exactly
            other = f"{folder}/{'r' if file[0] == 'l' else 'l'}{file[1:]}"
            assets.add_target(vertices, other, weight * rng.uniform(0.85, 1.15))
    for name in rng.choice(_ASYMMETRIES, 3, replace=False):
        assets.add_target(vertices, name, rng.uniform(0, 0.4))


def _sample_basis(vertices, assets, rng) -> np.ndarray:
    """ARKit basis (52,V,3) in mesh units: personal strength of every unit, and blinks that close these very lids."""
    strength = rng.uniform(0.9, 1.25, len(ARKIT_NAMES))
    basis = np.zeros((len(ARKIT_NAMES), *vertices.shape), np.float32)
    for i, name in enumerate(ARKIT_NAMES):
        other = name.replace("Left", "Right") if "Left" in name else name
        gain = strength[ARKIT_INDEX[other]] * (1 if other == name else rng.uniform(0.95, 1.05))
        if name.startswith(("eyeLook", "jawOpen", "mouthClose", "tongueOut")):
            gain = 1.0  # anatomy, not temperament
        if name.startswith("eyeBlink"):
            gain = 1.0
        assets.add_target(basis[i], f"arkit/{name}", gain)
        if name.startswith("eyeBlink"):
            _close_lids(basis[i], vertices, assets.mirror if name.endswith("Left") else np.arange(len(vertices)))
    return basis


def _close_lids(blink, vertices, side) -> None:
    """Scale a blink (V,3) in place, smoothly along the eye, so that a weight of 1 brings these very lids together."""
    upper, lower = side[np.array(_LID_PAIRS)].T
    gap = vertices[upper, 1] - vertices[lower, 1]
    closing = blink[lower, 1] - blink[upper, 1]
    order = np.argsort(vertices[upper, 0])
    along = vertices[upper, 0][order]
    blink *= np.interp(vertices[:, 0], along, ((gap + 0.004) / closing)[order])[:, None].astype(np.float32)


def _framing(vertices, rng) -> tuple[np.float32, np.ndarray]:
    """Scale (picture units per mesh unit) and rotation centre: faces fill the frame alike, as aligned portraits do."""
    landmarks = vertices[list(LANDMARKS_68)]
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
    """Unrelated frames of one person over the range talking heads use; the first 3 are near neutral and frontal.

    expression: draws the ARKit weights (52,) of each."""
    calm = np.minimum(np.arange(frames) * 0.12, 1.0) * (np.arange(frames) < 3) + (np.arange(frames) >= 3)
    arkit = np.stack([expression(rng) * amount for amount in calm])
    yaw, pitch, roll = (rng.uniform(-limit, limit, frames) * calm for limit in (15, 8, 6))
    translation = rng.uniform(-0.06, 0.06, (frames, 3)) * calm[:, None]
    translation[:, 2] = 0  # the camera is orthographic: depth could not be seen
    return Motion(*(np.asarray(a, np.float32) for a in (arkit, yaw, pitch, roll, translation)))
