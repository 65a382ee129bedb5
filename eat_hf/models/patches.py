"""Parts of a face that are drawn: flat patches that move with it, at a density of their own whatever the frame's size.

Positions are x and y of pictures in [-1, 1].
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import pixel_grid


@dataclass
class PatchPlane:
    """Where a patch lies in each of N pictures.

    Attributes:
        centre: (N, 2).
        axes: (N, 2, 2), from the centre to the middle of the patch's right side, and to the middle of its lower side.
    """

    centre: Tensor
    axes: Tensor

    def places(self, height: int, width: int) -> Tensor:
        """Of the pixels of patches so large: (N, height, width, 2)."""
        grid = pixel_grid(height, width, like=self.centre).flatten(0, 1)
        return (self.centre[:, None] + grid @ self.axes).unflatten(1, (height, width))

    def paste(self, patches: Tensor, masks: Tensor, pictures: Tensor, mode: str = "bilinear") -> Tensor:
        """Lay patches (N, C, h, w) into pictures (N, C, H, W), as far as masks (N, 1, h, w) in [0, 1] say.

        Args:
            mode: of `grid_sample`.
        """
        height, width = pictures.shape[2:]
        parts = torch.cat([patches * masks, masks], 1)
        inverse = torch.linalg.inv(self.axes)
        if torch.onnx.is_in_onnx_export():
            return self._paste_into_one_box(parts, inverse, pictures, mode)
        laid = []
        for picture, part, centre, axes, back in zip(pictures, parts, self.centre, self.axes, inverse, strict=True):
            # of each picture the box around its patch alone
            reach = axes.detach().abs().sum(0)
            low, high = (((centre.detach() + side * reach + 1) / 2).tolist() for side in (-1, 1))
            left, right = max(0, int(low[0] * width)), min(width, int(high[0] * width) + 1)
            top, bottom = max(0, int(low[1] * height)), min(height, int(high[1] * height) + 1)
            if left >= right or top >= bottom:
                laid.append(picture)
                continue
            x = (torch.arange(left, right, device=picture.device) * 2 + 1) / width - 1
            y = (torch.arange(top, bottom, device=picture.device) * 2 + 1) / height - 1
            where = (torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) - centre) @ back
            drawn, mask = F.grid_sample(part[None], where[None], mode, align_corners=False)[0].split([len(picture), 1])
            together = picture.clone()
            together[:, top:bottom, left:right] = picture[:, top:bottom, left:right] * (1 - mask) + drawn
            laid.append(together)
        return torch.stack(laid)

    def _paste_into_one_box(self, parts: Tensor, inverse: Tensor, pictures: Tensor, mode: str) -> Tensor:
        """The same in one step for all pictures, in the box around all their patches: a graph has no loops."""
        reach = self.axes.abs().sum(1)
        low, high = (self.centre - reach).amin(0), (self.centre + reach).amax(0)
        bounds = []
        for axis, pixels in enumerate((pictures.shape[3], pictures.shape[2])):
            first, last = (((place[axis] + 1) / 2 * pixels).long().clamp(0, pixels - 1) for place in (low, high))
            bounds += [first, last + 1]
        left, right, top, bottom = bounds
        grid = pixel_grid(*pictures.shape[2:], like=pictures)[top:bottom, left:right]
        where = (grid[None] - self.centre[:, None, None]) @ inverse[:, None]
        drawn, mask = F.grid_sample(parts, where, mode, align_corners=False).split([pictures.shape[1], 1], 1)
        rows = pictures[:, :, top:bottom]
        inside = rows[..., left:right] * (1 - mask) + drawn
        middle = torch.cat([rows[..., :left], inside, rows[..., right:]], 3)
        return torch.cat([pictures[:, :, :top], middle, pictures[:, :, bottom:]], 2)


def sample(maps: Tensor, places: Tensor) -> Tensor:
    """Maps (N, C, H, W) at places (N, h, w, 2) -> (N, C, h, w)."""
    return F.grid_sample(maps, places, padding_mode="border", align_corners=False)


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
