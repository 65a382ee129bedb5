"""Motion as one affine map of the head plus residuals of its keypoints, for keypoints that sit on features of the face.

In place of the published dense motion (`dense_motion`) in the bundled renderer. N driving frames, K keypoints. Where
things are is computed in float32, whatever the network's own precision.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..easing import smoothstep
from .layers import ConvNormReLU, for_convolutions, pixel_grid


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
    of them. A small 2D hourglass corrects both and finds the foreground; the background stays where it is, and so does
    the picture's border.

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
    BORDER = 0.2  # of the picture in [-1, 1], that moves less and less: nothing is known of what is beyond

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

    def nearness(self, keypoints: Tensor, reach: Tensor | float) -> Tensor:
        """Gaussians (N, K, size, size) of height 1 at keypoints (N, K, 2 or more), whose standard deviation is `reach`
        or (K, 1). A row of values along each axis, and their products: fewer exponentials than pixels."""
        grid = pixel_grid(self.size, like=keypoints).squeeze(-1)
        along, down = (torch.exp(-0.5 * ((grid - keypoints[..., i : i + 1]) / reach).square()) for i in (0, 1))
        return down.unsqueeze(-1) * along.unsqueeze(-2)

    def forward(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> AffineMotion:
        """picture: the source, (N, 3, size * n, size * n); keypoints (N, K, 3)."""
        with torch.autocast(picture.device.type, enabled=False):
            return self._move(picture, source_keypoints.float(), driving_keypoints.float())

    def _move(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> AffineMotion:
        size, dtype = self.size, self.head.weight.dtype
        picture = F.adaptive_avg_pool2d(picture, size)
        grid = pixel_grid(size, size, like=picture)

        def mean_by(weight: Tensor, values: Tensor, more: float) -> Tensor:
            """weight (N, K, size, size), values (N, K, C) -> (N, C, size, size)."""
            weight = weight.flatten(2)
            return (values.mT @ weight / (weight.sum(1, keepdim=True) + more)).unflatten(2, (size, size))

        matrix, offset = fit_affine(driving_keypoints[:, self.rigid], source_keypoints[:, self.rigid])
        depth = mean_by(self.nearness(driving_keypoints, self.DEPTH_WIDTH), driving_keypoints[..., 2:], 1e-20)
        surface = torch.cat([grid.movedim(2, 0).expand(depth.shape[0], -1, -1, -1), depth], 1)
        turned = matrix[..., :2].mT @ surface.flatten(2) + offset[..., :2].mT
        rigid = turned.unflatten(2, (size, size)) - surface[:, :2]

        residual = (source_keypoints - driving_keypoints @ matrix - offset)[..., :2]
        spread = mean_by(self.nearness(driving_keypoints, self.log_reach.float().exp()[:, None]), residual, 0.15)

        guess = rigid + spread
        warped = F.grid_sample(picture, grid + guess.movedim(1, -1), padding_mode="border", align_corners=False)
        heat = self.nearness(driving_keypoints, self.HEAT_WIDTH)
        nearest = squared_distances(grid.flatten(0, 1), driving_keypoints[..., :2]).amin(-1).clamp_min(1e-12)
        nearest = nearest.sqrt().unflatten(1, (1, size, size))  # the root's gradient at 0 is infinite
        seen = torch.cat([heat, 4 * rigid, 8 * spread, nearest, depth, picture, warped], 1).to(dtype)
        x = self.stem(for_convolutions(seen))
        skips = []
        for block in self.downs:
            skips.append(x)
            x = block(F.avg_pool2d(x, 2))
        for block in self.ups:
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        gate, foreground, visible, dx, dy = self.head(x).float().split(1, 1)

        correction = torch.sigmoid(gate) * spread + self.MAX_CORRECTION * torch.tanh(torch.cat([dx, dy], 1))
        foreground = torch.sigmoid(foreground)
        inside = smoothstep(((1 - grid.abs()).amin(-1) / self.BORDER).clamp(0, 1))
        displacement = inside * foreground * (rigid + correction)

        voxels = pixel_grid(self.depth, size, size, like=picture)
        turned = (voxels.flatten(0, 2) @ matrix + offset).unflatten(1, (self.depth, size, size)) - voxels
        turned = turned + F.pad(correction.movedim(1, -1), (0, 1)).unsqueeze(1)
        deformation = voxels + foreground.movedim(1, -1).unsqueeze(1) * turned
        return AffineMotion(deformation=deformation, occlusion=torch.sigmoid(visible), displacement=displacement)
