"""Labels of every pixel, computed when they are asked for: what it shows, and where that is in another frame.

    labels = DenseLabels.of(clip)      # of a corpus made with --dense-labels
    masks = labels.masks(3)            # (256, 256) uint8, places in `MASKS`
    flow, visible = labels.flow(3, 17) # where what frame 3 shows is in frame 17, and whether it is seen there

The corpus keeps a person's surface once (``clips/idNNNN_surface.npz``), and every clip's npz its motion and the outline
of its clothes; a frame is rasterised again from them, at any size, in a few milliseconds.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from eat_hf.errors import UserError

from ..data.dataset import Clip
from .figure import MASKS, Surface
from .heads import FRAME, head_rotation
from .rasteriser import SHEET, SOLID, interpolate, project, rasterise
from .skin import CLOTHES_ROWS, CLOTHES_TOP, COLUMNS

__all__ = ["MASKS", "DenseLabels", "read_surface", "surface_arrays"]

_BEHIND = 0.02  # picture units that a point may lie behind what is seen at its place and still count as it


def surface_arrays(surface: Surface, solid: np.ndarray) -> dict[str, np.ndarray]:
    """What the npz of a person holds; solid (rows, COLUMNS): where the texture is not cut out."""
    arrays = {name: getattr(surface, name) for name in Surface.__dataclass_fields__}
    return arrays | {
        "basis": surface.basis.astype(np.float16),
        "uv": surface.uv[surface.kind != SOLID],
        "plane": np.float32(surface.plane),
        "solid": np.packbits(solid, axis=1),
    }


@lru_cache(maxsize=4)
def read_surface(path: Path) -> tuple[Surface, np.ndarray]:
    """A person's surface and where the texture is not cut out, of what `surface_arrays` gave."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    solid = np.unpackbits(arrays.pop("solid"), axis=1, count=COLUMNS).astype(bool)
    uv = np.zeros((len(arrays["faces"]), 3, 2), np.float32)
    uv[arrays["kind"] != SOLID] = arrays["uv"]
    arrays |= {"uv": uv, "basis": arrays["basis"].astype(np.float32), "plane": float(arrays["plane"])}
    return Surface(**arrays), solid


class DenseLabels:
    """Of one clip. Frames are numbers from 0; None is the clip's portrait: its first pose, neutral and silent.

    surface and solid of the person, the latter with the clip's clothes; labels: the clip's; size: side of the pictures.
    """

    def __init__(self, surface: Surface, solid: np.ndarray, labels: dict[str, np.ndarray], size: int = FRAME):
        self.surface, self.solid, self.size = surface, solid, size
        self._labels = labels
        self._rotation = head_rotation(labels["yaw"], labels["pitch"], labels["roll"])
        self._seen: dict[int | None, tuple[np.ndarray, ...]] = {}

    @classmethod
    def of(cls, clip: Clip, size: int = FRAME) -> "DenseLabels":
        """Raises UserError if the clip's corpus was made without them."""
        path = clip.metadata.get("surface")
        if not path:
            raise UserError(f"Clip {clip.name} of {clip.folder} has no dense labels: make one with --dense-labels.")
        surface, solid = read_surface(clip.folder / path)
        labels = clip.labels("clothes")
        solid = solid.copy()
        clothes = np.unpackbits(labels["clothes"], axis=1, count=COLUMNS)
        solid[CLOTHES_TOP : CLOTHES_TOP + CLOTHES_ROWS] = clothes
        return cls(surface, solid, labels, size)

    def masks(self, frame: int | None) -> np.ndarray:
        """What every pixel shows: (size, size) uint8, places in `MASKS`."""
        triangle, weights, *_ = self._view(frame)
        shown = np.where(triangle >= 0, self.surface.mask[triangle], 0).astype(np.uint8)
        share = interpolate(triangle, weights, self.surface.faces, self.surface.lips[:, None])[..., 0]
        shown[(shown == MASKS.index("skin")) & (share > 0.5)] = MASKS.index("lips")
        return shown

    def flow(
        self, frame: int | None, other_frame: int | None, other: "DenseLabels | None" = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where that which every pixel of a frame shows is in another frame of the person, of the same clip or of the
        `other` one: how far to the right and down, (size, size, 2) float32 pixels, and if it is seen there,
        (size, size) bool. A clip's background stands still; another clip's is another one and not seen."""
        there = self if other is None else other
        surface = self.surface
        if len(there.surface.faces) != len(surface.faces) or there.size != self.size:
            raise ValueError("flow is between clips of one person, at one size")
        triangle, weights, *_ = self._view(frame)
        seen_there, _, depth, xy, z = there._view(other_frame)
        person = triangle >= 0
        place = interpolate(triangle, weights, surface.faces, np.column_stack([xy, z]))
        down, across = np.indices(triangle.shape, np.float32)
        flow = np.where(person[..., None], place[..., :2] - np.stack([across, down], -1), 0).astype(np.float32)

        column, row = (np.rint(place[..., axis]).astype(int) for axis in (0, 1))
        inside = (column >= 0) & (column < self.size) & (row >= 0) & (row < self.size)
        in_front = depth[np.clip(row, 0, self.size - 1), np.clip(column, 0, self.size - 1)]
        a, b, c = (xy[surface.faces[:, corner]] for corner in range(3))
        area = (b[:, 1] - c[:, 1]) * (a[:, 0] - c[:, 0]) + (c[:, 0] - b[:, 0]) * (a[:, 1] - c[:, 1])
        faces_us = (area > 0) | (surface.kind == SHEET)
        visible = person & inside & (place[..., 2] > in_front - _BEHIND) & faces_us[triangle]
        if there is self:
            visible |= ~person & (seen_there < 0)
        return flow, visible

    def _view(self, frame: int | None) -> tuple[np.ndarray, ...]:
        """Of a frame: triangle (size,size), weights (size,size,2), depth (size,size), xy (V,2) pixels and z (V,)."""
        if frame not in self._seen:
            if len(self._seen) > 3:
                self._seen.pop(next(iter(self._seen)))
            labels, at = self._labels, frame or 0
            arkit, tongue = labels["arkit"][at], float(labels["tongue"][at])
            if frame is None:
                arkit, tongue = np.zeros_like(arkit), 0.0
            posed = self.surface.pose(arkit, self._rotation[at], labels["translation"][at], tongue)
            distance, plane = labels["camera"].astype(np.float32)
            xy, z = project(posed, distance, plane, np.float32(self.size)), np.ascontiguousarray(posed[:, 2])
            surface = self.surface
            drawn = rasterise(xy, z, surface.faces, surface.kind, surface.uv, self.solid, self.size, self.size)
            self._seen[frame] = (*drawn, xy, z)
        return self._seen[frame]
