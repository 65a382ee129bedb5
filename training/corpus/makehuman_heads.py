"""The first family of heads: identities sampled from CC0 MakeHuman shapes, moved by the 52 ARKit units."""

from functools import cache
from pathlib import Path

import numpy as np

from .heads import (
    ARCH_TEETH,
    ARKIT_INDEX,
    ARKIT_NAMES,
    GUM,
    KEYPOINT_NAMES,
    PARTS,
    TEETH,
    HeadMesh,
    Identity,
    framing,
)
from .looks import sample_look, sample_scene

ASSETS = Path(__file__).parent / "assets" / "head.npz"
TARGET_UNIT = 1e-3  # target displacements are stored in thousandths of a mesh unit

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

# Keypoints on the picture's left half and on the middle line.
_KEYPOINTS = {
    "outer_lip_upper_middle": 466,
    "outer_lip_lower_middle": 492,
    "inner_lip_upper_middle": 474,
    "inner_lip_lower_middle": 493,
    "nose_tip": 302,
    "nose_bridge": 131,
    "chin": 1869,
    "forehead": 1978,
    "mouth_corner_left": 425,
    "outer_lip_upper_left": 457,
    "outer_lip_lower_left": 480,
    "inner_lip_upper_left": 470,
    "inner_lip_lower_left": 481,
    "lid_upper_left": 1655,
    "lid_lower_left": 1669,
    "eye_inner_corner_left": 2442,
    "eye_outer_corner_left": 1663,
    "brow_inner_left": 208,
    "brow_middle_left": 204,
    "brow_outer_left": 262,
    "nose_wing_left": 1753,
    "jaw_outer_left": 1898,
    "jaw_inner_left": 1881,
    "temple_left": 1857,
}

# The mesh group of every part but skin and lining; the other groups are not shown: lower lashes are finer than a pixel.
_GROUPS = {
    "helper-l-eye": "right_eye",  # the person's left is on the picture's right
    "helper-r-eye": "left_eye",
    "helper-upper-teeth": "upper_teeth",
    "helper-lower-teeth": "lower_teeth",
    "helper-tongue": "tongue",
    "helper-l-eyelashes-2": "lashes",
    "helper-r-eyelashes-2": "lashes",
}

_OUTER = 0.88  # how far from the middle of the mouth the outer side of the teeth is, 1 at the ends of the strip
_CONVERGENCE = 0.32  # of eyeLookIn, of eyes at rest: the mesh's look past the viewer on either side
_UPPER_TEETH_DOWN = (0.02, 0.055)  # how far below the line between the lips they end, in mesh units

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
    @cache
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


def _keypoint_vertices(assets: HeadAssets) -> list[int]:
    eye = assets.group_vertices("helper-r-eye")
    ball = assets.vertices[eye]
    off_axis = np.hypot(*(ball[:, :2] - ball[:, :2].mean(0)).T) + (ball[:, 2] < ball[:, 2].mean())
    left = _KEYPOINTS | {"pupil_left": int(eye[np.argmin(off_axis)])}  # the front pole of the eyeball
    mirrored = {name.replace("_left", "_right"): int(assets.mirror[vertex]) for name, vertex in left.items()}
    return [(mirrored | left)[name] for name in KEYPOINT_NAMES]


