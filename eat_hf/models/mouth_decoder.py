"""What a portrait with closed lips does not show: teeth, tongue and the dark between the lips.

Nothing but what is between the lips is drawn, so that nothing else can go wrong on pictures unlike those of the
training (lips move in closed form, see `lips`). It is drawn on a patch that lies flat on the face and turns with the
head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .affine_motion import fit_affine
from .layers import CheckpointedBlocks, ConvNormReLU, for_convolutions
from .mouth_guide import MouthGuide
from .patches import PatchPlane, in_tones_of, polygon_area, polygon_coverage

HEIGHT, WIDTH = 128, 160  # of the patch, in pixels


class MouthDecoder(CheckpointedBlocks):
    """A U-Net on the patch around the mouth, guided by where the teeth are.

    Args:
        keypoints: K.
        rigid_keypoints, teeth: of the guide, see `MouthGuide`.
        inner_mouth: indices of the keypoints around the opening of the mouth, see `DetailRenderer`.
        features: width of the renderer's feature map.
        channels: widths at a half, a quarter, ... of the patch's density.
        detail_channels: width at its full density.
    """

    REACH = 0.32, 0.26  # half of the patch's width and height, in the frame of the guide's mean head
    PARTED = 0.06, 0.08  # area between the lips over the square of its width, of mouths that show nothing, and all
    TOOTHLESS = 0.035  # widths of the mouth beyond where lips seem to end
    HIDDEN = 5  # pixels over which the border of the opening is soft

    def __init__(
        self,
        keypoints: int,
        rigid_keypoints: tuple[int, ...],
        inner_mouth: tuple[int, ...],
        teeth: int,
        features: int,
        channels: tuple[int, ...] = (32, 48, 64, 96),
        detail_channels: int = 16,
    ):
        super().__init__()
        self.inner_mouth = list(inner_mouth)
        self.guide = MouthGuide(keypoints, rigid_keypoints, teeth)
        maps = 3 + 2 + MouthGuide.channels + 3
        self.stem = ConvNormReLU(4 * maps, channels[0])
        joined = (channels[0], channels[1] + features, *channels[2:])  # what goes into each level's second half
        self.downs = nn.ModuleList(
            ConvNormReLU(i, o, stride=2) for i, o in zip((channels[0], *channels[1:]), channels[1:], strict=False)
        )
        self.mixes = nn.ModuleList(ConvNormReLU(i, o) for i, o in zip(joined[1:], channels[1:], strict=True))
        self.ups = nn.ModuleList(ConvNormReLU(i + o, o) for i, o in zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.to_details = nn.Conv2d(channels[0], 4 * detail_channels, 3, padding=1)
        self.refine = nn.Conv2d(detail_channels + maps, 2 * detail_channels, 3, padding=1)
        self.to_rgb = nn.Conv2d(2 * detail_channels, 3, 3, padding=1)

    def plane(self, keypoints: Tensor) -> PatchPlane:
        """The patch on faces with keypoints (N, K, 3): around the mouth, turned as the skull is."""
        mean = self.guide.mean_keypoints.to(keypoints)
        rigid = self.guide.rigid
        matrix, _ = fit_affine(mean[rigid].expand(keypoints.shape[0], -1, -1), keypoints[:, rigid])
        reach = matrix.new_tensor(self.REACH)[:, None]
        return PatchPlane(keypoints[:, self.inner_mouth, :2].mean(1), reach * matrix[:, :2, :2])

    def opening(self, keypoints: Tensor, places: Tensor) -> Tensor:
        """How much each place (N, h, w, 2) is between the lips: (N, 1, h, w) in [0, 1], soft outwards."""
        inside = polygon_coverage(keypoints[:, self.inner_mouth, :2], places)
        return (2 * F.avg_pool2d(inside, self.HIDDEN, 1, self.HIDDEN // 2)).clamp(max=1)

    def shown(self, keypoints: Tensor, places: Tensor) -> Tensor:
        """Where portraits with keypoints (N, K, 3) show what is between their own lips, at places (N, h, w, 2) of them:
        (N, 1, h, w) in [0, 1].

        Nowhere if the lips are hardly parted: keypoints may take the dark line between shut lips for an opening, and
        lips would be drawn for teeth.
        """
        corners = keypoints[:, self.inner_mouth, :2]
        return polygon_coverage(corners, places) * self._parted(corners)[..., None]

    def own_lips(self, keypoints: Tensor) -> Tensor:
        """The edges of portraits' own lips, (N, P, 2) of the inner mouth, for keypoints (N, K, 3).

        Lips that are hardly parted meet half way, as in `shown`; of others no tooth is left at the edge.
        """
        corners = keypoints[:, self.inner_mouth, :2]
        opposite = corners.roll(-1, 1).flip(1)  # of the upper lip the points of the lower one, and of corners their own
        middle, apart = (corners + opposite) / 2, (corners - opposite) / 2
        beyond = self.TOOTHLESS * F.normalize(apart, dim=-1, eps=1e-4) * _width(corners)[:, None, None]
        return middle + self._parted(corners) * (apart + beyond)

    def _parted(self, corners: Tensor) -> Tensor:
        """How sure it is that the lips of portraits are parted, (N, 1, 1) in [0, 1]; corners (N, P, 2)."""
        least, full = self.PARTED
        ratio = polygon_area(corners) / _width(corners).square()
        return ((ratio - least) / (full - least)).clamp(0, 1)[:, None, None]

    def forward(
        self, picture: Tensor, opening: Tensor, shown: Tensor, teeth: Tensor, places: Tensor, features: Tensor
    ) -> Tensor:
        """Draw it.

        Args:
            picture: (N, 3, h, w), the moved portrait on the patch.
            opening: (N, 1, h, w), see `opening`.
            shown: (N, 1, h, w), where the moved portrait shows what is between its own lips, see `shown`.
            teeth: points of the arches (N, P, 3), see `MouthGuide`.
            places: (N, h, w, 2) of the patch.
            features: (N, C, h / 4, w / 4) of the renderer, on the patch.

        Returns:
            (N, 3, h, w) in [0, 1], of use between the lips alone.
        """
        # hidden from the network, so that lips stretched by the warp are never taken for a cavity
        seen = 1 - opening * (1 - shown)
        visible = picture * seen
        with torch.autocast(picture.device.type, enabled=False):
            guide = self.guide.draw(teeth, places)
            light = visible.mean((1, 2, 3), keepdim=True) / seen.mean((1, 2, 3), keepdim=True).clamp_min(1e-3)
            sketch = self.guide.sketch(guide, light)
        maps = torch.cat([visible, opening, opening * shown, guide * opening, sketch * opening], 1)
        maps = for_convolutions(maps.to(self.to_rgb.weight.dtype))
        x = self._run(self.stem, F.pixel_unshuffle(maps, 2))
        skips = []
        for level, (down, mix) in enumerate(zip(self.downs, self.mixes, strict=True)):
            skips.append(x)
            x = self._run(down, x)
            x = self._run(mix, torch.cat([x, features.to(x.dtype)], 1) if level == 0 else x)
        for up in self.ups:
            x = self._run(up, torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        x = F.pixel_shuffle(F.leaky_relu(self.to_details(x), 0.2), 2)
        x = F.leaky_relu(self.refine(torch.cat([x, maps], 1)), 0.2)
        drawn = torch.sigmoid(self.to_rgb(x).float() + torch.logit(sketch.clamp(0.02, 0.98)))
        return in_tones_of(picture, drawn, seen)


def _width(corners: Tensor) -> Tensor:
    """The largest distance between corners (N, P, 2): (N,)."""
    return (corners[:, :, None] - corners[:, None]).norm(dim=-1).amax((1, 2))
