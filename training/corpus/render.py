"""Clips of one rendered person: `ClipRenderer(identity).frame(arkit, rotation, translation)`.

Labels and pictures agree exactly (`heads.clip_labels`). The neck bends between the moving head and a nearly still
torso.
"""

import cv2
import numpy as np

from .hair import Shell, cut_clothes, grow_hair, put_on_glasses, put_on_hat
from .heads import FRAME, Identity, Motion, head_rotation, in_perspective
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
    map_texels,
    noise,
    paint_patches,
    paint_skin,
    ramp,
    unwrap,
)

SUPERSAMPLING = 1.5
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
    "frames": (0.5, 40.0, 0.1),
}
_PART_SURFACES = {
    "left_eye": "eye", "right_eye": "eye", "upper_teeth": "wet", "lower_teeth": "wet", "tongue": "wet", "gums": "wet",
    "lining": "wet", "lashes": "matt",
}  # fmt: skip
_INSIDE_MOUTH = ("upper_teeth", "lower_teeth", "tongue", "gums", "lining")


class ClipRenderer:
    """Paints a person once, then renders any number of frames.

    identity: the person. scene: place, light, clothes and camera; the identity's own when None. size: side of the
    pictures, 256 or more.
    """

    def __init__(self, identity: Identity, scene: Scene | None = None, size: int = FRAME):
        self.identity = identity
        self.size = size
        self.scene = scene = identity.scene if scene is None else scene
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
        self._build_head()
        self._vertices = identity.vertices
        self._head_vertices = len(identity.vertices)
        for shell in shells:
            self._add_shell(shell, "hair")
        if clothes is not None:
            self._add_shell(clothes, "cloth")
        if identity.look.hat:
            self._add_shell(put_on_hat(identity, texels, identity.look.hat), "cloth")
        if identity.look.glasses:
            self._add_shell(put_on_glasses(identity, identity.look.glasses), "frames")
        self._faces = np.ascontiguousarray(self._faces)
        self._follow = self._head_share(self._vertices)[:, None]
        self._openness = self._ambient_openness()
        self._background = self._upscale(paint_background(scene)) ** 2
        self._colours = tuple(np.asarray(c, np.float32) for c in (scene.light_colour, scene.ambient))
        self._light = np.asarray(scene.light, np.float32)
        self._light_view = _look_along(self._light)
        grain = np.random.default_rng(scene.seed).standard_normal((size, size, 3), dtype=np.float32)
        self._grain = np.float32(scene.noise) * grain
        down, across = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
        self._vignette = 1 - np.float32(scene.vignette) * (down**2 + across**2)[..., None]

    def frame(self, arkit, rotation, translation, frame_seed: int = 0) -> np.ndarray:
        """One picture (size,size,3) uint8 RGB.

        arkit (52,), rotation (3,3) and translation (3,) of the head; frame_seed changes the sensor noise alone.
        """
        return self.frame_with_mask(arkit, rotation, translation, frame_seed)[0]

    def frame_with_mask(self, arkit, rotation, translation, frame_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The picture and the person's silhouette (size,size) bool."""
        posed = self._pose(arkit, np.asarray(rotation, np.float32), np.asarray(translation, np.float32))
        size = round(self.size * SUPERSAMPLING)
        seen = in_perspective(posed, self.scene.distance, self.identity.face_plane)
        xy = (seen[:, :2] + 1) * np.float32(size / 2) - np.float32(0.5)
        depth_values = np.ascontiguousarray(posed[:, 2])
        triangle, weights, _ = self._rasterise(xy, depth_values, size)
        lit = self._shadows(posed, triangle, weights)
        picture = shade(  # type: ignore[call-arg]  # numba's annotations know no such call
            triangle, weights, self._faces, self._uv, vertex_normals(posed, self._faces), self._openness_when(posed),
            self._gloss, self._softness, self._texture, self._light, *self._colours, lit, self._background,
        )  # fmt: skip
        covered = (triangle >= 0).astype(np.float32)
        covered = cv2.resize(covered, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return self._develop(picture, frame_seed), covered > 0.5

    def clip(self, motion: Motion) -> np.ndarray:
        """All pictures of a motion: (T,size,size,3) uint8 RGB."""
        rotations = head_rotation(motion.yaw, motion.pitch, motion.roll)
        steps = zip(motion.arkit, rotations, motion.translation, strict=True)
        return np.stack([self.frame(*step, frame_seed=i) for i, step in enumerate(steps)])

    def _build_head(self) -> None:
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
            elif part == "lower_teeth":
                place[:, 1] = 1 - place[:, 1]
            elif part in ("lining", "gums"):
                place = vertices[:, :2] * 2 % 1
            elif part == "lashes":
                inwards = np.abs(vertices[:, 0]) - np.abs(vertices[members, 0]).min()
                from_lid = np.min(np.linalg.norm(vertices[:, None] - lid_margin, axis=-1), axis=1) / 0.06
                place = np.stack([inwards / np.ptp(np.abs(vertices[members, 0])), from_lid], 1)
            assign(mesh.is_part(part), part, surface, place)
        ears = mesh.is_part("skin") & (mesh.ears > 0.5)[faces].all(1)
        assign(ears, "ears", "skin", vertices[:, [2, 1]] * 1.5 + 0.5)
        self._faces, self._uv, self._sheet = faces, np.ascontiguousarray(uv), mesh.is_part("lashes")
        self._gloss, self._softness = gloss, softness

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
        mesh, landmarks = self.identity.mesh, self.identity.landmarks
        inside = np.zeros(len(vertices), bool)
        inside[mesh.vertices_of(*_INSIDE_MOUTH)] = True
        depth_behind = landmarks[[51, 57], 2].mean() - vertices[:, 2]
        openness = np.where(inside, np.exp(-np.maximum(depth_behind - 0.09, 0) / self.scene.mouth_light), openness)
        self._inside_mouth = np.flatnonzero(inside)
        lips = np.zeros(len(vertices), bool)
        lips[: self._head_vertices] = mesh.lips > 0.5
        return np.where(lips & ~inside, np.maximum(openness, 0.5), openness).astype(np.float32)

    def _rasterise(self, xy, nearness, size: int):
        return rasterise(xy, nearness, self._faces, self._sheet, self._uv, self._solid, size, size)

    def _openness_when(self, posed: np.ndarray) -> np.ndarray:
        """Ambient openness of a pose: no light gets between closed lips."""
        upper, lower = posed[self.identity.mesh.landmarks[[62, 66]]]
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

    def _upscale(self, picture: np.ndarray) -> np.ndarray:
        size = round(self.size * SUPERSAMPLING)
        return cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)

    def _develop(self, picture: np.ndarray, frame_seed: int) -> np.ndarray:
        """Linear supersampled light to an 8-bit photograph."""
        scene = self.scene
        picture = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        picture = np.sqrt(np.maximum(picture * np.float32(scene.exposure) * self._vignette, 0))
        grey = picture.mean(-1, keepdims=True)
        picture = grey + np.float32(scene.saturation * (scene.filter not in ("grey", "sepia"))) * (picture - grey)
        picture = 0.5 + np.float32(scene.contrast) * (picture - 0.5)
        if scene.filter == "sepia":
            picture = picture * np.array([1.0, 0.87, 0.70], np.float32)
        elif scene.filter == "faded":
            picture = 0.12 + 0.8 * picture
        elif scene.filter == "painted":
            shown = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
            picture = cv2.edgePreservingFilter(shown, sigma_s=12, sigma_r=0.25).astype(np.float32) / 255
        if scene.blur > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), scene.blur * self.size / FRAME)
        if scene.noise > 0:
            shift = np.random.default_rng((scene.seed, frame_seed)).integers(0, self.size, 2)
            picture = picture + np.roll(self._grain, tuple(shift), (0, 1))
        shown = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        if scene.jpeg:
            data = cv2.imencode(".jpg", shown[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg])[1]
            shown = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
        return shown


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
    slope = np.clip(0.5 + 0.5 * (across * np.cos(turn) + down * np.sin(turn)), 0, 1)[..., None]
    picture = colours[0] * (1 - 0.5 * slope) + 0.5 * colours[1] * slope

    def rectangle(place, size, colour, border: int = 0) -> None:
        (left, top), (width, height) = place, size
        box = (int(left), int(top)), (int(left + width), int(top + height))
        cv2.rectangle(picture, *box, tuple(float(c) for c in colour), -1)
        if border:
            cv2.rectangle(picture, *box, tuple(float(c) for c in colour * 0.6), border)

    def disc(centre, radius: float, colour) -> None:
        cv2.circle(picture, centre, max(int(radius), 1), tuple(float(c) for c in colour), -1, cv2.LINE_AA)

    if scene.background == "plain":
        picture = np.broadcast_to(colours[0] * (0.9 + 0.1 * slope), (FRAME, FRAME, 3)).copy()
    elif scene.background == "studio":  # a lamp on a paper wall
        centre = rng.uniform(-0.5, 0.5, 2)
        glow = np.exp(-((across - centre[0]) ** 2 + (down - centre[1]) ** 2) / rng.uniform(0.5, 2.0))[..., None]
        picture = colours[0] * (rng.uniform(0.25, 0.8) + rng.uniform(0.2, 0.8) * glow)
    elif scene.background == "noise":
        picture += noise(rng, FRAME, FRAME, (5, 5, 0.15), (25, 25, 0.06))[..., None]
        picture += np.stack([noise(rng, FRAME, FRAME, (8, 8, 0.04)) for _ in range(3)], -1)
    elif scene.background == "leaves":  # overlapping discs of every size, like a crowd of objects
        for size in np.sort(rng.pareto(1.3, 260) * 5 + 3)[::-1]:
            colour = colours[rng.integers(len(colours))] * rng.uniform(0.5, 1.3)
            disc(tuple(int(c) for c in rng.integers(0, FRAME, 2)), min(size, 90), colour)
    elif scene.background == "shapes":
        for _ in range(rng.integers(4, 14)):
            corners = rng.integers(-40, FRAME + 40, (rng.integers(3, 6), 1, 2)).astype(np.int32)
            colour = colours[rng.integers(len(colours))] * rng.uniform(0.6, 1.2)
            cv2.fillPoly(picture, [corners], tuple(float(c) for c in colour), cv2.LINE_AA)
    elif scene.background == "room":  # a wall with pictures, shelves with things, a window
        for _ in range(rng.integers(1, 6)):
            size = rng.integers(25, 150), rng.integers(30, 200)
            rectangle(rng.integers(-40, FRAME, 2), size, colours[rng.integers(6)] * rng.uniform(0.6, 1.2), 2)
        if rng.random() < 0.4:
            for shelf in range(int(rng.integers(10, 60)), FRAME, int(rng.integers(45, 90))):
                rectangle((-5, shelf), (FRAME + 10, 5), colours[2] * 0.5)
                left = -5.0
                while left < FRAME:
                    width, height = rng.uniform(5, 22), rng.uniform(15, 42)
                    rectangle((left, shelf - height), (width, height), colours[rng.integers(6)] * rng.uniform(0.4, 1.3))
                    left += width + (rng.uniform(5, 60) if rng.random() < 0.15 else 1)
        if rng.random() < 0.4:
            place, size = rng.integers(-60, 200, 2), rng.integers(60, 140, 2)
            rectangle(place, size, np.array([0.95, 0.97, 1.0]) * rng.uniform(0.8, 1.0), 3)
            rectangle((place[0] + size[0] // 2, place[1]), (3, size[1]), colours[3])
    elif scene.background == "lights":  # lamps out of focus, by night
        picture *= rng.uniform(0.1, 0.6)
        radius = rng.uniform(4, 18)
        for _ in range(rng.integers(8, 40)):
            glow = np.array([1.0, 0.85, 0.6]) * rng.uniform(0.5, 1) + 0.2 * colours[rng.integers(6)]
            layer = picture.copy()
            disc(tuple(int(c) for c in rng.integers(0, FRAME, 2)), radius * rng.uniform(0.7, 1.1), glow)
            picture = layer + rng.uniform(0.2, 0.8) * (picture - layer)
    elif scene.background == "outdoors":  # sky, hills or houses, leaves
        horizon = rng.uniform(-0.6, 0.5)
        sky = np.array([0.62, 0.78, 0.95]) * rng.uniform(0.7, 1.05) + 0.25 * (colours[0] - 0.5)
        picture = sky * (1 - 0.25 * (down[..., None] + 1) / 2) + noise(rng, FRAME, FRAME, (4, 6, 0.06))[..., None]
        green = np.array([0.30, 0.42, 0.20]) * rng.uniform(0.5, 1.3) + 0.2 * (colours[1] - 0.5)
        ridge = horizon + noise(rng, 1, FRAME, (2, 6, 0.12), (2, 40, 0.03))
        leaves = 1 + noise(rng, FRAME, FRAME, (12, 12, 0.2), (60, 60, 0.2), (120, 120, 0.15))[..., None]
        ground = ramp(-0.01, 0.01, down - ridge)[..., None]
        picture += ground * (green * leaves - picture)
        for _ in range(rng.integers(0, 5)):
            rectangle(rng.integers(-30, FRAME, 2), rng.integers(30, 110, 2), colours[rng.integers(6)], 1)
    picture = picture + noise(rng, FRAME, FRAME, (60, 60, 0.008), (250, 250, 0.008))[..., None]
    if scene.background_blur > 0:
        picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), scene.background_blur)
    return np.clip(picture, 0, 1)
