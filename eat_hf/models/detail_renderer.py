"""The bundled renderer: texture is copied from the portrait, the mouth is drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dense_motion import MotionField
from .layers import ConvNormReLU, pixel_grid
from .spade import SPADEBlock


def fit_affine(driving: Tensor, source: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Least-squares 3D affine map from driving to source keypoints, drawn slightly towards a pure shift.

    driving, source (N, K, 3) -> matrix (N, 3, 3), offset (N, 1, 3) with source ~ driving @ matrix + offset.
    """
    centre_d, centre_s = driving.mean(1, keepdim=True), source.mean(1, keepdim=True)
    x, y = driving - centre_d, source - centre_s
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    matrix = eye + torch.linalg.solve(x.mT @ x + ridge * eye, x.mT @ (y - x))
    return matrix, centre_s - centre_d @ matrix


def squared_distances(points: Tensor, keypoints: Tensor) -> Tensor:
    """points (P, 2), keypoints (N, K, 2) -> (N, P, K)."""
    cross = points @ keypoints.mT
    return (points.square().sum(-1)[:, None] - 2 * cross + keypoints.square().sum(-1)[:, None]).clamp_min(0)


class AffineDenseMotion(nn.Module):
    """Extension `affine_motion`: a rigid base plus what the keypoints do beyond it.

    Turning the head is one affine map in 3D, fitted to keypoints that expressions hardly move; a smooth depth read off
    the keypoints tells how it shifts each pixel. Expression is the rest: residuals of the keypoints, spread around each
    of them. A small 2D hourglass corrects both and finds the foreground; the background stays where it is.

    Args:
        keypoints: K.
        rigid_keypoints: indices of the keypoints that the affine map is fitted to.
        size: height and width of the field.
        depth: depth D of the volume that will be warped.
        channels: widths of the hourglass, outermost first.
    """

    DEPTH_WIDTH = 0.2  # reach of a keypoint's depth
    HEAT_WIDTH = 0.05
    MAX_CORRECTION = 0.1  # largest free displacement per axis

    def __init__(
        self,
        keypoints: int,
        rigid_keypoints: tuple[int, ...],
        size: int = 64,
        depth: int = 4,
        channels: tuple[int, ...] = (32, 64, 96, 128),
    ):
        super().__init__()
        self.size, self.depth, self.rigid = size, depth, list(rigid_keypoints)
        self.log_reach = nn.Parameter(torch.full((keypoints,), 0.07).log())
        inputs = keypoints + 12
        self.stem = ConvNormReLU(inputs, channels[0])
        self.downs = nn.ModuleList(ConvNormReLU(i, o) for i, o in zip(channels, channels[1:], strict=False))
        self.ups = nn.ModuleList(ConvNormReLU(i + o, o) for i, o in zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.head = nn.Conv2d(channels[0], 5, 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.01)
        # start with the keypoints' residuals in full, a foreground, and nothing occluded
        self.head.bias = nn.Parameter(torch.tensor([2.0, 2.0, 1.0, 0.0, 0.0]))

    def forward(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> MotionField:
        """picture: the source, (N, 3, size * n, size * n); keypoints (N, K, 3)."""
        with torch.autocast(picture.device.type, enabled=False):
            return self._move(picture, source_keypoints.float(), driving_keypoints.float())

    def _move(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> MotionField:
        size, dtype = self.size, self.head.weight.dtype
        picture = F.adaptive_avg_pool2d(picture, size)
        grid = pixel_grid(size, size, like=picture)
        flat = grid.flatten(0, 1)
        driving_xy = driving_keypoints[..., :2]
        distances = squared_distances(flat, driving_xy)

        def as_map(values: Tensor) -> Tensor:  # (N, size * size, C) -> (N, C, size, size)
            return values.mT.unflatten(2, (size, size))

        matrix, offset = fit_affine(driving_keypoints[:, self.rigid], source_keypoints[:, self.rigid])
        depth = torch.softmax(-0.5 * distances / self.DEPTH_WIDTH**2, -1) @ driving_keypoints[..., 2:]
        surface = torch.cat([flat.expand(len(depth), -1, -1), depth], -1)
        rigid = as_map((surface @ matrix + offset)[..., :2] - flat)

        residual = (source_keypoints - driving_keypoints @ matrix - offset)[..., :2]
        weight = torch.exp(-0.5 * distances / torch.exp(2 * self.log_reach.float()))
        spread = as_map((weight @ residual) / (weight.sum(-1, keepdim=True) + 0.15))

        guess = rigid + spread
        warped = F.grid_sample(picture, grid + guess.movedim(1, -1), padding_mode="border", align_corners=False)
        heat = as_map(torch.exp(-0.5 * distances / self.HEAT_WIDTH**2))
        nearest = as_map(distances.amin(-1, keepdim=True).clamp_min(1e-12).sqrt())  # its gradient at 0 is infinite
        x = self.stem(torch.cat([heat, 4 * rigid, 8 * spread, nearest, as_map(depth), picture, warped], 1).to(dtype))
        skips = []
        for block in self.downs:
            skips.append(x)
            x = block(F.avg_pool2d(x, 2))
        for block in self.ups:
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        gate, foreground, visible, dx, dy = self.head(x).float().split(1, 1)

        correction = torch.sigmoid(gate) * spread + self.MAX_CORRECTION * torch.tanh(torch.cat([dx, dy], 1))
        foreground = torch.sigmoid(foreground)
        displacement = foreground * (rigid + correction)

        voxels = pixel_grid(self.depth, size, size, like=picture)
        turned = (voxels.flatten(0, 2) @ matrix + offset).unflatten(1, (self.depth, size, size)) - voxels
        turned = turned + F.pad(correction.movedim(1, -1), (0, 1)).unsqueeze(1)
        deformation = voxels + foreground.movedim(1, -1).unsqueeze(1) * turned
        return MotionField(deformation=deformation, occlusion=torch.sigmoid(visible), displacement=displacement)


@dataclass
class Crop:
    """A part of each of N frames, of the same size in all of them.

    Attributes:
        corners: (N, 2) integers, (top, left) in cells of the feature map (64 across the frame).
        height, width: in cells.
    """

    corners: Tensor
    height: int
    width: int

    @classmethod
    def around(cls, points: Tensor, margin: int, cells: int) -> "Crop":
        """The smallest that holds points (N, P, 2) in [-1, 1] and `margin` cells around them, within the frame."""
        where = (points.detach().flip(-1) + 1) / 2 * cells  # (y, x)
        first = (where.amin(1).floor().long() - margin).clamp(0, cells)
        last = (where.amax(1).ceil().long() + margin).clamp(0, cells)
        height, width = (last - first).amax(0).clamp_min(1).tolist()
        largest = torch.tensor([cells - height, cells - width], device=first.device)
        return cls(first.minimum(largest), height, width)

    def _places(self, scale: int) -> list[tuple[slice, slice]]:
        return [
            (slice(top, top + self.height * scale), slice(left, left + self.width * scale))
            for top, left in (self.corners * scale).tolist()
        ]

    def cut(self, maps: Tensor, scale: int) -> Tensor:
        """maps (N, C, H, W) with `scale` pixels a cell -> (N, C, height * scale, width * scale)."""
        return torch.stack([m[:, rows, columns] for m, (rows, columns) in zip(maps, self._places(scale), strict=True)])

    def paste(self, parts: Tensor, maps: Tensor, scale: int) -> Tensor:
        """maps (N, C, H, W) with their parts, as `cut` gives them, replaced."""
        whole = maps.clone()
        for n, (rows, columns) in enumerate(self._places(scale)):
            whole[n, :, rows, columns] = parts[n]
        return whole


def warp_picture(picture: Tensor, displacement: Tensor, cut: Callable[[Tensor], Tensor] = lambda maps: maps) -> Tensor:
    """Fetch each pixel of (N, C, H, W) from where `displacement` (N, 2, h, w) points to; `cut` keeps a part of it."""
    flow = F.interpolate(displacement, size=picture.shape[2:], mode="bilinear")
    where = flow + pixel_grid(*picture.shape[2:], like=picture).movedim(-1, 0)
    return F.grid_sample(picture, cut(where).movedim(1, -1), padding_mode="border", align_corners=False)


def polygon_coverage(corners: Tensor, size: int) -> Tensor:
    """Share of each pixel inside a polygon: corners (N, P, 2) in [-1, 1], in order -> (N, 1, size, size) in [0, 1]."""
    x, y = pixel_grid(size, size, like=corners).unbind(-1)
    start, end = corners, corners.roll(-1, 1)
    x0, y0, x1, y1 = (value[..., None, None] for value in (*start.unbind(-1), *end.unbind(-1)))
    spans = (y0 > y) != (y1 > y)
    slope = (x1 - x0) / torch.where((y1 - y0).abs() < 1e-9, 1e-9, y1 - y0)
    crossings = spans & (x < x0 + slope * (y - y0))
    inside = crossings.sum(1, keepdim=True) % 2
    return F.avg_pool2d(inside.to(corners.dtype), 3, 1, 1)


class DetailDecoder(nn.Module):
    """Extension `detail_skip`: a SPADE decoder that copies texture from the source picture instead of redrawing it.

    The source picture and shallow features of its encoder, warped by the flow, join the last stages. The output is
    m * warped picture + (1 - m) * synthesised picture with a predicted mask m, which is 0 inside an opened mouth.
    """

    def __init__(
        self, features: int, channels: int, blocks: int, up_channels: tuple[int, ...], detail_channels: int, **spade
    ):
        super().__init__()
        self.stem = nn.Conv2d(features, channels, 3, padding=1)
        self.middle = nn.ModuleList(SPADEBlock(channels, channels, features, **spade) for _ in range(blocks))
        widths = (channels, *up_channels)
        self.ups = nn.ModuleList(SPADEBlock(i, o, features, **spade) for i, o in zip(widths, up_channels, strict=False))
        self.merge = nn.Conv2d(widths[-1] + detail_channels + 13, 48, 3, padding=1)
        self.refine = nn.Conv2d(12 + 4, 16, 3, padding=1)
        self.to_rgb_and_mask = nn.Conv2d(16, 4, 3, padding=1)

    @property
    def reach(self) -> int:
        """Cells of the feature map around a pixel that it depends on."""
        middle = 2 + 2 * len(self.middle)  # the first block's scale and shift look further than the stem
        ups = sum(2 * 0.5 ** (n + 1) for n in range(len(self.ups)))
        return math.ceil(middle + ups + 0.5 + 2 * 0.25)  # merge; refine and to_rgb_and_mask

    def forward(
        self,
        feature_map: Tensor,
        warped_details: Tensor,
        warped_picture: Tensor,
        mouth: Tensor,
        hidden: Tensor,
        mouth_only: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """For a feature map of (N, C, H, W):

        Args:
            warped_details: (N, C, 2H, 2W).
            warped_picture: (N, 3, 4H, 4W).
            mouth: (N, 1, 4H, 4W), 0 to 1, the opening of the mouth.
            hidden: (N, 1, 4H, 4W), 0 to 1, what of the mouth the portrait does not show.
            mouth_only: copy all that is not mouth, whatever the mask says.

        Returns:
            the picture, the synthesised picture before blending, and the mask's logits.
        """
        x = self.stem(feature_map)
        for block in self.middle:
            x = block(x, feature_map)
        for block in self.ups:
            x = block(F.interpolate(x, scale_factor=2), feature_map)
        # hidden from the network, so that lips stretched by the warp are never taken for a cavity
        visible = warped_picture * (1 - hidden)
        parts = warped_details, F.pixel_unshuffle(visible, 2), F.avg_pool2d(mouth, 2)
        x = torch.cat([F.leaky_relu(x, 0.2), *(part.to(x.dtype) for part in parts)], 1)
        x = F.pixel_shuffle(F.leaky_relu(self.merge(x), 0.2), 2)
        x = F.leaky_relu(self.refine(torch.cat([x, visible.to(x.dtype), mouth.to(x.dtype)], 1)), 0.2)
        x = self.to_rgb_and_mask(x).float()
        synthesised, logits = torch.sigmoid(x[:, :3]), x[:, 3:]
        mask = 1 - mouth if mouth_only else torch.sigmoid(logits) * (1 - mouth)
        return mask * warped_picture + (1 - mask) * synthesised, synthesised, logits