def _arch(assets: HeadAssets, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A strip that the texture paints teeth on: its vertices (n,), their `HeadMesh.teeth` (n, 2), and the points where
    two teeth meet, vertices (2 * (TEETH + 1), 4) with weights."""
    strip = assets.group_vertices(f"helper-{name}-teeth")
    place, sign = assets.vertices[strip].copy(), 1 if name == "lower" else -1  # of the edge's direction, y being up
    place[:, 2] -= place[:, 2].min()
    angle = np.arctan2(place[:, 0], place[:, 2])
    # its outer side: columns of root, middle and edge
    outer = np.flatnonzero(np.hypot(*(place[:, [0, 2]] / np.abs(place[:, [0, 2]]).max(0)).T) > _OUTER)
    columns = outer[np.argsort(angle[outer])].reshape(-1, 3)
    columns = np.take_along_axis(columns, np.argsort(sign * place[columns, 1], axis=1), 1)
    along = np.linalg.norm(np.diff(place[columns[:, 1]][:, [0, 2]], axis=0), axis=1).cumsum()
    along = np.concatenate([[0], along]) / along[-1] * ARCH_TEETH - ARCH_TEETH / 2
    angles = angle[columns[:, 1]]
    root, edge = (np.interp(angle, angles, sign * place[columns[:, row], 1]) for row in (0, 2))
    height = (sign * place[:, 1] - root) / (edge - root)
    teeth = np.stack([np.interp(angle, angles, along), height.clip(0, 1)], 1)

    points, weights = [], []
    for meeting in range(-TEETH // 2, TEETH // 2 + 1):
        right = int(np.searchsorted(along, meeting - 1e-6))
        share = (meeting - along[right - 1]) / (along[right] - along[right - 1])
        for down in (GUM, 1.0):
            points.append(strip[columns[[right - 1, right]][:, [0, 2]].ravel()])
            weights.append(np.outer([1 - share, share], [1 - down, down]).ravel())
    return strip, teeth, np.array(points), np.array(weights)


@cache
def makehuman_mesh() -> HeadMesh:
    """The mesh of the first family."""
    assets = HeadAssets.load()
    part = np.full(len(assets.faces), -1, np.int8)
    part[assets.groups == assets.group_names.index("body")] = PARTS.index("skin")
    lining = ((assets.masks["mouth"] > 0.5) & (assets.masks["lips"] < 0.5))[assets.faces].all(1)
    part[(part == PARTS.index("skin")) & lining] = PARTS.index("lining")
    for group, name in _GROUPS.items():
        part[assets.groups == assets.group_names.index(group)] = PARTS.index(name)
    teeth = np.zeros((len(assets.vertices), 2), np.float32)
    upper, lower = (_arch(assets, name) for name in ("upper", "lower"))
    for strip, places, *_ in (upper, lower):
        teeth[strip] = places
    return HeadMesh(
        faces=np.ascontiguousarray(assets.faces[part >= 0]),
        part=part[part >= 0],
        lips=assets.masks["lips"],
        eyelids=assets.masks["eyelids"],
        ears=assets.masks["ears"],
        keypoints=np.array(_keypoint_vertices(assets)),
        landmarks=np.array(_landmark_vertices(assets)),
        teeth=teeth,
        arches=np.concatenate([upper[2], lower[2]]),
        arch_weights=np.concatenate([upper[3], lower[3]]),
    )


def sample_makehuman(rng: np.random.Generator) -> Identity:
    """A new person; the same generator state gives the same person."""
    assets, mesh = HeadAssets.load(), makehuman_mesh()
    vertices = assets.vertices.copy()
    attributes = _add_macros(vertices, assets, rng)
    _add_local_targets(vertices, assets, rng)
    basis = _sample_basis(vertices, assets, rng)

    scale, origin = framing(vertices[mesh.landmarks], rng)
    to_picture = scale * np.array([1, -1, 1], np.float32)
    look = sample_look(rng, attributes["african"], attributes["female"], attributes["age"])
    scene = sample_scene(rng)
    # The mesh's upper teeth end where the lips meet; people's a few millimetres below.
    vertices[mesh.vertices_of("upper_teeth"), 1] -= rng.uniform(*_UPPER_TEETH_DOWN)
    for eye, inwards in (("left_eye", "eyeLookInRight"), ("right_eye", "eyeLookInLeft")):  # named from either side
        ball = mesh.vertices_of(eye)
        vertices[ball] += np.float32(_CONVERGENCE) * basis[ARKIT_INDEX[inwards], ball]
    return Identity(
        mesh=mesh,
        vertices=((vertices - origin) * to_picture).astype(np.float32),
        basis=basis * to_picture,
        look=look,
        scene=scene,
        family="makehuman",
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


def _add_local_targets(vertices, assets, rng, count: int = 16) -> None:
    local = [name for name in assets.target_names if name.startswith("local/")]
    for name in rng.choice([name for name in local if "/asym/" not in name], count, replace=False):
        weight = 0.5 * rng.beta(1.0, 1.8)  # natural proportions: large ones are rare
        assets.add_target(vertices, name, weight)
        folder, _, file = name.rpartition("/")
        if file[:2] in ("l-", "r-"):  # both sides alike, but never exactly
            other = f"{folder}/{'r' if file[0] == 'l' else 'l'}{file[1:]}"
            assets.add_target(vertices, other, weight * rng.uniform(0.85, 1.15))
    for name in rng.choice([name for name in local if "/asym/" in name], 3, replace=False):
        assets.add_target(vertices, name, rng.uniform(0, 0.3))


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
