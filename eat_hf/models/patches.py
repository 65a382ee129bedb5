"""Parts of a face that are drawn: flat patches that move with it, at a density of their own whatever the frame's size.

Positions are x and y of pictures in [-1, 1].
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import pixel_grid

# spread of colours that are as light, of [0, 1]: of toned pictures at most (0.001 is seen), of others at least (0.01)
COLOURED = 0.003, 0.006


@dataclass
class PatchPlane:
    """Where a patch lies in each of N pictures.

    Attributes:
        centre: (N, 2).
        axes: (N, 2, 2), from the centre to the middle of the patch's right side, and to the middle of its lower side.
    """

    centre: Tensor
    axes: Tensor

    def of(self, pictures: Tensor | slice) -> "PatchPlane":
        """Those in some of the pictures."""
        return PatchPlane(self.centre[pictures], self.axes[pictures])

    def places(self, height: int, width: int) -> Tensor:
        """Of the pixels of patches so large: (N, height, width, 2)."""
        grid = pixel_grid(height, width, like=self.centre).flatten(0, 1)
        return (self.centre[:, None] + grid @ self.axes).unflatten(1, (height, width))

    def paste(self, patches: Tensor, masks: Tensor, pictures: Tensor, mode: str = "bilinear") -> Tensor:
        """Lay patches (N, C, h, w) into pictures (N, C, H, W), as far as masks (N, 1, h, w) in [0, 1] say.

        Args:
            mode: of `grid_sample`.
        """
        parts = torch.cat([patches * masks, masks], 1)
        left, right, top, bottom = self._box(*pictures.shape[2:])
        grid = pixel_grid(*pictures.shape[2:], like=pictures)[top:bottom, left:right]
        where = (grid[None] - self.centre[:, None, None]) @ torch.linalg.inv(self.axes)[:, None]
        drawn, mask = F.grid_sample(parts, where, mode, align_corners=False).split([pictures.shape[1], 1], 1)
        rows = pictures[:, :, top:bottom]
        inside = rows[..., left:right] * (1 - mask) + drawn
        middle = torch.cat([rows[..., :left], inside, rows[..., right:]], 3)
        return torch.cat([pictures[:, :, :top], middle, pictures[:, :, bottom:]], 2)

    def _box(self, height: int, width: int) -> list[int]:
        """Left, right, top and bottom of the box around the patches of all pictures, in pixels."""
        reach = self.axes.detach().abs().sum(1)
        low, high = (self.centre.detach() - reach).amin(0), (self.centre.detach() + reach).amax(0)
        edges = []
        for axis, pixels in enumerate((width, height)):
            first, last = (((place[axis] + 1) / 2 * pixels).long().clamp(0, pixels - 1) for place in (low, high))
            edges += [first, last + 1]
        # a GPU is waited for once, however many pictures there are; a graph has no numbers
        return edges if torch.onnx.is_in_onnx_export() else torch.stack(edges).tolist()  # type: ignore[return-value]


def sample(maps: Tensor, places: Tensor) -> Tensor:
    """Maps (N, C, H, W) at places (N, h, w, 2) -> (N, C, h, w)."""
    return F.grid_sample(maps, places, padding_mode="border", align_corners=False)


def in_tones_of(pictures: Tensor, drawn: Tensor, seen: Tensor) -> Tensor:
    """What was drawn into black and white or toned pictures, in their tones; into others as it is.

    Args:
        pictures: (N, 3, h, w) in [0, 1]; drawn: the same.
        seen: (N, 1, h, w) in [0, 1], how much each pixel of the pictures tells.
    """
    share = seen / seen.sum((2, 3), keepdim=True).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return (values * share).sum((2, 3), keepdim=True)

    # every colour of such a picture follows from how light it is
    light, colour = pictures.mean(1, keepdim=True), mean(pictures)
    lighter, own = light - mean(light), pictures - colour
    slope = mean(own * lighter) / (mean(lighter.square()) + 1e-5)
    coloured = mean((own - slope * lighter).square()).mean(1, keepdim=True).sqrt()
    least, full = COLOURED
    toned = colour + slope * (drawn.mean(1, keepdim=True) - mean(light))
    return drawn + (1 - (coloured - least) / (full - least)).clamp(0, 1) * (toned.clamp(0, 1) - drawn)


def polygon_area(corners: Tensor) -> Tensor:
    """Of polygons with corners (N, P, 2), in order: (N,)."""
    x, y = corners.unbind(-1)
    return (x * y.roll(-1, 1) - y * x.roll(-1, 1)).sum(1).abs() / 2


def polygon_coverage(corners: Tensor, places: Tensor) -> Tensor:
    """Which places (N, h, w, 2) are inside a polygon with corners (N, P, 2), clockwise as one sees it: (N, 1, h, w) of
    0 and 1. Nothing is inside what is turned inside out, as lips that are pressed into one another."""
    x, y = places.unbind(-1)
    turns = torch.zeros_like(x, dtype=torch.int8)  # of the border around each place
    for start, end in zip(corners.unbind(1), corners.roll(-1, 1).unbind(1), strict=True):
        (x0, y0), (x1, y1) = (point[..., None, None].unbind(1) for point in (start, end))
        slope = (x1 - x0) / torch.where((y1 - y0).abs() < 1e-9, 1e-9, y1 - y0)
        crossed = ((y0 > y) != (y1 > y)) & (x < x0 + slope * (y - y0))
        turns += torch.where(y1 > y0, 1, -1).to(turns.dtype) * crossed
    return (turns > 0)[:, None].to(places.dtype)
