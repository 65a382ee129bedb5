"""The SPADE decoder of RePos-Net: features warped to the driving pose -> picture."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv_of_enlarged


class SPADE(nn.Module):
    """Normalisation, then a scale and a shift per pixel, predicted from the feature map.

    Args:
        channels: width of what is normalised.
        map_channels: width of the feature map.
        hidden: width of the layer between them.
        modulate_at_map_size: extension. Predict scale and shift at the size of the feature map and enlarge them,
            instead of enlarging the map first (as published); the same idea at a fraction of the work.
        batch_norm: extension. Batch norm in place of instance norm (as published), so that a part of a picture is
            decoded as the whole would be.
    """

    def __init__(
        self,
        channels: int,
        map_channels: int,
        hidden: int = 128,
        modulate_at_map_size: bool = False,
        batch_norm: bool = False,
    ):
        super().__init__()
        normalisation = nn.BatchNorm2d if batch_norm else nn.InstanceNorm2d
        self.normalise = normalisation(channels, affine=False)
        self.shared = nn.Conv2d(map_channels, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)
        self.modulate_at_map_size = modulate_at_map_size

    def forward(self, x: Tensor, feature_map: Tensor) -> Tensor:
        size = x.shape[2:]
        scale = 1 if self.modulate_at_map_size else size[0] // feature_map.shape[2]
        shared = self.shared(feature_map) if scale == 1 else conv_of_enlarged(self.shared, feature_map, scale)
        hidden = F.relu(shared)
        # 1 + gamma without another pass over a large map
        bias: Tensor = self.gamma.bias + 1  # type: ignore[operator, assignment]
        scales, shifts = F.conv2d(hidden, self.gamma.weight, bias, padding=1), self.beta(hidden)
        if scales.shape[2:] != size:
            scales, shifts = F.interpolate(scales, size=size), F.interpolate(shifts, size=size)
        return torch.addcmul(shifts, self.normalise(x), scales)


class SPADEBlock(nn.Module):
    """Residual block of two SPADE-normalised 3x3 convolutions.

    The released network trains these convolutions with spectral norm; at inference that is a constant factor, which
    the converter has already multiplied into the weights.
    """

    def __init__(self, in_channels: int, out_channels: int, map_channels: int, **spade):
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm1 = SPADE(in_channels, map_channels, **spade)
        self.conv1 = nn.Conv2d(in_channels, middle, 3, padding=1)
        self.norm2 = SPADE(middle, map_channels, **spade)
        self.conv2 = nn.Conv2d(middle, out_channels, 3, padding=1)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.shortcut_norm = SPADE(in_channels, map_channels, **spade)
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, feature_map: Tensor) -> Tensor:
        skip = self.shortcut(self.shortcut_norm(x, feature_map)) if self.learned_shortcut else x
        y = self.conv1(F.leaky_relu(self.norm1(x, feature_map), 0.2))
        y = self.conv2(F.leaky_relu(self.norm2(y, feature_map), 0.2))
        return skip + y


class SPADEDecoder(nn.Module):
    """(N, features, 64, 64) -> (N, 3, 256, 256) in [0, 1], as published."""

    def __init__(
        self,
        features: int = 256,
        channels: int = 512,
        blocks: int = 6,
        up_channels: tuple[int, ...] = (256, 64),
        **spade,
    ):
        super().__init__()
        self.stem = nn.Conv2d(features, channels, 3, padding=1)
        self.middle = nn.ModuleList(SPADEBlock(channels, channels, features, **spade) for _ in range(blocks))
        widths = (channels, *up_channels)
        self.ups = nn.ModuleList(SPADEBlock(i, o, features, **spade) for i, o in zip(widths, up_channels, strict=False))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, feature_map: Tensor) -> Tensor:
        x = self.stem(feature_map)
        for block in self.middle:
            x = block(x, feature_map)
        for block in self.ups:
            x = block(F.interpolate(x, scale_factor=2), feature_map)
        return torch.sigmoid(self.to_rgb(F.leaky_relu(x, 0.2)))


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
