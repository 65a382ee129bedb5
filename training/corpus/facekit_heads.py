"""The second family of heads: people of ICT FaceKit, a model made from light-stage scans.

The project carries no data of it. Its light version (MIT licence, USC Institute for Creative Technologies, repository
ICT-VGL/ICT-FaceKit, folder FaceXModel) is read from one npz file, wherever the user keeps it:

    neutral (V,3) float32, in centimetres, y up, z towards the viewer; identity (100,V,3), modes in standard
    deviations; expression (E,V,3) with expression_names, ARKit's units with _L and _R; quads (F,4), whose last corner
    repeats where they are triangles; material (F,) with material_names; landmarks68, the iBUG points' vertices.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from eat_hf.errors import UserError

from .heads import ARKIT_NAMES, GUM, KEYPOINT_NAMES, PARTS, TEETH, HeadMesh, Identity, framing
from .looks import sample_look, sample_scene

WHERE = "ICT FaceKit is read from an npz file of its light model, see training/corpus/facekit_heads.py"

# Keypoints that are no iBUG landmarks, on the picture's left half and on the middle line, by the place in space of the
# model's mean head (centimetres) that they lie at.
_PLACES = {
    "nose_bridge": (0.0, 2.88, 11.32),
    "chin": (0.0, -6.86, 10.94),
    "forehead": (0.0, 8.33, 10.11),
    "outer_lip_lower_left": (-1.44, -4.20, 11.18),
    "lid_upper_left": (-3.37, 3.99, 9.55),
    "lid_lower_left": (-3.36, 2.99, 9.41),
    "nose_wing_left": (-1.60, -0.02, 11.69),
    "jaw_outer_left": (-5.22, -4.93, 6.92),
    "jaw_inner_left": (-2.19, -6.34, 10.12),
    "temple_left": (-6.68, 5.34, 5.79),
}
_LANDMARKS = {
    "outer_lip_upper_middle": 51, "outer_lip_lower_middle": 57, "inner_lip_upper_middle": 62,
    "inner_lip_lower_middle": 66, "nose_tip": 30, "mouth_corner_left": 48, "outer_lip_upper_left": 50,
    "inner_lip_upper_left": 61, "inner_lip_lower_left": 67, "eye_inner_corner_left": 39, "eye_outer_corner_left": 36,
    "brow_inner_left": 21, "brow_middle_left": 19, "brow_outer_left": 17,
}  # fmt: skip
_CROWN = 0.85  # height of a tooth above its gum, in centimetres
_TONGUE = slice(16611, 17039)  # its vertices among those of gums and tongue
_EYE_RETREAT = 0.22  # centimetres that an eyeball moves back in a blink: a lid half closed would cut the cornea
_TONGUE_REACH = 3.0  # centimetres that the tip of the tongue comes forward at a weight of 1


@dataclass(frozen=True)
class FaceKit:
    """The model, made ready: mesh; neutral (V,3); modes (M,V,3); units (52,V,3), all in centimetres, y up."""

    mesh: HeadMesh
    neutral: np.ndarray
    modes: np.ndarray
    units: np.ndarray

    @staticmethod
    @cache
    def load(path: Path) -> "FaceKit":
        """Read the model once.

        Raises:
            UserError: the file is missing, or another one.
        """
        try:
            with np.load(path) as packed:
                data = {name: packed[name] for name in packed.files if not name.startswith("uv")}
            return _prepare(**data)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} cannot be read as ICT FaceKit ({error}). {WHERE}.") from error


def find_facekit(place: str) -> Path:
    """The model's file at a path, or in that folder."""
    path = Path(place)
    return path / "ict_facekit.npz" if path.is_dir() else path


