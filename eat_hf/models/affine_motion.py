"""Motion as one affine map of the head plus residuals of its keypoints, for keypoints that sit on features of the face.

In place of the published dense motion (`dense_motion`) in the bundled renderer. N driving frames, K keypoints. Where
things are is computed in float32, whatever the network's own precision.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from .layers import ConvNormReLU, pixel_grid


@dataclass
class AffineMotion(BaseOutput):
    """Attributes:
    deformation: (N, D, H, W, 3), for every point of the driving volume its (x, y, z) in the source volume.
    occlusion: (N, 1, H, W) in [0, 1], 0 where the source shows nothing useful.
    displacement: (N, 2, H, W), driving picture to source picture, in units of [-1, 1].
    """

    deformation: Tensor
    occlusion: Tensor
    displacement: Tensor


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
    """A rigid base plus what the keypoints do beyond it.

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

    def heat(self, driving_keypoints: Tensor) -> Tensor:
        """Gaussians at keypoints (N, K, 3), in the field's size: (N, K, size, size)."""
        grid = pixel_grid(self.size, like=driving_keypoints).squeeze(-1)
        x, y = (
            torch.exp(-0.5 * ((grid - driving_keypoints[..., i : i + 1]) / self.HEAT_WIDTH).square()) for i in (0, 1)
        )
        return y.unsqueeze(-1) * x.unsqueeze(-2)

    def forward(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> AffineMotion:
        """picture: the source, (N, 3, size * n, size * n); keypoints (N, K, 3)."""
        with torch.autocast(picture.device.type, enabled=False):
            return self._move(picture, source_keypoints.float(), driving_keypoints.float())

    def _move(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> AffineMotion:
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
        return AffineMotion(deformation=deformation, occlusion=torch.sigmoid(visible), displacement=displacement)
