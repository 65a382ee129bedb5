"""Dense motion: from sparse keypoints to where every point of the driving picture comes from in the source.

N driving frames, K keypoints. Where things are is computed in float32, whatever the networks' own precision.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from .layers import ConvNormReLU, coordinate_grid, repeat_per_frame


@dataclass
class MotionField(BaseOutput):
    """Attributes:
    deformation: (N, D, H, W, 3), for every point of the driving volume its (x, y, z) in the source volume.
    occlusion: (N, 1, H, W) in [0, 1], 0 where the source shows nothing useful.
    mask: (N, K + 1, D, H, W), share of each sparse motion.
    """

    deformation: Tensor
    occlusion: Tensor
    mask: Tensor


class Hourglass3d(nn.Module):
    """3D U-Net that pools and enlarges height and width only: (N, C, D, H, W) -> (N, C + last, D, H, W)."""

    def __init__(
        self, in_channels: int, channels: tuple[int, ...] = (64, 128, 256, 512, 1024), last_channels: int = 32
    ):
        super().__init__()
        widths = (in_channels, *channels)
        self.downs = nn.ModuleList(ConvNormReLU(i, o, dims=3) for i, o in zip(widths, channels, strict=False))
        ups = (*channels[-2::-1], last_channels)
        inputs = (channels[-1], *(2 * width for width in ups[:-1]))
        self.ups = nn.ModuleList(ConvNormReLU(i, o, dims=3) for i, o in zip(inputs, ups, strict=True))
        self.out_channels = last_channels + in_channels
        self.final = ConvNormReLU(self.out_channels, self.out_channels, dims=3)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.downs:
            skips.append(x)
            x = block(x)
            # in 2D, for CPUs cannot pool volumes in half precision
            x = F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])
        for block in self.ups:
            x = torch.cat([block(x, enlarge=2), skips.pop()], 1)
        return self.final(x)


class DenseMotion(nn.Module):
    """K + 1 candidate motions, each moving everything along with one keypoint (the first: none),
    and a 3D hourglass that chooses among them at every point.

    Args:
        volume_channels, depth: of the feature volume.
        keypoints: K.
        compress_channels: the volume is projected to this width before it is warped K + 1 times.
        hourglass_channels: widths of the hourglass.
        variance: of the Gaussians drawn at keypoints, in squared units of [-1, 1].
    """

    def __init__(
        self,
        volume_channels: int = 32,
        depth: int = 16,
        keypoints: int = 15,
        compress_channels: int = 4,
        hourglass_channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        variance: float = 0.01,
    ):
        super().__init__()
        self.variance = variance
        self.compress = ConvNormReLU(volume_channels, compress_channels, kernel_size=1, dims=3)
        self.hourglass = Hourglass3d((keypoints + 1) * (compress_channels + 1), hourglass_channels)
        self.mask = nn.Conv3d(self.hourglass.out_channels, keypoints + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.out_channels * depth, 1, 7, padding=3)

    def heat(self, keypoints: Tensor, grid: Tensor) -> Tensor:
        """Gaussians at keypoints (N, K, 3) on a grid (D, H, W, 3): (N, K, D, H, W)."""
        squared = (grid - keypoints[:, :, None, None, None]).square().sum(-1)
        return torch.exp(-0.5 * squared / self.variance)

    def forward(self, volume: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> MotionField:
        """volume (N, C, D, H, W), keypoints (N, K, 3)."""
        x = self.compress(volume).float()
        grid = coordinate_grid(*x.shape[2:], like=x)
        shift = F.pad(source_keypoints - driving_keypoints, (0, 0, 1, 0))  # the first motion is the identity
        motions = grid + shift[:, :, None, None, None]  # (N, K + 1, D, H, W, 3)
        n, m = motions.shape[:2]
        # the released network samples with align_corners=False although its grid holds both ends
        warped = F.grid_sample(repeat_per_frame(x, m), motions.flatten(0, 1), align_corners=False).unflatten(0, (n, m))
        heat = self.heat(driving_keypoints, grid) - self.heat(source_keypoints, grid)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], 1).unsqueeze(2)
        x = self.hourglass(torch.cat([heat, warped], 2).flatten(1, 2).to(volume.dtype))
        mask = torch.softmax(self.mask(x).float(), 1)
        # the mask sums to 1, so that its mean of motions is the grid moved by the mean shift
        deformation = grid + torch.einsum("nmdhw,nmc->ndhwc", mask, shift)
        return MotionField(deformation=deformation, occlusion=torch.sigmoid(self.occlusion(x.flatten(1, 2))), mask=mask)
