"""Hair, clothes, glasses and hats: thin shells around the head and torso, cut to shape by the alpha of their textures.

Hair is a height field in the capsule space of `skin`: a few nested shells follow the scalp at a distance that grows
with the hair's volume, and hang down freely where the hair is long. Strands come from the alpha and the streaks of the
texture, outlines from the volume. Clothes are the torso's own faces, pushed outwards and cut along a collar line.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .heads import Identity
from .looks import Glasses, Hair, Hat, Scene
from .rasteriser import vertex_normals
from .skin import (
    CAP_LEVEL,
    CLOTHES_ROWS,
    CLOTHES_TOP,
    COLUMNS,
    HAIR_ROWS,
    HAIR_TOP,
    PATCH,
    PATCH_TOP,
    PATCHES,
    SKIN_ROWS,
    TexelMap,
    beard_cover,
    capsule,
    capsule_point,
    noise,
    ramp,
    unwrap,
)

GRID_COLUMNS, GRID_ROWS = 72, 54
CLOTHES_REACH = 1.35  # half width in picture units that the clothes texture spans
CLOTHES_START = 0.25  # its first row, picture units


@dataclass
class Shell:
    """A sheet of the mesh: vertices (V,3), faces (F,3) int32, texture coordinates (F,3,2), if it can be seen from
    inside, and the vertex of the head (V,) that each moves with when the face does, none: it does not."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    hollow: bool = True
    rider: np.ndarray | None = None


def hair_level(rows: int = SKIN_ROWS) -> np.ndarray:
    """(rows,) height (y) of a texture row on an average head."""
    arc_rows = np.arange(rows, dtype=np.float32) * (SKIN_ROWS / rows)
    radius = np.full(rows, 0.74, np.float32)
    return capsule_point(np.full(rows, COLUMNS / 2), arc_rows, radius)[:, 1]


