"""A person ready to be drawn: the dressed surface, how it moves, and its texture, without what a scene changes.

The neck bends between the moving head and a nearly still torso.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .hair import Shell, grow_beard, grow_hair, put_on_clothes, put_on_glasses, put_on_hat
from .heads import ARCH_TEETH, PARTS, Identity
from .rasteriser import SHEET, SHELL, SOLID, move_vertices, pose_vertices, rasterise, vertex_normals
from .skin import (
    CLOTHES_ROWS,
    CLOTHES_TOP,
    COLUMNS,
    EYE_PATCH_REACH,
    HAIR_ROWS,
    HAIR_TOP,
    PATCH,
    PATCH_TOP,
    PATCHES,
    SKIN_ROWS,
    TEXTURE_ROWS,
    capsule,
    map_texels,
    paint_patches,
    paint_skin,
    ramp,
    unwrap,
)

TORSO_SHARE = 0.5  # how much of the head's translation the shoulders follow
SHADOW_REACH = 1.7  # picture units that a depth picture covers to each side

MASKS = ("background", "skin", "lips", "teeth", "inner_mouth", "eyes", "hair", "clothes", "glasses", "hat")
"""What a pixel can show. Brows and lashes are skin, beards are hair."""

# Surface by mesh group: highlight strength, highlight exponent, softness of the terminator
_SURFACES = {
    "skin": (1.0, 14.0, 0.35),  # its strength is the look's own gloss
    "eye": (0.9, 160.0, 0.1),
    "wet": (0.25, 40.0, 0.6),
    "hair": (0.10, 16.0, 0.3),
    "cloth": (0.0, 1.0, 0.15),
    "matt": (0.0, 1.0, 0.2),
    "frames": (0.5, 40.0, 0.1),
}
_PART_SURFACES = {
    "left_eye": "eye", "right_eye": "eye", "upper_teeth": "wet", "lower_teeth": "wet", "tongue": "wet", "gums": "wet",
    "lining": "wet", "lashes": "matt",
}  # fmt: skip
_PART_MASKS = {
    "skin": "skin", "lashes": "skin", "left_eye": "eyes", "right_eye": "eyes", "lining": "inner_mouth",
    "upper_teeth": "teeth", "lower_teeth": "teeth", "gums": "inner_mouth", "tongue": "inner_mouth",
}  # fmt: skip
_INSIDE_MOUTH = ("upper_teeth", "lower_teeth", "tongue", "gums", "lining")


@dataclass
class Surface:
    """The face_kinds and solids of a dressed person, and how they move.

    vertices (V,3) at rest, the head's W before the others; basis (52,W,3) displacement per unit of ARKit; faces (F,3)
    int32, clockwise as seen from outside; kind (F,) uint8 and uv (F,3,2), places in the texture, as `rasterise` takes
    them; mask (F,) uint8, the place in `MASKS`; follow (V,): share of the head's motion; lips (V,) and tongue (V,):
    share of a vertex in the lips, and of the tip's motion when the tongue is raised; ridge (3,): where behind the upper
    teeth the tip touches; plane: depth of the face; riders (n,2): vertices beyond the head's, and those of the head
    with which they move when the face does.
    """

    vertices: np.ndarray
    basis: np.ndarray
    faces: np.ndarray
    kind: np.ndarray
    uv: np.ndarray
    mask: np.ndarray
    follow: np.ndarray
    lips: np.ndarray
    tongue: np.ndarray
    ridge: np.ndarray
    plane: float
    riders: np.ndarray

    @cached_property
    def _reach(self) -> np.ndarray:
        """(52,2) from which to which vertex a unit moves any."""
        moves = np.asarray(self.basis.any(2))
        first = moves.argmax(1)
        return np.stack([first, np.where(moves.any(1), moves.shape[1] - moves[:, ::-1].argmax(1), first)], 1)

    def pose(self, arkit, rotation, translation, tongue: float = 0.0) -> np.ndarray:
        """Vertices (V,3) in a pose: arkit (52,), rotation (3,3) and translation (3,) of the head, and how far the
        tongue is raised, 0 at rest to 1 at the ridge behind the upper teeth."""
        arkit = np.asarray(arkit, np.float32)
        translation = np.asarray(translation, np.float32)
        used = np.flatnonzero(arkit)
        moved = move_vertices(self.vertices, self.basis, self._reach, used, arkit[used])
        if len(self.riders):
            rider, carrier = self.riders.T
            moved[rider] += moved[carrier] - self.vertices[carrier]
        if tongue > 0:
            tip = moved[self.tongue.argmax()]
            lift = np.clip(self.ridge - tip, [0, -1, 0], [0, 0, 0.1]).astype(np.float32)  # y is down
            moved += (np.float32(tongue) * self.tongue)[:, None] * lift
        rotation = np.ascontiguousarray(rotation, np.float32)
        return pose_vertices(moved, self.follow, rotation, translation, np.float32(TORSO_SHARE) * translation)


class Figure:
    """Everything about a person's pictures that is the same in all scenes.

    surface; texture (TEXTURE_ROWS, COLUMNS, 3) uint8 and solid (TEXTURE_ROWS, COLUMNS) bool, whose rows of clothes are
    the scene's; gloss (F,2) and softness (F,) as `rasteriser.shade` takes them; openness (V,) to ambient light;
    behind_lips: how far behind the lips the vertices `inside_mouth` are, picture units. Faces that cast a shadow come
    before `casters`, those that show between closed lips before `shut`.
    """

    surface: Surface
    casters: int
    shut: int

    def __init__(self, identity: Identity):
        self.identity = identity
        texels = map_texels(identity)
        shells, hair, on_scalp = grow_hair(identity, texels)
        beard = grow_beard(identity, texels, hair)
        texture = np.ones((TEXTURE_ROWS, COLUMNS, 4), np.float32)
        skin = paint_skin(identity, texels)
        texture[:SKIN_ROWS, :, :3] = skin + on_scalp[..., None] * (np.float32(0.85) * hair[..., :3] - skin)
        texture[HAIR_TOP : HAIR_TOP + HAIR_ROWS] = hair
        texture[PATCH_TOP:] = paint_patches(identity.look)
        texture[CLOTHES_TOP : CLOTHES_TOP + CLOTHES_ROWS, :, 3] = 0  # the neck is bare until a scene dresses it
        self.texture, self.solid = as_texels(texture)

        dress = [(shell, "hair", "hair") for shell in shells + beard]
        dress.append((put_on_clothes(identity), "cloth", "clothes"))
        if identity.look.hat:
            dress.append((put_on_hat(identity, texels, identity.look.hat), "cloth", "hat"))
        if identity.look.glasses:
            dress.append((put_on_glasses(identity, identity.look.glasses), "frames", "glasses"))
        self._assemble(dress)
        self.openness = self._ambient_openness()

    def _assemble(self, dress: list[tuple[Shell, str, str]]) -> None:
        """Head and shells as one surface, in the order that faces are drawn."""
        identity = self.identity
        mesh, vertices = identity.mesh, identity.vertices
        uv, gloss, softness = self._unwrap_head()
        mask = np.array([MASKS.index(_PART_MASKS[part]) for part in PARTS], np.uint8)[mesh.part]
        kinds = np.where(mesh.is_part("lashes"), SHEET, SOLID).astype(np.uint8)
        # The sockets of the eyes are lined, too.
        socket = mesh.is_part("lining") & (vertices[mesh.faces, 1].mean(1) < identity.landmarks[30, 1])
        mask[socket] = MASKS.index("eyes")
        groups = [mesh.is_part("skin"), mesh.is_part("left_eye", "right_eye", "lashes", "lining")]
        groups.append(~np.logical_or(*groups))
        order = [np.flatnonzero(group) for group in groups]

        head = [[array[chosen] for chosen in order] for array in (mesh.faces, kinds, uv, mask, gloss, softness)]
        faces, face_kinds, uvs, masks, glosses, softs = [[group[0]] for group in head]
        all_vertices = [vertices]
        riders = [np.zeros((0, 2), np.int32)]
        for shell, stuff, shown in dress:
            strength, exponent, soft = _SURFACES[stuff]
            count = len(shell.faces)
            faces.append(shell.faces + np.int32(sum(map(len, all_vertices))))
            if shell.rider is not None:
                own = sum(map(len, all_vertices)) + np.arange(len(shell.vertices))
                riders.append(np.stack([own, shell.rider], 1).astype(np.int32))
            all_vertices.append(shell.vertices)
            face_kinds.append(np.full(count, SHEET if shell.hollow else SHELL, np.uint8))
            uvs.append(shell.uv)
            masks.append(np.full(count, MASKS.index(shown), np.uint8))
            glosses.append(np.tile(np.array([strength, exponent], np.float32), (count, 1)))
            softs.append(np.full(count, soft, np.float32))
        self.casters = sum(map(len, faces))
        self.shut = self.casters + len(order[1])
        for parts, group in zip((faces, face_kinds, uvs, masks, glosses, softs), head, strict=True):
            parts += group[1:]
        self.gloss, self.softness = np.concatenate(glosses), np.concatenate(softs)
        placed = np.concatenate(all_vertices).astype(np.float32)

        beyond = np.zeros(len(placed) - len(vertices), np.float32)
        tongue = np.zeros(len(placed), np.float32)
        members = mesh.vertices_of("tongue")
        if len(members):
            depth = vertices[members, 2]
            forwards = (depth - depth.min()) / (np.ptp(depth) + 1e-6)
            tongue[members] = 0.98 * ramp(0.1, 0.75, forwards) + 0.02 * forwards  # the tip alone is 1
        edge = identity.arches[11]  # where the two middle teeth of the upper arch meet
        self.surface = Surface(
            vertices=placed,
            basis=np.ascontiguousarray(identity.basis, np.float32),
            faces=np.ascontiguousarray(np.concatenate(faces), np.int32),
            kind=np.concatenate(face_kinds),
            uv=np.ascontiguousarray(np.concatenate(uvs), np.float32),
            mask=np.concatenate(masks),
            follow=self._head_share(placed),
            lips=np.concatenate([mesh.lips.astype(np.float32), beyond]),
            tongue=tongue,
            ridge=(edge + [0, 0.025, -0.04]).astype(np.float32),
            plane=identity.face_plane,
            riders=np.concatenate(riders),
        )

    def _unwrap_head(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the mesh's faces: texture coordinates (F,3,2), gloss (F,2), softness (F,)."""
        mesh, vertices, look = self.identity.mesh, self.identity.vertices, self.identity.look
        column, row, _ = capsule(vertices)
        faces = mesh.faces
        uv = unwrap(column, row, faces)
        strength, exponent, soft = _SURFACES["skin"]
        gloss = np.tile(np.array([strength * look.gloss, exponent], np.float32), (len(faces), 1))
        softness = np.full(len(faces), soft, np.float32)

        def assign(chosen, part, surface, place):
            """Give faces a patch: `place` (V,2) in [0, 1] across and down it."""
            corner = np.array([PATCHES[part] * PATCH, PATCH_TOP], np.float32) + 1
            uv[chosen] = corner + np.clip(place, 0, 1)[faces[chosen]] * (PATCH - 3)
            strength, exponent, soft = _SURFACES[surface]
            gloss[chosen] = (strength * (look.gloss if surface == "skin" else 1), exponent)
            softness[chosen] = soft

        lid_margin = self.identity.landmarks[36:48]
        for part, surface in _PART_SURFACES.items():
            members = mesh.vertices_of(part)
            if not len(members):
                continue
            low, span = vertices[members].min(0), np.ptp(vertices[members], axis=0) + 1e-6
            place = (vertices - low)[:, :2] / span[:2]
            if surface == "eye":  # the iris sits on the pupil keypoint
                pupil = self.identity.named_keypoints[f"pupil_{part.removesuffix('_eye')}"]
                place = 0.5 + (vertices - pupil)[:, :2] / (EYE_PATCH_REACH * span[0])
            elif part in ("upper_teeth", "lower_teeth"):
                place = mesh.teeth / [ARCH_TEETH, 1] + [0.5, 0]
            elif part in ("lining", "gums"):
                place = vertices[:, :2] * 2 % 1
            elif part == "lashes":
                lashes = vertices[members]
                inwards = np.abs(lashes[:, 0]) - np.abs(lashes[:, 0]).min()
                from_lid = np.min(np.linalg.norm(lashes[:, None] - lid_margin, axis=-1), axis=1) / 0.06
                place[members] = np.stack([inwards / np.ptp(np.abs(lashes[:, 0])), from_lid], 1)
            assign(mesh.is_part(part), part, surface, place)
        ears = mesh.is_part("skin") & (mesh.ears > 0.5)[faces].all(1)
        assign(ears, "ears", "skin", vertices[:, [2, 1]] * 1.5 + 0.5)
        return uv, gloss, softness

    def _head_share(self, vertices: np.ndarray) -> np.ndarray:
        """(V,) 1 where a vertex moves with the head, 0 on the torso, smooth along the neck."""
        below_chin = vertices[:, 1] - self.identity.landmarks[8, 1] - 0.03
        down_the_neck = ramp(0.0, 0.36, below_chin)
        onto_the_shoulders = ramp(0.0, 0.15, below_chin) * ramp(0.36, 0.56, np.abs(vertices[:, 0]))
        return (1 - np.maximum(down_the_neck, onto_the_shoulders)).astype(np.float32)

    def _ambient_openness(self, directions: int = 40, size: int = 160) -> np.ndarray:
        """(V,) share of the surroundings that light can come from, from depth pictures taken all around; 1 inside the
        mouth, where it depends on the scene."""
        surface, mesh, landmarks = self.surface, self.identity.mesh, self.identity.landmarks
        vertices, head = surface.vertices, len(self.identity.vertices)
        normals = vertex_normals(vertices, surface.faces)
        seen, total = np.zeros(len(vertices), np.float32), np.full(len(vertices), 1e-6, np.float32)
        golden = np.pi * (3 - np.sqrt(5))
        casters = slice(self.casters)
        for i in range(directions):
            up = 1 - 2 * (i + 0.5) / directions
            flat = np.sqrt(1 - up * up)
            towards = np.array([flat * np.cos(i * golden), up, flat * np.sin(i * golden)], np.float32)
            if towards[2] < -0.3:
                continue  # light from behind hardly reaches what the camera sees
            points = vertices @ look_along(towards).T
            xy = (points[:, :2] / np.float32(SHADOW_REACH) * np.float32(0.5) + np.float32(0.5)) * np.float32(size)
            nearness = np.ascontiguousarray(points[:, 2])
            depth = rasterise(
                xy, nearness, surface.faces[casters], surface.kind[casters], surface.uv[casters], self.solid,
                size, size,
            )[2]  # fmt: skip
            column, row = np.clip(xy.round().astype(np.int32), 0, size - 1).T
            lambert = np.maximum(normals @ towards, 0)
            total += lambert
            seen += lambert * (nearness > depth[row, column] - np.float32(0.03))
        openness = (0.3 + 0.7 * np.clip(1.15 * seen / total, 0, 1)).astype(np.float32)

        inside = np.zeros(len(vertices), bool)
        inside[mesh.vertices_of(*_INSIDE_MOUTH)] = True
        lips = np.zeros(len(vertices), bool)
        lips[:head] = mesh.lips > 0.5
        openness = np.where(lips, np.maximum(openness, 0.5), openness)
        self.inside_mouth = np.flatnonzero(inside)
        self.behind_lips = np.maximum(landmarks[[51, 57], 2].mean() - vertices[self.inside_mouth, 2] - 0.09, 0)
        return np.where(inside, 1, openness).astype(np.float32)


def as_texels(texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h,w,3) uint8 and what is not cut out (h,w) bool, of a texture (h,w,4) in display values."""
    colours = np.clip(texture[..., :3], 0, 1)
    colours *= 255
    colours += 0.5
    return colours.astype(np.uint8), texture[..., 3] > 0.5


def look_along(towards: np.ndarray) -> np.ndarray:
    """Rotation (3,3) whose last row is the unit vector `towards`: seen from there, its third coordinate is nearness."""
    side = np.cross(np.array([0.0, 1.0, 0.0]) if abs(towards[1]) < 0.95 else np.array([1.0, 0.0, 0.0]), towards)
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(towards, side), towards]).astype(np.float32)
