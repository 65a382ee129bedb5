"""Clips of one rendered person: `ClipRenderer(identity).frame(arkit, rotation, translation)`.

The camera is orthographic, so labels and pictures agree exactly (`heads.clip_labels`). The neck bends between the
moving head and a nearly still torso.
"""

import cv2
import numpy as np

from .hair import Shell, cut_clothes, grow_hair
from .heads import FRAME, KEYPOINT_NAMES, KEYPOINT_VERTICES, LANDMARKS_68, HeadAssets, Identity, Motion, head_rotation
from .looks import Scene
from .rasteriser import rasterise, shade, shadow_test, vertex_normals
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
    inner_mouth_faces,
    map_texels,
    noise,
    paint_patches,
    paint_skin,
    ramp,
    unwrap,
)

SUPERSAMPLING = 2
SHADOW_SIZE = 224  # pixels of the key light's depth picture
SHADOW_REACH = 1.7  # picture units it covers to each side
TORSO_SHARE = 0.5  # how much of the head's translation the shoulders follow

# Surface by mesh group: highlight strength, highlight exponent, softness of the terminator
_SURFACES = {
    "skin": (1.0, 14.0, 0.35),  # its strength is the look's own gloss
    "eye": (0.9, 160.0, 0.1),
    "wet": (0.25, 40.0, 0.6),
    "hair": (0.10, 16.0, 0.3),
    "cloth": (0.0, 1.0, 0.15),
    "matt": (0.0, 1.0, 0.2),
}
_GROUP_PARTS = {
    "helper-l-eye": ("left_eye", "eye"),
    "helper-r-eye": ("right_eye", "eye"),
    "helper-upper-teeth": ("upper_teeth", "wet"),
    "helper-lower-teeth": ("lower_teeth", "wet"),
    "helper-tongue": ("tongue", "wet"),
}
_UPPER_LASHES = ("helper-l-eyelashes-2", "helper-r-eyelashes-2")
_NOT_SHOWN = ("helper-hair", "helper-l-eyelashes-1", "helper-r-eyelashes-1")  # lower lashes are finer than a pixel