def _prepare(neutral, identity, expression, expression_names, quads, material, material_names, landmarks68) -> FaceKit:
    names = material_names.tolist()
    units = _arkit_units(expression.astype(np.float32), expression_names.tolist(), len(neutral))
    face_material = np.array(names)[material]
    opening = np.linalg.norm(units[ARKIT_NAMES.index("jawOpen")], axis=1)

    part = np.full(len(quads), -1, np.int8)

    def assign(chosen: np.ndarray, name: str) -> None:
        part[chosen] = PARTS.index(name)

    assign(np.isin(face_material, ("M_Face", "M_BackHead")), "skin")
    assign((face_material == "M_BackHead") & _sockets(neutral)[quads].all(1), "lining")
    teeth = face_material == "M_Teeth"
    assign(teeth & (opening[quads].min(1) == 0), "upper_teeth")
    assign(teeth & (opening[quads].min(1) > 0), "lower_teeth")
    tongue = _tongue(neutral)
    assign(face_material == "M_GumsTongue", "gums")
    assign((face_material == "M_GumsTongue") & (tongue[quads] > 0).all(1), "tongue")
    assign(face_material == "M_ScleraLeft", "right_eye")  # the person's left is on the picture's right
    assign(face_material == "M_ScleraRight", "left_eye")
    assign((face_material == "M_EyeLashes") & (neutral[quads, 1].max(1) > 3.45), "lashes")  # lower ones are too fine

    units[ARKIT_NAMES.index("tongueOut")] = _TONGUE_REACH * tongue[:, None] * np.array([0, 0.12, 1], np.float32)
    for eye, side in (("right_eye", "Left"), ("left_eye", "Right")):
        ball = np.unique(quads[part == PARTS.index(eye)])
        units[ARKIT_NAMES.index(f"eyeBlink{side}"), ball, 2] -= _EYE_RETREAT
    quads, part = quads[part >= 0], part[part >= 0]
    real = quads[:, 3] != quads[:, 2]
    faces = np.concatenate([quads[:, [2, 1, 0]], quads[real][:, [3, 2, 0]]]).astype(np.int32)
    faces, part = np.ascontiguousarray(faces), np.concatenate([part, part[real]])

    teeth = np.zeros((len(neutral), 2), np.float32)
    arches = []
    for name, edge in (("upper_teeth", -1), ("lower_teeth", 1)):
        arches.append(_arch(neutral, faces[part == PARTS.index(name)], edge, teeth))
    points = np.concatenate(arches)
    mesh = HeadMesh(
        faces=faces,
        part=part,
        lips=_lips(neutral, landmarks68),
        eyelids=_eyelids(neutral, landmarks68),
        ears=_ears(neutral),
        keypoints=np.array(_keypoint_vertices(neutral, landmarks68, faces, part)),
        landmarks=landmarks68.astype(int),
        teeth=teeth,
        arches=points,
        arch_weights=np.full(points.shape, 1 / points.shape[1]),
    )
    return FaceKit(mesh, neutral.astype(np.float32), identity.astype(np.float32), units)


def _arkit_units(expression: np.ndarray, names: list[str], count: int) -> np.ndarray:
    """(52,V,3): ARKit's units, of which two have two sides in the model; tongueOut stays empty, the model has none."""
    units = np.zeros((len(ARKIT_NAMES), count, 3), np.float32)
    for unit, name in zip(units, ARKIT_NAMES, strict=True):
        if name in ("browInnerUp", "cheekPuff"):
            own = [f"{name}_L", f"{name}_R"]
        elif name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            own = [name]
        else:
            own = [name.replace("Left", "_L").replace("Right", "_R")]
        for part in own if name != "tongueOut" else ():
            unit += expression[names.index(part)]
    return units


