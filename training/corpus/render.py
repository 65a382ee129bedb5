"""Clips of one rendered person: `ClipRenderer(identity).frame(arkit, rotation, translation)`.

Labels and pictures agree exactly (`heads.clip_labels`, `dense`).
"""

import cv2
import numpy as np

from ..data.files import through_video
from .figure import SHADOW_REACH, Figure, as_texels, look_along
from .hair import paint_clothes
from .heads import FRAME, Identity, Motion, arkit_weights, head_rotation
from .looks import Scene
from .rasteriser import (
    expose,
    pack_corners,
    project,
    quantise,
    rasterise,
    seen_from_light,
    shade,
    vertex_normals,
)
from .skin import CLOTHES_ROWS, CLOTHES_TOP, noise, ramp

SUPERSAMPLING = 1.5
SHADOW_SIZE = 224  # pixels of the key light's depth picture
_SHADOW_BIAS = np.float32(0.045)
_SEALED = 0.004  # lips that are nowhere further apart hide teeth and tongue, picture units
_INNER_LIPS = ((61, 67), (62, 66), (63, 65))
_TINTS = {"sepia": (1.0, 0.87, 0.70)}
_SPANS = {"faded": (0.12, 0.8)}  # darkest value, and how far the brightest is from it


class ClipRenderer:
    """Paints a person once, then renders any number of frames.

    identity: the person. scene: place, light, clothes and camera; the identity's own when None. size: side of the
    pictures, 256 or more. figure: the person's, where it is there already. ``clothes``: where the texture of the
    scene's clothes is not cut out.
    """

    def __init__(self, identity: Identity, scene: Scene | None = None, size: int = FRAME, figure: Figure | None = None):
        self.identity = identity
        self.size = size
        self.scene = scene = identity.scene if scene is None else scene
        self.figure = figure = Figure(identity) if figure is None else figure
        self.surface = figure.surface
        rows = slice(CLOTHES_TOP, CLOTHES_TOP + CLOTHES_ROWS)
        self._texture, self.solid = figure.texture.copy(), figure.solid.copy()
        self._texture[rows], self.solid[rows] = as_texels(paint_clothes(float(identity.landmarks[8, 1]), scene))
        self.clothes = self.solid[rows]

        # Inside the mouth it gets darker with the distance behind the lips, whether they are open or not.
        self._openness = figure.openness.copy()
        self._openness[figure.inside_mouth] = np.exp(-figure.behind_lips / scene.mouth_light)
        self._background = self._upscale(paint_background(scene)) ** 2
        self._colours = tuple(np.asarray(c, np.float32) for c in (scene.light_colour, scene.ambient))
        self._light = np.asarray(scene.light, np.float32)
        self._light_view = look_along(self._light)
        grained = (size, size, 3) if scene.noise > 0 else (1, 1, 3)
        self._grain = np.random.default_rng(scene.seed).standard_normal(grained, dtype=np.float32)
        across = np.linspace(-1, 1, size, dtype=np.float32)
        self._gain = np.float32(scene.exposure) * (1 - np.float32(scene.vignette) * (across[:, None] ** 2 + across**2))

    def frame(self, arkit, rotation, translation, frame_seed: int = 0, tongue: float = 0.0) -> np.ndarray:
        """One picture (size,size,3) uint8 RGB.

        arkit (52,), rotation (3,3) and translation (3,) of the head; frame_seed changes the sensor noise alone; tongue:
        how far it is raised, see `figure.Surface.pose`.
        """
        return self._develop(self._expose(arkit, rotation, translation, tongue)[0], frame_seed)

    def frame_with_mask(
        self, arkit, rotation, translation, frame_seed: int = 0, tongue: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The picture and the person's silhouette (size,size) bool."""
        light, triangle = self._expose(arkit, rotation, translation, tongue)
        covered = cv2.resize((triangle >= 0).astype(np.float32), (self.size, self.size), interpolation=cv2.INTER_AREA)
        return self._develop(light, frame_seed), covered > 0.5

    def _expose(self, arkit, rotation, translation, tongue: float) -> tuple[np.ndarray, np.ndarray]:
        """Linear light (size,size,3), and the triangle that every pixel of the supersampled picture shows (n,n)."""
        figure, surface = self.figure, self.surface
        posed = surface.pose(arkit, rotation, translation, tongue)
        size = round(self.size * SUPERSAMPLING)
        xy = project(posed, np.float32(self.scene.distance), np.float32(surface.plane), np.float32(size))
        parted = self._parting(posed)
        drawn = slice(None) if parted > _SEALED else slice(figure.shut)
        triangle, weights, depth = self._rasterise(xy, np.ascontiguousarray(posed[:, 2]), drawn, size)

        normals = vertex_normals(posed, surface.faces)
        if tongue > 0:  # light gets through its tip and is thrown at its lower side
            normals[:, 2] += np.float32(1.5 * tongue) * surface.tongue
        scale = np.float32(0.5 / SHADOW_REACH * SHADOW_SIZE)
        light_xy, nearness = seen_from_light(posed, self._light_view, scale, np.float32(SHADOW_SIZE / 2))
        light_depth = self._rasterise(light_xy, nearness, slice(figure.casters), SHADOW_SIZE)[2]
        gap = np.float32(ramp(0.01, 0.06, parted))  # no light gets between closed lips
        corners = pack_corners(normals, self._openness, figure.inside_mouth, gap, light_xy, nearness, _SHADOW_BIAS)
        around = np.ones((4, 4), np.uint8)
        nearest, farthest = (change(light_depth, around, anchor=(1, 1)) for change in (cv2.dilate, cv2.erode))
        light = shade(  # type: ignore[call-arg]  # numba's annotations know no such call
            triangle, weights, surface.faces, surface.uv, corners, figure.gloss, figure.softness, self._texture,
            self._light, *self._colours, light_depth, nearest, farthest, self._background,
        )  # fmt: skip
        light = cv2.resize(light, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if self.scene.aperture > 0:
            light = self._defocus(light, depth, float(posed[self.identity.mesh.landmarks[36:48], 2].mean()))
        return light, triangle

    def _defocus(self, light: np.ndarray, depth: np.ndarray, focus: float) -> np.ndarray:
        """Linear light (size,size,3) seen through an open lens: blurred by the distance from the plane in focus. The
        background has its own blur; it takes up some of the person's only along the outline."""
        depth = cv2.resize(depth, (self.size, self.size), interpolation=cv2.INTER_NEAREST)
        person = (depth > -10).astype(np.float32)
        most = np.float32(0.8 * self.scene.aperture)
        spread = np.minimum(np.abs(depth - np.float32(focus)) * np.float32(self.scene.aperture), most) * person
        around = (0, 0), 3 * self.size / FRAME
        spread, near = cv2.GaussianBlur(spread, *around), cv2.GaussianBlur(person, *around)
        spread = (spread / np.maximum(near, 0.05) / most * 2)[..., None]  # 0 in focus to 2
        for step in (1, 2):
            sigma = float(most) * step / 2 * self.size / FRAME
            share = np.clip(spread - (step - 1), 0, 1)
            light = light + share * (cv2.GaussianBlur(light, (0, 0), sigma) - light)
        return light

    def clip(self, motion: Motion) -> np.ndarray:
        """All pictures of a motion: (T,size,size,3) uint8 RGB."""
        rotations = head_rotation(motion.yaw, motion.pitch, motion.roll)
        steps = zip(motion.arkit, rotations, motion.translation, strict=True)
        return self._filmed(np.stack([self.frame(*step, i, float(motion.tongue[i])) for i, step in enumerate(steps)]))

    def portrait(self, motion: Motion) -> np.ndarray:
        """The person before a motion's first frame, (size,size,3) uint8 RGB: same place and pose, but neutral."""
        rotation = head_rotation(motion.yaw[:1], motion.pitch[:1], motion.roll[:1])[0]
        return self._filmed(
            self.frame(arkit_weights(), rotation, motion.translation[0], frame_seed=len(motion.yaw))[None]
        )[0]

    def _filmed(self, frames: np.ndarray) -> np.ndarray:
        return through_video(frames, self.scene.video) if self.scene.video else frames

    def _parting(self, posed: np.ndarray) -> float:
        """How far the lips are apart, where they are furthest."""
        inner = self.identity.mesh.landmarks[np.array(_INNER_LIPS)]
        return float(np.linalg.norm(posed[inner[:, 0]] - posed[inner[:, 1]], axis=1).max())

    def _rasterise(self, xy, nearness, drawn: slice, size: int):
        surface = self.surface
        return rasterise(
            xy, nearness, surface.faces[drawn], surface.kind[drawn], surface.uv[drawn], self.solid, size, size
        )

    def _upscale(self, picture: np.ndarray) -> np.ndarray:
        size = round(self.size * SUPERSAMPLING)
        return cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)

    def _develop(self, picture: np.ndarray, frame_seed: int) -> np.ndarray:
        """Linear light (size,size,3), overwritten, to an 8-bit photograph."""
        scene = self.scene
        saturation = 0.0 if scene.filter in ("grey", "sepia") else scene.saturation
        tint = np.array(_TINTS.get(scene.filter, (1, 1, 1)), np.float32)
        base, span = _SPANS.get(scene.filter, (0.0, 1.0))
        contrast = np.float32(scene.contrast)
        expose(picture, self._gain, np.float32(saturation), contrast, tint, np.float32(base), np.float32(span))
        if scene.filter == "painted":
            shown = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
            picture = cv2.edgePreservingFilter(shown, sigma_s=12, sigma_r=0.25).astype(np.float32) / 255
        if scene.blur > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), scene.blur * self.size / FRAME)
        down, across = np.random.default_rng((scene.seed, frame_seed)).integers(0, self.size, 2)
        shown = quantise(picture, self._grain, np.float32(scene.noise), down, across)
        if scene.jpeg:
            data = cv2.imencode(".jpg", shown[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg])[1]
            shown = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
        return shown


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