def hairline(identity: Identity) -> np.ndarray:
    """(COLUMNS,) height (y) down to which hair covers the head in every direction around its axis."""
    hair = identity.look.hair
    keypoints = identity.named_keypoints
    eyes = 0.5 * (keypoints["lid_upper_left"][1] + keypoints["lid_upper_right"][1])
    front = eyes - 0.57 - hair.hairline
    receded = front - hair.recession
    between = front - 0.25 * hair.recession
    if hair.length > 0:  # hangs over the ears; the face is framed between the temples
        low = 0.1 + hair.length
        nodes = [(0, front), (26, between), (42, receded), (56, front + 0.2), (66, eyes), (74, low), (180, low)]
    else:
        nodes = [(0, front), (26, between), (42, receded), (54, front + 0.2), (66, eyes - 0.12), (77, eyes + 0.13)]
        nodes += [(86, eyes + 0.1), (92, eyes - 0.2), (110, eyes - 0.12), (122, eyes + 0.3), (145, 0.36), (180, 0.38)]
    if hair.fringe > 0:
        nodes[:2] = [(0, front + hair.fringe), (34, front + hair.fringe)]
    angle = ((np.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) * 360
    swept = hair.sweep * np.tanh(angle / 20) * np.exp(-((angle / 55) ** 2))
    return (np.interp(np.abs(angle), *np.transpose(nodes)) + swept).astype(np.float32)


def grow_hair(identity: Identity, texels: TexelMap) -> tuple[list[Shell], np.ndarray, np.ndarray]:
    """Shells of the hair, its texture (HAIR_ROWS, COLUMNS, 4) in display colours, and how strongly hair colours the
    scalp's skin (SKIN_ROWS, COLUMNS)."""
    hair = identity.look.hair
    rng = np.random.default_rng(identity.look.seed + 2)
    level = hair_level()[:, None]
    edge = noise(rng, 1, COLUMNS, (2, 12, 0.02), (2, 40, 0.016), (2, 160, 0.016))
    inside = hairline(identity)[None] + edge - level
    strands = _strands(hair, rng)
    if hair.style == "buzz":  # too short to lie in any direction
        strands = noise(rng, HAIR_ROWS, COLUMNS, (200, 260, 0.35), (600, 800, 0.4))
    texture = np.ones((HAIR_ROWS, COLUMNS, 4), np.float32)
    depth = noise(rng, HAIR_ROWS, COLUMNS, (6, 10, 0.06))
    brightness = 1 + hair.streaks * strands + depth
    texture[..., :3] = np.asarray(hair.colour, np.float32) * np.clip(brightness, 0.3, 2.2)[..., None]
    softness = 0.03 + 0.05 * hair.curl + 0.12 * (hair.fringe > 0)
    # single hairs at the ends: what a texel covers in part, it covers in a part of the places
    ends = rng.uniform(-0.45, 0.45, inside.shape).astype(np.float32)
    texture[..., 3] = 0.5 + inside / softness + 0.9 * strands + ends * (inside < 1.5 * softness)
    if hair.style == "bald":
        return [], texture, np.zeros((SKIN_ROWS, COLUMNS), np.float32)
    on_skin = ramp(-0.02, 0.05, inside + 0.03 * strands) * (0.75 if hair.style == "buzz" else 1.0)
    if hair.length > 0:
        on_skin *= ramp(0.25, 0.1, level)  # neck and shoulders under long hair stay skin
    return _hair_shells(identity, texels, inside, rng), texture, on_skin.astype(np.float32)


def _strands(hair: Hair, rng: np.random.Generator) -> np.ndarray:
    """(HAIR_ROWS, COLUMNS) streaks along the hair, about -1 to 1; curls bend them until they are blotches."""
    straight = noise(rng, HAIR_ROWS, COLUMNS, (4, 60, 0.22), (8, 260, 0.36), (14, 620, 0.45))
    swing = 5 + 16 * hair.curl**2
    bend = noise(rng, HAIR_ROWS, COLUMNS, (6 + 40 * hair.curl, 8 + 30 * hair.curl, swing))
    down, across = np.mgrid[:HAIR_ROWS, :COLUMNS].astype(np.float32)
    streaks = cv2.remap(straight, (across + bend) % (COLUMNS - 1), down, cv2.INTER_LINEAR)
    if hair.curl > 0.6:
        streaks = 0.5 * streaks + noise(rng, HAIR_ROWS, COLUMNS, (70, 110, 0.35), (150, 220, 0.3))
    return streaks


def _hair_shells(identity: Identity, texels: TexelMap, inside: np.ndarray, rng) -> list[Shell]:
    hair = identity.look.hair
    size = (GRID_COLUMNS, GRID_ROWS)
    radius = texels.radius.copy()
    for row in range(SKIN_ROWS // 8 - 1, -1, -1):  # the few texels round the pole of the crown that nothing covers
        radius[row] = np.where(texels.covered[row], radius[row], radius[row + 1].mean())
    head = np.maximum(cv2.resize(radius, size, interpolation=cv2.INTER_AREA), 0.2)
    level = hair_level(GRID_ROWS)
    # The ears must not carry the hair outwards, and shoulders do not push it up: both are where radius changes fast.
    hull = cv2.GaussianBlur(np.tile(head, (1, 3)), (0, 0), 2.0)[:, GRID_COLUMNS : 2 * GRID_COLUMNS]
    hull = np.where(level[:, None] < CAP_LEVEL, np.maximum(hull, head), hull)
    hanging = hull.copy()
    for row in range(1, GRID_ROWS):
        if level[row] > CAP_LEVEL:
            fall = hanging[row - 1] - (0.004 if hair.length > 0 else 0.0)
            hanging[row] = np.clip(hull[row], fall, hanging[row - 1] + 0.006)
    base = np.where(level[:, None] > CAP_LEVEL, hanging, hull) if hair.length > 0 else hull

    depth_in = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
    thickness = hair.volume * ramp(-0.02, 0.22, depth_in)
    angle = ((np.arange(GRID_COLUMNS) + 0.5) / GRID_COLUMNS - 0.5) * 2 * np.pi
    if hair.style in ("short", "swept"):
        thickness *= 0.35 + 0.65 * ramp(0.1, -0.5, level)[:, None]  # clipped sides
    crown = ramp(-0.5, -0.9, level)[:, None]
    if hair.style in ("swept", "bob", "long"):
        groove = np.exp(-(((angle - hair.parting) / 0.16) ** 2))[None] * (np.cos(angle) > 0)
        thickness *= 1 - 0.6 * groove * crown
    clumps = noise(rng, GRID_ROWS, GRID_COLUMNS, (10, 16, 0.16), (24, 40, 0.12 + 0.2 * hair.curl))
    thickness *= np.clip(1 + clumps, 0.4, 1.8)
    thickness[:, -1] = thickness[:, 0]

    layers = 2 if hair.style == "buzz" else 3
    column, row = np.meshgrid(
        np.arange(GRID_COLUMNS, dtype=np.float32) * (COLUMNS / GRID_COLUMNS),
        np.arange(GRID_ROWS, dtype=np.float32) * (HAIR_ROWS / GRID_ROWS),
    )
    index = np.arange(GRID_ROWS * GRID_COLUMNS).reshape(GRID_ROWS, GRID_COLUMNS)
    right = np.roll(index, -1, axis=1)
    faces = np.concatenate([
        np.stack([index[:-1], right[:-1], index[1:]], -1).reshape(-1, 3),
        np.stack([right[:-1], right[1:], index[1:]], -1).reshape(-1, 3),
    ])  # fmt: skip
    hairy = (depth_in > -0.12).ravel()
    faces = faces[hairy[faces].any(1)].astype(np.int32)
    # The outermost sheet has no holes deep inside the hair, so that the others show through near the edges alone.
    near_edge = (depth_in < 0.16).ravel()[faces].any(1)
    uv = unwrap(column.ravel(), row.ravel(), faces, HAIR_TOP)
    shells = []
    for layer in range(layers):
        radius = base + 0.008 + (layer + 1) / layers * thickness
        shown = slice(None) if layer == layers - 1 else near_edge
        hangs = hair.length > 0 or hair.volume > 0.07  # else the head fills it
        shells.append(Shell(capsule_point(column, row, radius).reshape(-1, 3), faces[shown], uv[shown], hangs))
    return shells


def grow_beard(identity: Identity, texels: TexelMap, texture: np.ndarray) -> list[Shell]:
    """Shells of the beard, painted into the texture of the hair (HAIR_ROWS, COLUMNS, 4), which the face leaves free."""
    beard = identity.look.beard
    if beard is None:
        return []
    rng = np.random.default_rng(identity.look.seed + 5)
    mesh, vertices = identity.mesh, identity.vertices
    painted = beard_cover(texels.position, identity.landmarks, beard.shape) * (1 - ramp(0.1, 0.5, texels.lips))
    painted *= texels.position[..., 2] > 0
    strands = noise(rng, HAIR_ROWS, COLUMNS, (40, 420, 0.5), (16, 260, 0.3), (90, 500, 0.35))
    alpha = 0.5 + 2.2 * (painted - 0.45) + (1.25 - beard.density) * strands - 0.7 * (painted < 0.05)
    grown = (alpha > 0.5) & (painted > 0.05)
    shade = np.clip(1 + 0.4 * strands + noise(rng, HAIR_ROWS, COLUMNS, (20, 30, 0.12)), 0.35, 1.9)
    texture[grown, :3] = (np.asarray(beard.colour, np.float32) * shade[..., None])[grown]
    texture[grown, 3] = 1

    cover = beard_cover(vertices, identity.landmarks, beard.shape) * (vertices[:, 2] > 0) * (1 - mesh.lips)
    faces = mesh.faces[mesh.is_part("skin") & (cover[mesh.faces] > 0.05).any(1)]
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3).astype(np.int32)
    column, row, _ = capsule(vertices[used])
    uv = unwrap(column, row, faces, HAIR_TOP)
    normals = vertex_normals(vertices, mesh.faces)[used]
    mouth, jaw = identity.landmarks[48:60, 1].mean(), identity.landmarks[8, 1]
    longer = 0.3 + 0.7 * ramp(mouth, jaw, vertices[used, 1])  # at the chin
    reach = (beard.length * longer * ramp(0.05, 0.9, cover[used]))[:, None]
    shells = []
    for share in (0.3, 0.65, 1.0):
        hang = np.array([0, 0.75, 0], np.float32) * ramp(0.03, 0.2, reach)
        out = vertices[used] + normals * (0.006 + 0.7 * share * reach) + share * reach * hang
        shells.append(Shell(out.astype(np.float32), faces, uv, rider=used))
    return shells


def put_on_clothes(identity: Identity) -> Shell:
    """The torso's own faces, pushed outwards; their texture, `paint_clothes`, says where they end."""
    mesh = identity.mesh
    lowest = identity.vertices[mesh.faces][..., 1].max(1)
    chosen = mesh.is_part("skin") & (lowest > max(CLOTHES_START, identity.landmarks[8, 1] + 0.05))
    used, faces = np.unique(mesh.faces[chosen], return_inverse=True)
    faces = faces.reshape(-1, 3).astype(np.int32)
    normals = vertex_normals(identity.vertices, mesh.faces)[used]
    vertices = identity.vertices[used] + normals * np.float32(0.025)
    column = (vertices[:, 0] / CLOTHES_REACH * 0.5 + 0.5) * (COLUMNS - 1)
    row = (vertices[:, 1] - CLOTHES_START) / (2 * CLOTHES_REACH) * (COLUMNS - 1)
    uv = np.stack([np.clip(column, 0, COLUMNS - 2), np.clip(row, 0, CLOTHES_ROWS - 1) + CLOTHES_TOP], -1)[faces]
    return Shell(vertices.astype(np.float32), faces, uv.astype(np.float32))


def paint_clothes(chin: float, scene: Scene) -> np.ndarray:
    """Texture of a scene's clothes (CLOTHES_ROWS, COLUMNS, 4), on a person whose chin is at that height (y)."""
    rng = np.random.default_rng(scene.seed + 1)
    down, across = np.indices((CLOTHES_ROWS, COLUMNS), np.float32)
    x = (across / (COLUMNS - 1) * 2 - 1) * CLOTHES_REACH
    y = CLOTHES_START + down / (COLUMNS - 1) * 2 * CLOTHES_REACH
    texture = np.ones((CLOTHES_ROWS, COLUMNS, 4), np.float32)
    colours = np.asarray(scene.clothes_colours, np.float32)
    texture[..., :3] = colours[0]
    if scene.clothes_pattern in ("stripes", "checks"):
        pitch = rng.uniform(0.04, 0.16)
        texture[(y / pitch) % 1 < 0.4, :3] = colours[1]
        if scene.clothes_pattern == "checks":
            texture[(x / pitch) % 1 < 0.4, :3] *= 0.7
    elif scene.clothes_pattern == "blotches":
        blotch = noise(rng, CLOTHES_ROWS, COLUMNS, (10, 32, 1.0))
        texture[blotch > 0.4, :3] = colours[1]
        texture[blotch < -0.9, :3] = colours[2]
    folds = noise(rng, CLOTHES_ROWS, COLUMNS, (6, 16, 0.07), (80, 240, 0.03))
    texture[..., :3] *= (1 + folds)[..., None]

    neck = {"crew": chin + 0.28, "v": chin + 0.62, "wide": chin + 0.42, "high": chin + 0.1, "bare": 3.0}[scene.collar]
    width = {"crew": 0.36, "v": 0.42, "wide": 0.7, "high": 0.0, "bare": 0.0}[scene.collar]
    side = np.clip(1 - np.abs(x) / max(width, 1e-3), 0, 1)
    shape = side if scene.collar == "v" else np.sqrt(side)
    line = chin + 0.14 + (neck - chin - 0.14) * shape if width > 0 else np.full_like(x, neck)
    texture[..., 3] = 0.5 + (y - line) / 0.01
    rim = np.exp(-(((y - line - 0.02) / 0.02) ** 2)) * (scene.collar != "v")
    texture[..., :3] *= (1 - 0.35 * rim)[..., None]
    return texture


def put_on_glasses(identity: Identity, glasses: Glasses) -> Shell:
    """Two rims, a bridge and the temples, as ribbons before the face."""
    keypoints, landmarks = identity.named_keypoints, identity.landmarks
    front = max(keypoints["nose_bridge"][2], landmarks[17:27, 2].max()) + 0.03
    ears = landmarks[[0, 16]]
    turn = np.linspace(0, 2 * np.pi, 33)
    power = 2 / glasses.squareness
    shape = np.stack([np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power,
                      np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power], -1)  # fmt: skip
    size = np.array([glasses.width, glasses.height])
    ribbons = []

    def ribbon(one: np.ndarray, other: np.ndarray) -> None:
        """Between two lines (n, 2 or 3); in front of the face where they have no depth."""
        lines = []
        for line in (one, other):
            if line.shape[1] == 2:  # bent round the face a little
                line = np.column_stack([line, front - 0.18 * line[:, 0] ** 2])
            lines.append(line)
        ribbons.append(np.stack(lines))

    middles = [landmarks[eye, :2].mean(0) + [0, 0.02] for eye in (slice(36, 42), slice(42, 48))]
    for middle, ear, side in zip(middles, ears, (-1, 1), strict=True):
        ribbon(middle + shape * size, middle + shape * (size + glasses.thickness))
        hinge = np.array([middle[0] + side * (size[0] + glasses.thickness), middle[1] - 0.5 * size[1]])
        back = np.array([ear[0] + 0.06 * side, hinge[1], ear[2] - 0.1])
        start = np.array([*hinge, front - 0.18 * hinge[0] ** 2])
        arm = start + np.linspace(0, 1, 6)[:, None] * (back - start)
        ribbon(arm, arm + [0, max(glasses.thickness, 0.012), 0])
    left, right = (m[0] - s * size[0] for m, s in zip(middles, (-1, 1), strict=True))
    x = np.linspace(left, right, 7)
    y = np.mean([m[1] for m in middles]) - 0.25 * size[1] - 0.02 * np.sin(np.linspace(0, np.pi, 7))
    ribbon(np.column_stack([x, y]), np.column_stack([x, y + glasses.thickness]))

    vertices, faces, first = [], [], 0
    for lines in ribbons:
        n = lines.shape[1]
        i = first + np.arange(n - 1)
        faces += [np.stack([i, i + 1, i + n], -1), np.stack([i + 1, i + n + 1, i + n], -1)]
        vertices.append(lines.reshape(-1, 3))
        first += 2 * n
    index = np.concatenate(faces).astype(np.int32)
    middle = np.array([(PATCHES["frames"] + 0.5) * PATCH, PATCH_TOP + 0.5 * PATCH], np.float32)
    return Shell(np.concatenate(vertices).astype(np.float32), index, np.broadcast_to(middle, (len(index), 3, 2)).copy())


def put_on_hat(identity: Identity, texels: TexelMap, hat: Hat) -> Shell:
    """A cap from the crown down to its edge, over the hair."""
    columns, rows = 64, 16
    eyes = identity.landmarks[36:48, 1].mean()
    column = np.arange(columns + 1) * (COLUMNS / columns)
    angle = (column / COLUMNS - 0.5) * 2 * np.pi
    edge = eyes - hat.edge + 0.22 * (1 - np.cos(angle)) / 2 - hat.tilt * np.sin(angle)
    level = hair_level()
    last = np.interp(edge, level, np.arange(SKIN_ROWS))
    row = np.linspace(0.02, 1, rows)[:, None] * last
    radius = np.where(texels.covered, texels.radius, 0).astype(np.float32)
    radius = cv2.dilate(cv2.GaussianBlur(np.tile(radius, (1, 3)), (0, 0), 12), np.ones((25, 25)))[
        :, COLUMNS : 2 * COLUMNS
    ]
    column = np.broadcast_to(column, row.shape)
    own = radius[row.astype(int), np.minimum(column.astype(int), COLUMNS - 1)]
    bulge = hat.thickness + identity.look.hair.volume * 0.6
    vertices = capsule_point(column, row, np.maximum(own, 0.5) + bulge).reshape(-1, 3)
    index = np.arange(rows * (columns + 1)).reshape(rows, columns + 1)
    faces = np.concatenate([
        np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1]], -1).reshape(-1, 3),
        np.stack([index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1).reshape(-1, 3),
    ]).astype(np.int32)  # fmt: skip
    across, down = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows))
    place = np.stack([across.ravel(), down.ravel()], -1) * (PATCH - 4) + 2 + [PATCHES["hat"] * PATCH, PATCH_TOP]
    return Shell(vertices.astype(np.float32), faces, place[faces].astype(np.float32))
