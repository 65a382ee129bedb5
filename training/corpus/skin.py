"""Procedural texture of a head: skin, lips, brows, lids, irises, stubble, teeth.

The head is unwrapped around its vertical axis onto a capsule (a cylinder with a round top), so that every texel of the
face has about the size of a pixel of the 2x supersampled picture. Skin is painted in that space from the 3D position of
every texel: features follow the identity's own landmarks. Eyes, teeth and other small parts have patches of their own.

One texture (rows, 1024, 4) holds, from top to bottom: skin, hair and clothes (`hair.py`), patches. Colours are display
values, alpha cuts holes.
"""

from dataclasses import dataclass

import cv2
import numba as nb
import numpy as np

from .heads import ARCH_TEETH, GUM, Identity
from .looks import Look
from .rasteriser import SHEET, interpolate, rasterise

COLUMNS = 1024
SKIN_ROWS = 768
HAIR_ROWS = 768
CLOTHES_ROWS = 320
PATCH_ROWS = 92
SKIN_TOP, HAIR_TOP = 0, SKIN_ROWS
CLOTHES_TOP = SKIN_ROWS + HAIR_ROWS
PATCH_TOP = CLOTHES_TOP + CLOTHES_ROWS
TEXTURE_ROWS = PATCH_TOP + PATCH_ROWS

# The capsule: its axis is the line x = z = 0; rows are polar angles above CAP_LEVEL (y is down), heights below it.
CAP_LEVEL = -0.35
CAP_RADIUS = 0.7
CAPSULE_BOTTOM = 1.25
_CAP_ARC = CAP_RADIUS * np.pi / 2
_ARC = _CAP_ARC + CAPSULE_BOTTOM - CAP_LEVEL