# Where things lie in the model's mean head, in centimetres.
def _in_box(points: np.ndarray, low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    return np.all((points > low) & (points < high), axis=1)


def _sockets(neutral: np.ndarray) -> np.ndarray:
    """(V,) what the model counts as the back of the head and lies behind lips or lids."""
    eyes = np.abs(neutral) * [1, 1, 0] + neutral * [0, 0, 1]
    return _in_box(neutral, (-3.7, -6.1, 0.6), (3.7, -0.3, 12)) | _in_box(eyes, (1.4, 1.9, 6.3), (4.7, 5.3, 9.4))


def _lips(neutral: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(V,) softly, over a millimetre or so, inside the outline of the lips."""
    outline = neutral[landmarks[48:60], :2].reshape(-1, 1, 2)
    mouth = neutral[landmarks[48:60]]
    near = _in_box(neutral, tuple(mouth.min(0) - [0.3, 0.3, 0.8]), tuple(mouth.max(0) + [0.3, 0.3, 0.8]))
    share = np.zeros(len(neutral), np.float32)
    for vertex in np.flatnonzero(near):
        x, y = (float(c) for c in neutral[vertex, :2])
        share[vertex] = np.clip(cv2.pointPolygonTest(outline, (x, y), True) / 0.12 + 0.5, 0, 1)
    return share


def _eyelids(neutral: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(V,) around the eyes, up to a centimetre above them and less below."""
    share = np.zeros(len(neutral), np.float32)
    for eye in (neutral[landmarks[36:42]], neutral[landmarks[42:48]]):
        offset = (neutral - eye.mean(0)) / [2.0, 1.0, 2.0]
        offset[:, 1] -= 0.25
        share = np.maximum(share, np.clip(2.5 - 2 * np.linalg.norm(offset, axis=1), 0, 1))
    return share.astype(np.float32)


def _ears(neutral: np.ndarray) -> np.ndarray:
    side = np.abs(neutral) * [1, 0, 0] + neutral * [0, 1, 1]
    return _in_box(side, (7.2, -2.5, -2.6), (10, 6.5, 3.6)).astype(np.float32)


def _tongue(neutral: np.ndarray) -> np.ndarray:
    """(V,) 0 but on the tongue, where it grows to 1 at the tip."""
    share = np.zeros(len(neutral), np.float32)
    share[_TONGUE] = np.clip((neutral[_TONGUE, 2] - 3.0) / 6.5, 0.02, 1)
    return share


def _arch(neutral: np.ndarray, faces: np.ndarray, direction: int, teeth: np.ndarray) -> np.ndarray:
    """Pairs of vertices (2 * (TEETH + 1), 2) where two teeth of an arch meet, at the gum and at the edge, that is up or
    down by `direction`. `teeth` (V, 2) takes its `HeadMesh.teeth`."""
    ends = faces[:, [0, 1, 1, 2]].reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(len(neutral),) * 2)
    tooth_of = connected_components(graph, directed=False)[1]
    used = np.unique(faces)
    members = [used[tooth_of[used] == tooth] for tooth in np.unique(tooth_of[used])]
    angle = np.arctan2(neutral[:, 0], neutral[:, 2] - 4)
    members.sort(key=lambda tooth: angle[tooth].mean())
    height = neutral[:, 1] * direction
    for number, tooth in enumerate(members):
        across = (angle[tooth] - angle[tooth].min()) / np.ptp(angle[tooth])
        teeth[tooth, 0] = number - len(members) / 2 + 0.02 + 0.96 * across
        teeth[tooth, 1] = 1 - (height[tooth].max() - height[tooth]) * (1 - GUM) / _CROWN

    pairs = []
    back = (len(members) - TEETH) // 2 - 1
    seen = members[back : back + TEETH + 2]
    for one, other in zip(seen, seen[1:], strict=False):
        between = (neutral[one].mean(0) + neutral[other].mean(0)) / 2
        for down in (_CROWN, 0.0):
            pair = []
            for tooth in (one, other):
                off_height = np.abs(height[tooth] - (height[tooth].max() - down))
                sideways = np.linalg.norm((neutral[tooth] - between)[:, [0, 2]], axis=1)
                outwards = neutral[tooth, 2] + np.abs(neutral[tooth, 0])
                pair.append(tooth[np.argmin(off_height + 0.7 * sideways - 0.3 * outwards)])
            pairs.append(pair)
    return np.array(pairs)


def _keypoint_vertices(neutral, landmarks, faces, part) -> list[int]:
    skin = np.unique(faces[part == PARTS.index("skin")])
    found = {name: int(landmarks[i]) for name, i in _LANDMARKS.items()}
    for name, place in _PLACES.items():
        found[name] = int(skin[np.argmin(np.linalg.norm(neutral[skin] - place, axis=1))])
    eye = np.unique(faces[part == PARTS.index("left_eye")])
    found["pupil_left"] = int(eye[np.argmax(neutral[eye, 2])])  # the front of the cornea

    def other_side(vertex: int) -> int:
        pool = skin if vertex in skin else np.unique(faces[part == PARTS.index("right_eye")])
        return int(pool[np.argmin(np.linalg.norm(neutral[pool] - neutral[vertex] * [-1, 1, 1], axis=1))])

    sided = {name.replace("_left", "_right"): other_side(v) for name, v in found.items() if name.endswith("_left")}
    return [(found | sided)[name] for name in KEYPOINT_NAMES]


def sample_facekit(rng: np.random.Generator, model: FaceKit) -> Identity:
    """A new person of the model; the same generator state gives the same person."""
    modes = rng.normal(0, rng.uniform(0.75, 1.1), len(model.modes)).astype(np.float32)
    vertices = model.neutral + np.tensordot(modes, model.modes, 1)
    strength = rng.uniform(0.9, 1.15, len(ARKIT_NAMES))
    for i, name in enumerate(ARKIT_NAMES):
        other = name.replace("Left", "Right")
        strength[i] = strength[ARKIT_NAMES.index(other)] * (1 if other == name else rng.uniform(0.95, 1.05))
        if name.startswith(("eyeLook", "eyeBlink", "jawOpen", "mouthClose", "tongueOut")):
            strength[i] = 1.0  # anatomy, not temperament
    basis = model.units * strength[:, None, None].astype(np.float32)
    scale, origin = framing(vertices[model.mesh.landmarks], rng)
    to_picture = scale * np.array([1, -1, 1], np.float32)
    female, age, african = rng.random(), rng.beta(1.0, 1.2), rng.random() * (rng.random() < 0.4)
    return Identity(
        mesh=model.mesh,
        vertices=((vertices - origin) * to_picture).astype(np.float32),
        basis=basis * to_picture,
        look=sample_look(rng, african, female, age),
        scene=sample_scene(rng),
        family="facekit",
        attributes={"female": round(female, 4), "age": round(age, 4), "african": round(african, 4)},
    )