class ClipRenderer:
    """Paints a person once, then renders any number of frames.

    identity: the person. scene: place, light, clothes and camera; the identity's own when None.
    """

    def __init__(self, identity: Identity, scene: Scene | None = None):
        self.identity = identity
        self.scene = scene = identity.scene if scene is None else scene
        assets = HeadAssets.load()
        texels = map_texels(identity)

        shells, hair, on_scalp = grow_hair(identity, texels)
        clothes, cloth = cut_clothes(identity, scene)
        texture = np.ones((TEXTURE_ROWS, COLUMNS, 4), np.float32)
        skin = paint_skin(identity, texels)
        texture[:SKIN_ROWS, :, :3] = skin + on_scalp[..., None] * (0.85 * hair[..., :3] - skin)
        texture[HAIR_TOP : HAIR_TOP + HAIR_ROWS] = hair
        texture[CLOTHES_TOP : CLOTHES_TOP + CLOTHES_ROWS] = cloth
        texture[PATCH_TOP:] = paint_patches(identity.look)
        self._texture = (np.clip(texture[..., :3], 0, 1) * 255 + 0.5).astype(np.uint8)
        self._solid = texture[..., 3] > 0.5

        self._faces: np.ndarray
        self._build_head(assets)
        self._vertices = identity.vertices
        self._head_vertices = len(identity.vertices)
        for shell in shells:
            self._add_shell(shell, "hair")
        if clothes is not None:
            self._add_shell(clothes, "cloth")
        self._faces = np.ascontiguousarray(self._faces)
        self._follow = self._head_share(self._vertices)[:, None]
        self._openness = self._ambient_openness()
        self._background = self._upscale(paint_background(scene)) ** 2
        self._colours = tuple(np.asarray(c, np.float32) for c in (scene.light_colour, scene.sky, scene.ground))
        self._light = np.asarray(scene.light, np.float32)
        self._light_view = _look_along(self._light)
        grain = np.random.default_rng(scene.seed).standard_normal((FRAME, FRAME, 3), dtype=np.float32)
        self._grain = np.float32(scene.noise) * grain

    def frame(self, arkit, rotation, translation, frame_seed: int = 0) -> np.ndarray:
        """One picture (256,256,3) uint8 RGB.

        arkit (52,), rotation (3,3) and translation (3,) of the head; frame_seed changes the sensor noise alone.
        """
        return self.frame_with_mask(arkit, rotation, translation, frame_seed)[0]

    def frame_with_mask(self, arkit, rotation, translation, frame_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The picture and the person's silhouette (256,256) bool."""
        posed = self._pose(arkit, np.asarray(rotation, np.float32), np.asarray(translation, np.float32))
        size = FRAME * SUPERSAMPLING
        xy = (posed[:, :2] + 1) * np.float32(size / 2) - np.float32(0.5)
        depth_values = np.ascontiguousarray(posed[:, 2])
        triangle, weights, _ = self._rasterise(xy, depth_values, size)
        lit = self._shadows(posed, triangle, weights)
        picture = shade(  # type: ignore[call-arg]  # numba's annotations know no such call
            triangle, weights, self._faces, self._uv, vertex_normals(posed, self._faces), self._openness_when(posed),
            self._gloss, self._softness, self._texture, self._light, *self._colours, lit, self._background,
        )  # fmt: skip
        covered = cv2.resize((triangle >= 0).astype(np.float32), (FRAME, FRAME), interpolation=cv2.INTER_AREA)
        return self._develop(picture, frame_seed), covered > 0.5

    def clip(self, motion: Motion) -> np.ndarray:
        """All pictures of a motion: (T,256,256,3) uint8 RGB."""
        rotations = head_rotation(motion.yaw, motion.pitch, motion.roll)
        steps = zip(motion.arkit, rotations, motion.translation, strict=True)
        return np.stack([self.frame(*step, frame_seed=i) for i, step in enumerate(steps)])

    def _build_head(self, assets: HeadAssets) -> None:
        vertices, look = self.identity.vertices, self.identity.look
        column, row, _ = capsule(vertices)
        faces = assets.faces
        uv = unwrap(column, row, faces)
        strength, exponent, soft = _SURFACES["skin"]
        gloss = np.tile(np.array([strength * look.gloss, exponent], np.float32), (len(faces), 1))
        softness = np.full(len(faces), soft, np.float32)
        sheet = np.zeros(len(faces), bool)

        def assign(chosen, part, surface, place):
            """Give faces a patch: `place` (V,2) in [0, 1] across and down it."""
            corner = np.array([PATCHES[part] * PATCH, PATCH_TOP], np.float32) + 1
            uv[chosen] = corner + np.clip(place, 0, 1)[faces[chosen]] * (PATCH - 3)
            strength, exponent, soft = _SURFACES[surface]
            gloss[chosen] = (strength * (look.gloss if surface == "skin" else 1), exponent)
            softness[chosen] = soft

        for name, (part, surface) in _GROUP_PARTS.items():
            members = assets.group_vertices(name)
            chosen = assets.groups == assets.group_names.index(name)
            own = vertices[members]
            if surface == "eye":
                # The subject's right eye is on the picture's left. The iris sits on the pupil keypoint.
                side = "left" if name == "helper-r-eye" else "right"
                pupil = vertices[KEYPOINT_VERTICES[KEYPOINT_NAMES.index(f"pupil_{side}")]]
                place = 0.5 + (vertices - pupil)[:, :2] / (EYE_PATCH_REACH * np.ptp(own[:, 0]))
            else:
                low, span = own.min(0), np.ptp(own, axis=0) + 1e-6
                place = (vertices - low)[:, :2] / span[:2]
                if part == "lower_teeth":
                    place[:, 1] = 1 - place[:, 1]
            assign(chosen, part, surface, place)
        mouth = inner_mouth_faces(assets)
        assign(mouth, "mouth", "wet", np.stack([vertices[:, 0] * 2 + 0.5, vertices[:, 1] * 2], 1) % 1)
        assign((assets.masks["ears"] > 0.5)[faces].all(1), "ears", "skin", vertices[:, [2, 1]] * 1.5 + 0.5)
        lid_margin = self.identity.landmarks[36:48]
        for name in _UPPER_LASHES:
            chosen = assets.groups == assets.group_names.index(name)
            own = vertices[assets.group_vertices(name)]
            across = (vertices[:, 0] - own[:, 0].min()) / np.ptp(own[:, 0])
            from_lid = np.min(np.linalg.norm(vertices[:, None] - lid_margin, axis=-1), axis=1) / 0.06
            assign(chosen, "lashes", "matt", np.stack([across, from_lid], 1))
            sheet[chosen] = True

        keep = ~np.isin(assets.groups, [assets.group_names.index(name) for name in _NOT_SHOWN])
        self._faces, self._uv, self._sheet = faces[keep], np.ascontiguousarray(uv[keep]), sheet[keep]
        self._gloss, self._softness = gloss[keep], softness[keep]

    def _add_shell(self, shell: Shell, surface: str) -> None:
        strength, exponent, softness = _SURFACES[surface]
        count = len(shell.faces)
        self._faces = np.concatenate([self._faces, shell.faces + np.int32(len(self._vertices))])
        self._vertices = np.concatenate([self._vertices, shell.vertices])
        self._uv = np.concatenate([self._uv, shell.uv])
        self._sheet = np.concatenate([self._sheet, np.ones(count, bool)])
        self._gloss = np.concatenate([self._gloss, np.tile(np.array([strength, exponent], np.float32), (count, 1))])
        self._softness = np.concatenate([self._softness, np.full(count, softness, np.float32)])

    def _head_share(self, vertices: np.ndarray) -> np.ndarray:
        """(V,) 1 where a vertex moves with the head, 0 on the torso, smooth along the neck."""
        below_chin = vertices[:, 1] - self.identity.landmarks[8, 1] - 0.03
        down_the_neck = ramp(0.0, 0.36, below_chin)
        onto_the_shoulders = ramp(0.0, 0.15, below_chin) * ramp(0.36, 0.56, np.abs(vertices[:, 0]))
        return (1 - np.maximum(down_the_neck, onto_the_shoulders)).astype(np.float32)

    def _pose(self, arkit, rotation, translation) -> np.ndarray:
        vertices = self._vertices.copy()
        used = np.flatnonzero(arkit)
        if len(used):
            moved = np.tensordot(np.asarray(arkit, np.float32)[used], self.identity.basis[used], 1)
            vertices[: self._head_vertices] += moved
        head = vertices @ rotation.T + translation
        torso = vertices + np.float32(TORSO_SHARE) * translation
        return torso + self._follow * (head - torso)

    def _ambient_openness(self, directions: int = 40, size: int = 160) -> np.ndarray:
        """(V,) share of the surroundings that light can come from, from depth pictures taken all around."""
        vertices, faces = self._vertices, self._faces
        normals = vertex_normals(vertices, faces)
        seen, total = np.zeros(len(vertices)), np.full(len(vertices), 1e-6)
        golden = np.pi * (3 - np.sqrt(5))
        for i in range(directions):
            up = 1 - 2 * (i + 0.5) / directions
            flat = np.sqrt(1 - up * up)
            towards = np.array([flat * np.cos(i * golden), up, flat * np.sin(i * golden)], np.float32)
            if towards[2] < -0.3:
                continue  # light from behind hardly reaches what the camera sees
            view = _look_along(towards)
            points = vertices @ view.T
            xy = (points[:, :2] / SHADOW_REACH * 0.5 + 0.5) * size
            depth = self._rasterise(xy.astype(np.float32), np.ascontiguousarray(points[:, 2]), size)[2]
            column, row = np.clip(xy.round().astype(int), 0, size - 1).T
            lambert = np.maximum(normals @ towards, 0)
            total += lambert
            seen += lambert * (points[:, 2] > depth[row, column] - 0.03)
        openness = 0.3 + 0.7 * np.clip(1.15 * seen / total, 0, 1)

        # Inside the mouth it gets darker with the distance behind the lips, whether they are open or not.
        assets = HeadAssets.load()
        inside = np.zeros(len(vertices), bool)
        for name in ("helper-upper-teeth", "helper-lower-teeth", "helper-tongue"):
            inside[assets.group_vertices(name)] = True
        inside[np.unique(assets.faces[inner_mouth_faces(assets)])] = True
        lips = self.identity.vertices[[LANDMARKS_68[51], LANDMARKS_68[57]], 2].mean()
        depth_behind = lips - vertices[:, 2]
        openness = np.where(inside, np.clip(1.4 - depth_behind / 0.19, 0.02, 1.1), openness)
        self._inside_mouth = np.flatnonzero(inside)
        lips = np.zeros(len(vertices), bool)
        lips[: self._head_vertices] = assets.masks["lips"] > 0.5
        return np.where(lips & ~inside, np.maximum(openness, 0.5), openness).astype(np.float32)

    def _rasterise(self, xy, nearness, size: int):
        return rasterise(xy, nearness, self._faces, self._sheet, self._uv, self._solid, size, size)

    def _openness_when(self, posed: np.ndarray) -> np.ndarray:
        """Ambient openness of a pose: no light gets between closed lips."""
        upper, lower = posed[LANDMARKS_68[62]], posed[LANDMARKS_68[66]]
        openness = self._openness.copy()
        openness[self._inside_mouth] *= ramp(0.01, 0.06, np.linalg.norm(upper - lower)).astype(np.float32)
        return openness

    def _shadows(self, posed, triangle, weights) -> np.ndarray:
        points = posed @ self._light_view.T
        points[:, :2] = (points[:, :2] / SHADOW_REACH * 0.5 + 0.5) * SHADOW_SIZE
        points = np.ascontiguousarray(points, np.float32)
        xy, nearness = np.ascontiguousarray(points[:, :2]), np.ascontiguousarray(points[:, 2])
        light_depth = self._rasterise(xy, nearness, SHADOW_SIZE)[2]
        return shadow_test(triangle, weights, self._faces, points, light_depth, np.float32(0.045))

    @staticmethod
    def _upscale(picture: np.ndarray) -> np.ndarray:
        size = FRAME * SUPERSAMPLING
        return cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)

    def _develop(self, picture: np.ndarray, frame_seed: int) -> np.ndarray:
        """Linear supersampled light to an 8-bit photograph."""
        scene = self.scene
        picture = cv2.resize(picture, (FRAME, FRAME), interpolation=cv2.INTER_AREA)
        picture = np.sqrt(np.maximum(picture * np.float32(scene.exposure), 0))
        grey = picture.mean(-1, keepdims=True)
        picture = grey + np.float32(scene.saturation) * (picture - grey)
        picture = 0.5 + np.float32(scene.contrast) * (picture - 0.5)
        if scene.blur > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), scene.blur)
        if scene.noise > 0:
            shift = np.random.default_rng((scene.seed, frame_seed)).integers(0, FRAME, 2)
            picture = picture + np.roll(self._grain, tuple(shift), (0, 1))
        return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _look_along(towards: np.ndarray) -> np.ndarray:
    """Rotation (3,3) whose last row is the unit vector `towards`: seen from there, its third coordinate is nearness."""
    side = np.cross(np.array([0.0, 1.0, 0.0]) if abs(towards[1]) < 0.95 else np.array([1.0, 0.0, 0.0]), towards)
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(towards, side), towards]).astype(np.float32)