PATCH = 92  # eleven of them across the texture
_PATCH_NAMES = (
    "left_eye",
    "right_eye",
    "upper_teeth",
    "lower_teeth",
    "tongue",
    "lining",
    "lashes",
    "ears",
    "gums",
    "frames",
    "hat",
)
PATCHES = {name: number for number, name in enumerate(_PATCH_NAMES)}
EYE_PATCH_REACH = 16 / 15  # diameters of the eyeball that an eye's patch spans
_FRONT = slice(COLUMNS // 4, COLUMNS - COLUMNS // 4)  # columns that face the viewer


def capsule(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texture column in [0, COLUMNS), row in [0, SKIN_ROWS) and distance from the axis (or cap centre) of points."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    around = np.hypot(x, z)
    column = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * COLUMNS
    cap = y < CAP_LEVEL
    arc = np.where(cap, CAP_RADIUS * np.arctan2(around, CAP_LEVEL - y), _CAP_ARC + y - CAP_LEVEL)
    return column, arc / _ARC * SKIN_ROWS, np.where(cap, np.hypot(around, CAP_LEVEL - y), around)


def capsule_point(column: np.ndarray, row: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The point (..., 3) at a texture place and distance: the inverse of `capsule`."""
    angle = (column / COLUMNS - 0.5) * 2 * np.pi
    arc = row / SKIN_ROWS * _ARC
    polar = np.minimum(arc / CAP_RADIUS, np.pi / 2)
    around = radius * np.sin(polar)
    y = np.where(arc < _CAP_ARC, CAP_LEVEL - radius * np.cos(polar), CAP_LEVEL + arc - _CAP_ARC)
    return np.stack([around * np.sin(angle), y, around * np.cos(angle)], -1).astype(np.float32)


def unwrap(column: np.ndarray, row: np.ndarray, faces: np.ndarray, top: int = SKIN_TOP) -> np.ndarray:
    """Texture coordinates (F,3,2) of faces; triangles across the seam at the back continue beyond the last column."""
    uv = np.stack([column[faces], row[faces] + top], -1).astype(np.float32)
    wide = np.ptp(uv[..., 0], axis=1) > COLUMNS / 2
    uv[wide, :, 0] += np.where(uv[wide, :, 0] < COLUMNS / 2, COLUMNS, 0)
    return uv


def noise(rng: np.random.Generator, rows: int, columns: int, *octaves: tuple[float, float, float]) -> np.ndarray:
    """Smooth noise (rows, columns): a sum of octaves (cells down, cells across, amplitude)."""
    total = np.zeros((rows, columns), np.float32)
    for down, across, amplitude in octaves:
        cells = rng.standard_normal((max(int(down), 2), max(int(across), 2))).astype(np.float32)
        total += np.float32(amplitude) * cv2.resize(cells, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return total


@nb.vectorize(["float32(float32, float32, float32)", "float64(float64, float64, float64)"], cache=True)
def ramp(low, high, x):
    """0 where x is at `low` or beyond it, 1 at `high` or beyond it, smooth between the two."""
    share = min(max((x - low) / (high - low), 0), 1)
    return share * share * (3 - 2 * share)


@nb.njit(cache=True, fastmath=True)
def near_curve(points, curve):
    """Distance (rows, columns) of points (rows, columns, >= 2) from a polyline (n, 2) in x and y, and where along it
    the nearest place is, 0 to 1. Far points may get any distance above 0.2."""
    rows, columns = points.shape[0], points.shape[1]
    best = np.full((rows, columns), np.float32(1.0))
    along = np.zeros((rows, columns), np.float32)
    steps = len(curve) - 1
    left, right = curve[:, 0].min() - 0.2, curve[:, 0].max() + 0.2
    top, bottom = curve[:, 1].min() - 0.2, curve[:, 1].max() + 0.2
    for r in range(rows):
        for c in range(columns):
            x, y = points[r, c, 0], points[r, c, 1]
            if x < left or x > right or y < top or y > bottom:
                continue
            for i in range(steps):
                dx, dy = curve[i + 1, 0] - curve[i, 0], curve[i + 1, 1] - curve[i, 1]
                t = ((x - curve[i, 0]) * dx + (y - curve[i, 1]) * dy) / (dx * dx + dy * dy + 1e-12)
                t = min(max(t, 0.0), 1.0)
                distance = np.sqrt((x - curve[i, 0] - t * dx) ** 2 + (y - curve[i, 1] - t * dy) ** 2)
                if distance < best[r, c]:
                    best[r, c] = distance
                    along[r, c] = (i + t) / steps
    return best, along


@dataclass
class TexelMap:
    """What lies under every skin texel: position (rows, columns, 3), radius, lips and eyelids masks (rows, columns)."""

    position: np.ndarray
    radius: np.ndarray
    lips: np.ndarray
    eyelids: np.ndarray
    covered: np.ndarray


def map_texels(identity: Identity) -> TexelMap:
    """Rasterise the body in texture space; where the surface folds over itself its outermost sheet counts."""
    mesh = identity.mesh
    faces = mesh.faces[mesh.is_part("skin")]
    column, row, radius = capsule(identity.vertices)
    uv = unwrap(column, row, faces)
    over = uv[..., 0].max(1) >= COLUMNS
    shifted = uv[over] - np.array([COLUMNS, 0], np.float32)
    corners = np.concatenate([faces, faces[over]])
    xy = np.concatenate([uv, shifted]).reshape(-1, 2)
    loose = np.arange(len(xy), dtype=np.int32).reshape(-1, 3)
    triangle, weights, _ = rasterise(
        xy, radius[corners].astype(np.float32).ravel(), loose, np.full(len(loose), SHEET, np.uint8),
        np.zeros((len(loose), 3, 2), np.float32), np.ones((2, 2), bool), SKIN_ROWS, COLUMNS,
    )  # fmt: skip
    values = np.column_stack([identity.vertices, radius, mesh.lips, mesh.eyelids]).astype(np.float32)
    mixed = interpolate(triangle, weights, corners, values)
    return TexelMap(
        position=np.ascontiguousarray(mixed[..., :3]),
        radius=np.ascontiguousarray(mixed[..., 3]),
        lips=np.ascontiguousarray(mixed[..., 4]),
        eyelids=np.ascontiguousarray(mixed[..., 5]),
        covered=triangle >= 0,
    )


def paint_skin(identity: Identity, texels: TexelMap) -> np.ndarray:
    """(SKIN_ROWS, COLUMNS, 3) display colours of the bare head."""
    look = identity.look
    rng = np.random.default_rng(look.seed)
    grain = noise(rng, SKIN_ROWS, COLUMNS, (8, 12, 0.022), (40, 50, 0.016), (160, 200, 0.012), (700, 900, 0.012))
    skin = np.asarray(look.tone, np.float32) * (1 + look.mottling * grain)[..., None]
    rosy = noise(rng, SKIN_ROWS, COLUMNS, (10, 14, 0.02), (90, 120, 0.012))
    skin[..., 0] *= 1 + look.mottling * rosy
    skin[..., 2] *= 1 - 0.4 * look.mottling * rosy

    front = skin[:, _FRONT]  # a view: what follows paints on `skin`
    place = texels.position[:, _FRONT]
    landmarks, keypoints = identity.landmarks, identity.named_keypoints
    facing = ramp(0.05, 0.25, place[..., 2])
    _paint_cheeks(front, place, facing, keypoints, look, rng)
    _paint_wrinkles(front, place, facing, landmarks, look, rng)
    _paint_stubble(front, place, texels.lips[:, _FRONT], landmarks, look, rng)
    _paint_lids(front, place, texels.eyelids[:, _FRONT], landmarks, look)
    lips = ramp(0.3, 0.75, texels.lips[:, _FRONT])[..., None] * look.lip_strength
    streaks = noise(rng, SKIN_ROWS, front.shape[1], (60, 400, 0.05), (30, 40, 0.03))[..., None]
    front += lips * (np.asarray(look.lip_colour, np.float32) * (1 + streaks) - front)
    _paint_brows(front, place, facing, landmarks, look, rng)
    return np.clip(skin, 0.01, 1)


def _blend(picture: np.ndarray, colour, amount: np.ndarray) -> None:
    _mix(picture, np.asarray(colour, np.float32), amount.astype(np.float32, copy=False))


@nb.njit(cache=True, fastmath=True)
def _mix(picture, colour, amount):
    for r in range(picture.shape[0]):
        for c in range(picture.shape[1]):
            if amount[r, c] != 0:
                for k in range(3):
                    picture[r, c, k] += amount[r, c] * (colour[k] - picture[r, c, k])


def _paint_cheeks(front, place, facing, keypoints, look: Look, rng) -> None:
    red = np.zeros(front.shape[:2], np.float32)
    for side in ("left", "right"):
        centre = 0.5 * (keypoints[f"eye_outer_corner_{side}"] + keypoints[f"mouth_corner_{side}"])
        red += np.exp(-(((place[..., 0] - centre[0]) / 0.19) ** 2) - ((place[..., 1] - centre[1] + 0.02) / 0.15) ** 2)
    nose = keypoints["nose_tip"]
    red += 0.6 * np.exp(-(((place - nose) / 0.11) ** 2).sum(-1))
    front *= 1 - (look.blush * red * facing)[..., None] * np.array([0.0, 0.4, 0.32], np.float32)
    if look.freckles > 0:
        dots = noise(rng, *front.shape[:2], (250, 170, 1.0), (330, 220, 0.7))
        around = np.exp(-(((place[..., 1] - nose[1] + 0.12) / 0.22) ** 2))
        spots = ramp(1.1, 2.0, dots) * around * facing * look.freckles * 0.45
        front *= 1 - spots[..., None] * np.array([0.35, 0.6, 0.75], np.float32)
    for _ in range(rng.integers(0, 4)):  # moles
        centre = place[rng.integers(200, 600), rng.integers(100, front.shape[1] - 100)]
        if np.linalg.norm(centre - nose) < 0.32:  # where the face folds over itself and a texel lies on two places
            continue
        mole = ramp(0.014, 0.006, np.linalg.norm(place - centre, axis=-1)) * rng.uniform(0.3, 0.9)
        _blend(front, np.asarray(look.tone) * 0.35, mole)


def _paint_wrinkles(front, place, facing, landmarks, look: Look, rng) -> None:
    dark = np.zeros(front.shape[:2], np.float32)
    for wing, corner, outer in ((31, 48, -1), (35, 54, 1)):
        start, end = landmarks[wing, :2] + [0.03 * outer, -0.05], landmarks[corner, :2] + [0.05 * outer, 0.03]
        fold = np.stack([start, 0.5 * (start + end) + [0.03 * outer, 0], end])
        distance, _ = near_curve(place, fold.astype(np.float32))
        dark += (0.15 + 0.85 * look.wrinkles) * 0.22 * np.exp(-((distance / 0.018) ** 2))
    for lower in ((36, 41, 40, 39), (42, 47, 46, 45)):  # bags under the eyes
        bag = landmarks[list(lower), :2] + np.array([0, 0.05])
        distance, _ = near_curve(place, bag.astype(np.float32))
        dark += (0.2 + 0.8 * look.wrinkles) * rng.uniform(0.1, 0.4) * np.exp(-((distance / 0.03) ** 2))
    brows = landmarks[17:27, 1].mean()
    above = (brows - 0.05 - place[..., 1]) / 0.25
    lines = np.sin(place[..., 1] * 95 + 4 * noise(rng, *front.shape[:2], (4, 6, 0.6)))
    dark += look.wrinkles * 0.22 * ramp(0.55, 1, lines) * ramp(0, 0.2, above) * ramp(1, 0.7, above)
    front *= 1 - (dark * facing)[..., None] * np.array([0.45, 0.6, 0.6], np.float32)


def beard_cover(points: np.ndarray, landmarks: np.ndarray, shape: str) -> np.ndarray:
    """How much hair of a beard grows at points (..., 3) of a face: (...,) 0 to 1."""
    x, y = np.abs(points[..., 0]), points[..., 1]
    mouth, nose, jaw = landmarks[48:60, 1].mean(), landmarks[33, 1], landmarks[8, 1]
    corner = np.abs(landmarks[[48, 54], 0]).mean()
    # rises towards the sideburns and with them
    cheek_line = nose + 0.08 - 0.5 * np.maximum(x - 0.28, 0) - 3 * np.maximum(x - 0.44, 0)
    below = ramp(jaw + 0.16, jaw + 0.02, y)
    beard = ramp(0, 0.09, y - cheek_line) * below
    moustache = ramp(nose + 0.02, nose + 0.06, y) * ramp(0.3, 0.16, x + 0.6 * np.maximum(mouth - y, 0))
    moustache *= ramp(mouth + 0.06, mouth, y)
    over_mouth = ramp(mouth + 0.05, mouth - 0.05, y)  # between nose and mouth only the moustache grows
    beard *= 1 - over_mouth * ramp(0.36, 0.24, x)
    round_chin = x + 0.5 * np.maximum(np.abs(y - (mouth + jaw) / 2 - 0.04) - 0.04, 0)
    chin = ramp(corner + 0.03, corner - 0.05, round_chin) * ramp(mouth + 0.06, mouth + 0.12, y) * below
    if shape == "moustache":
        return moustache
    if shape == "goatee":
        return chin
    if shape == "circle":
        around = ramp(corner + 0.09, corner + 0.03, x) * ramp(corner - 0.04, corner + 0.02, x)
        return np.maximum(np.maximum(chin, moustache), around * ramp(nose + 0.04, nose + 0.09, y) * below)
    if shape == "chin strap":
        return beard * np.maximum(ramp(jaw - 0.12, jaw - 0.05, y + 0.5 * np.maximum(x - 0.2, 0)), ramp(0.4, 0.5, x))
    return np.maximum(beard, moustache)


def _paint_stubble(front, place, lips, landmarks, look: Look, rng) -> None:
    """Stubble, and the shade of a beard's roots."""
    if look.stubble > 0:
        hairs = 0.65 + 0.5 * noise(rng, *front.shape[:2], (700, 480, 0.8))
        colour = np.minimum(np.asarray(look.hair.colour) * 0.9, np.asarray(look.tone) * 0.5)
        cover = beard_cover(place, landmarks, "full")
        _blend(front, colour, np.clip(cover * hairs, 0, 1) * 0.8 * look.stubble)
    if look.beard:
        cover = ramp(0.1, 0.7, beard_cover(place, landmarks, look.beard.shape)) * (1 - lips)
        _blend(front, np.asarray(look.beard.colour) * 0.8, 0.75 * look.beard.density * cover)


def _paint_lids(front, place, eyelids, landmarks, look: Look) -> None:
    amount = ramp(0.2, 0.8, eyelids) * look.eye_shadow_strength
    _blend(front, look.eye_shadow, amount * (place[..., 2] > 0.2))
    for eye in (36, 42):
        upper = landmarks[[eye, eye + 1, eye + 2, eye + 3], :2]
        lower = landmarks[[eye, eye + 5, eye + 4, eye + 3], :2]
        lines = ((upper, 0.35 + 0.65 * look.liner, 0.011), (lower, 0.12 + 0.4 * look.liner, 0.008))
        for curve, strength, width in lines:
            distance, _ = near_curve(place, curve.astype(np.float32))
            line = ramp(width, 0.2 * width, distance) * strength * (place[..., 2] > 0.2)
            _blend(front, np.asarray(look.tone) * 0.16, line)


def _paint_brows(front, place, facing, landmarks, look: Look, rng) -> None:
    hairs = noise(rng, *front.shape[:2], (90, 300, 0.3), (60, 120, 0.3))
    for points, inner_first in ((landmarks[17:22], False), (landmarks[22:27], True)):
        distance, along = near_curve(place, points[:, :2].astype(np.float32))
        along = along if inner_first else 1 - along  # 0 at the nose
        half = look.brow_thickness * (0.75 + 0.5 * ramp(0, 0.3, along)) * (1 - 0.75 * ramp(0.55, 1, along))
        cover = ramp(1.3, 0.2, distance / half + 0.5 * hairs)
        _blend(front, look.brow_colour, cover * facing * look.brow_density)


def paint_patches(look: Look) -> np.ndarray:
    """(PATCH_ROWS, COLUMNS, 4) display colours and alpha of eyes, teeth, tongue, mouth lining and lashes."""
    rng = np.random.default_rng(look.seed + 1)
    patches = np.ones((PATCH_ROWS, COLUMNS, 4), np.float32)

    def patch(name):
        return patches[:, PATCHES[name] * PATCH : (PATCHES[name] + 1) * PATCH]

    for side in ("left_eye", "right_eye"):
        patch(side)[..., :3] = _paint_eye(look, rng)
    for side in ("upper_teeth", "lower_teeth"):
        patch(side)[..., :3] = _paint_teeth(look, rng)
    bumps = noise(rng, PATCH, PATCH, (30, 30, 0.04), (6, 6, 0.05))[..., None]
    patch("tongue")[..., :3] = np.array([0.68, 0.33, 0.33]) * (1 + bumps)
    patch("lining")[..., :3] = np.array([0.42, 0.15, 0.15]) * (1 + bumps)
    patch("gums")[..., :3] = np.array([0.66, 0.34, 0.33]) * (1 + bumps)
    blotches = 1 + look.mottling * noise(rng, PATCH, PATCH, (5, 5, 0.03), (40, 40, 0.02))[..., None]
    patch("ears")[..., :3] = np.asarray(look.tone) * np.array([1.0, 0.93, 0.92]) * blotches
    if look.glasses:
        patch("frames")[..., :3] = look.glasses.colour
    if look.hat:
        knit = 1 + noise(rng, PATCH, PATCH, (8, 8, 0.06), (40, 90, 0.12))[..., None]
        patch("hat")[..., :3] = np.asarray(look.hat.colour) * knit
    hairs = noise(rng, PATCH, PATCH, (3, 60, 1.0))
    tip = np.linspace(0, 1, PATCH, dtype=np.float32)[:, None]
    dark = 0.35 + 0.55 * look.lashes  # a lash is finer than a pixel: the skin behind it shows
    patch("lashes")[..., :3] = 0.06 * dark + 0.6 * np.asarray(look.tone) * (1 - dark)
    patch("lashes")[..., 3] = hairs > 4.5 * (tip - 0.15 - 0.45 * look.lashes)
    return np.clip(patches, 0, 1)


def _paint_eye(look: Look, rng) -> np.ndarray:
    down, across = (np.mgrid[:PATCH, :PATCH].astype(np.float32) - (PATCH - 1) / 2) * (2 * EYE_PATCH_REACH / PATCH)
    radius, angle = np.hypot(across, down), np.arctan2(down, across)
    iris = np.sin(np.radians(look.iris_size))
    white = np.array([0.93, 0.91, 0.90]) - 0.10 * ramp(0.5, 1, radius)[..., None] * np.array([0.3, 1, 1])
    veins = ramp(0.8, 2, noise(rng, PATCH, PATCH, (14, 22, 1))) * ramp(0.5, 0.9, radius) * 0.2
    eye = white * (1 - veins[..., None] * np.array([0.1, 0.7, 0.7]))
    rays = cv2.remap(
        noise(rng, 8, 64, (4, 40, 0.3)), ((angle / np.pi + 1) * 31.5).astype(np.float32), radius * 10, cv2.INTER_LINEAR
    )
    inside = radius / iris
    fibre = np.asarray(look.iris) * ((0.85 + 0.55 * ramp(0.35, 0.9, inside)) * (1 + rays))[..., None]
    fibre *= (1 - rng.uniform(0.3, 0.75) * ramp(rng.uniform(0.7, 0.86), 1.0, inside))[..., None]  # the limbal ring
    eye += ramp(1.04, 0.96, inside)[..., None] * (fibre - eye)
    pupil = rng.uniform(0.34, 0.46)
    eye += ramp(pupil + 0.06, pupil, inside)[..., None] * (np.array([0.015, 0.015, 0.02]) - eye)
    return eye


def _paint_teeth(look: Look, rng) -> np.ndarray:
    """Across: around the arch; down: from the root to the edge (`HeadMesh.teeth`)."""
    down, across = np.mgrid[:PATCH, :PATCH].astype(np.float32) / PATCH
    position = across * ARCH_TEETH
    own = rng.uniform(0.93, 1.03, ARCH_TEETH)[position.astype(int)]  # no two are quite alike
    teeth = np.asarray(look.teeth) * (own * (1 + noise(rng, PATCH, PATCH, (6, 14, 0.03))))[..., None]
    teeth *= 1 - 0.18 * ramp(0.75, 0.3, down)[..., None] * np.array([0.1, 0.35, 1.0])  # yellower towards the gum
    gaps = 1 - np.abs(position % 1 - 0.5) * 2  # 0 between two teeth, 1 in their middle
    teeth *= (1 - 0.14 * (1 - gaps) ** 2)[..., None]  # rounded
    corners = 0.15 + 0.3 * ramp(0.88, 1.0, down)  # gaps widen where the edges' corners are rounded
    teeth = teeth * (1 - (0.22 + 0.4 * look.gap) * ramp(corners, 0.0, gaps))[..., None]
    gum = ramp(GUM + 0.03, GUM - 0.05, down + 0.06 * np.cos(gaps * np.pi))
    return teeth + gum[..., None] * (np.array([0.62, 0.32, 0.31]) - teeth)