def paint_background(scene: Scene) -> np.ndarray:
    """(256,256,3) display colours behind the person."""
    rng = np.random.default_rng(scene.seed)
    colours = np.asarray(scene.background_colours, np.float32)
    down, across = np.mgrid[-1 : 1 : FRAME * 1j, -1 : 1 : FRAME * 1j].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + 0.5 * (across * np.cos(turn) + down * np.sin(turn)), 0, 1)[..., None]
    if scene.background == "plain":
        picture = np.broadcast_to(colours[0] * (0.9 + 0.1 * ramp), (FRAME, FRAME, 3)).copy()
    else:
        picture = colours[0] * (1 - ramp) + colours[1] * ramp
    if scene.background == "noise":
        for channel in range(3):
            picture[..., channel] += noise(rng, FRAME, FRAME, (5, 5, 0.15), (25, 25, 0.08), (110, 110, 0.05))
    elif scene.background == "leaves":  # overlapping discs of every size, like a crowd of objects
        for size in np.sort(rng.pareto(1.3, 260) * 5 + 3)[::-1]:
            colour = colours[rng.integers(len(colours))] * rng.uniform(0.5, 1.3)
            centre = tuple(int(c) for c in rng.integers(0, FRAME, 2))
            cv2.circle(picture, centre, int(min(size, 90)), tuple(float(c) for c in colour), -1, cv2.LINE_AA)
    elif scene.background == "shapes":
        for _ in range(rng.integers(4, 14)):
            corners = rng.integers(-40, FRAME + 40, (rng.integers(3, 6), 1, 2)).astype(np.int32)
            colour = colours[rng.integers(len(colours))] * rng.uniform(0.6, 1.2)
            cv2.fillPoly(picture, [corners], tuple(float(c) for c in colour), cv2.LINE_AA)
    elif scene.background == "room":  # walls, window or shelves: upright rectangles
        for _ in range(rng.integers(3, 10)):
            left, top = rng.integers(-40, FRAME, 2)
            width, height = rng.integers(15, 150), rng.integers(20, 220)
            colour = colours[rng.integers(len(colours))] * rng.uniform(0.6, 1.3)
            box = (int(left), int(top)), (int(left + width), int(top + height))
            cv2.rectangle(picture, *box, tuple(float(c) for c in colour), -1)
            cv2.rectangle(picture, *box, tuple(float(c) for c in colour * 0.6), int(rng.integers(1, 4)))
    picture += noise(rng, FRAME, FRAME, (60, 60, 0.008), (250, 250, 0.008))[..., None]
    if scene.background_blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), scene.background_blur)
    return np.clip(picture, 0, 1)
