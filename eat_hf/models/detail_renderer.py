"""The bundled renderer: texture is copied from the portrait, only the opening of the mouth is drawn.

Named extensions of RePos-Net (`repos_net`) for keypoints that sit on features of the face: motion is affine plus
residuals (`affine_motion`), details skip the decoder, and only the mouth is decoded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from .affine_motion import AffineDenseMotion, AffineMotion
from .eam import EmotionalAdaptationModule, modulate_per_frame
from .eye_decoder import EyeDecoder
from .layers import (
    CheckpointedBlocks,
    ConvNormReLU,
    PreActivationBlock3d,
    ResidualBlock2d,
    pixel_grid,
    repeat_per_frame,
)
from .mouth_guide import MouthGuide
from .repos_net import SourceFeatures
from .spade import OnePlusConv2d, SPADEBlock


@dataclass
class DetailFeatures(SourceFeatures):
    """What the renderer keeps of a portrait, so that it is encoded once for all frames.

    Attributes:
        volume: (B, C, D, H, W) feature volume before the emotional adaptation.
        picture: (B, 3, 256, 256) the portrait itself.
        details: (B, C, 128, 128) shallow features.
    """

    volume: Tensor
    picture: Tensor
    details: Tensor


@dataclass
class DetailRendererOutput(BaseOutput):
    """Attributes (B clips of F frames):
    frames: (B, F, 3, 256, 256) in [0, 1], or the part of them that was asked for.
    deformation: (B, F, D, H, W, 3), occlusion: (B, F, 1, H, W), displacement: (B, F, 2, H, W), see `AffineMotion`.
    warped_picture: the portrait moved by the displacement, as large as the frames; eyes_picture: with its eyes drawn,
    all of it whatever part of the frames was asked for.
    synthesised: the drawn picture before blending, where a part was asked for; for training.
    """

    frames: Tensor
    deformation: Tensor
    occlusion: Tensor
    displacement: Tensor
    warped_picture: Tensor
    eyes_picture: Tensor
    synthesised: Tensor | None = None


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
        # each by itself: a gradient through one whole tensor would be copied as a whole for every part
        whole = [picture.clone() for picture in maps]
        for picture, part, (rows, columns) in zip(whole, parts, self._places(scale), strict=True):
            picture[:, rows, columns] = part
        return torch.stack(whole)


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


class MapSizedSPADE(nn.Module):
    """`SPADE` whose scale and shift are predicted at the size of the feature map and enlarged, instead of enlarging the
    map first: the same idea at a fraction of the work. Batch norm in place of instance norm lets a part of a picture be
    decoded as the whole would be.

    Args:
        channels: width of what is normalised.
        map_channels: width of the feature map.
        hidden: width of the layer between them.
    """

    def __init__(self, channels: int, map_channels: int, hidden: int):
        super().__init__()
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Conv2d(map_channels, hidden, 3, padding=1)
        self.gamma = OnePlusConv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, feature_map: Tensor) -> Tensor:
        hidden = F.relu(self.shared(feature_map))
        scales, shifts = self.gamma(hidden), self.beta(hidden)
        if scales.shape[2:] != x.shape[2:]:
            scales, shifts = F.interpolate(scales, size=x.shape[2:]), F.interpolate(shifts, size=x.shape[2:])
        return torch.addcmul(shifts, self.normalise(x), scales)


class DetailDecoder(CheckpointedBlocks):
    """A SPADE decoder that copies texture from the source picture and draws the opening of the mouth.

    The source picture and shallow features of its encoder, warped by the flow, join the last stages, so that what is
    drawn fits its surroundings. Nothing but what is between the lips is drawn, so that nothing else can go wrong on
    pictures unlike those of the training.
    """

    def __init__(
        self,
        features: int,
        channels: int,
        blocks: int,
        up_channels: tuple[int, ...],
        detail_channels: int,
        hidden: int,
        guide_channels: int = 0,
        refine_channels: tuple[int, ...] = (16,),
    ):
        super().__init__()
        self.stem = nn.Conv2d(features, channels, 3, padding=1)
        block = partial(SPADEBlock, map_channels=features, hidden=hidden, spade=MapSizedSPADE)
        self.middle = nn.ModuleList(block(channels, channels) for _ in range(blocks))
        widths = (channels, *up_channels)
        self.ups = nn.ModuleList(block(i, o) for i, o in zip(widths, up_channels, strict=False))
        self.merge = nn.Conv2d(widths[-1] + detail_channels + 13 + guide_channels, 48, 3, padding=1)
        self.refine = nn.Conv2d(12 + 4 + guide_channels, refine_channels[0], 3, padding=1)
        self.refine_more = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1) for i, o in zip(refine_channels, refine_channels[1:], strict=False)
        )
        self.to_rgb_and_mask = nn.Conv2d(refine_channels[-1], 4, 3, padding=1)  # the mask is no longer used

    @property
    def reach(self) -> int:
        """Cells of the feature map around a pixel that it depends on."""
        middle = 2 + 2 * len(self.middle)  # the first block's scale and shift look further than the stem
        ups = sum(2 * 0.5 ** (n + 1) for n in range(len(self.ups)))
        return math.ceil(middle + ups + 0.5 + (2 + len(self.refine_more)) * 0.25)  # merge; refine and to_rgb_and_mask

    def forward(
        self,
        feature_map: Tensor,
        warped_details: Tensor,
        warped_picture: Tensor,
        mouth: Tensor,
        hidden: Tensor,
        guide: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """For a feature map of (N, C, H, W):

        Args:
            warped_details: (N, C, 2H, 2W).
            warped_picture: (N, 3, 4H, 4W).
            mouth: (N, 1, 4H, 4W), 0 to 1, the opening of the mouth.
            hidden: (N, 1, 4H, 4W), 0 to 1, what of the mouth the portrait does not show.
            guide: (N, G, 4H, 4W), where the teeth are, of a decoder that has one (`mouth_guide`).

        Returns:
            the picture, and the synthesised picture before blending.
        """
        x = self.stem(feature_map)
        for block in self.middle:
            x = self._run(block, x, feature_map)
        for block in self.ups:
            x = self._run(block, F.interpolate(x, scale_factor=2), feature_map)
        # hidden from the network, so that lips stretched by the warp are never taken for a cavity
        visible = warped_picture * (1 - hidden)
        guides = () if guide is None else (guide,)
        parts = warped_details, F.pixel_unshuffle(visible, 2), *(F.avg_pool2d(part, 2) for part in (mouth, *guides))
        x = torch.cat([F.leaky_relu(x, 0.2), *(part.to(x.dtype) for part in parts)], 1)
        x = F.pixel_shuffle(F.leaky_relu(self.merge(x), 0.2), 2)
        x = torch.cat([x, *(part.to(x.dtype) for part in (visible, mouth, *guides))], 1)
        for refine in (self.refine, *self.refine_more):
            x = F.leaky_relu(refine(x), 0.2)
        synthesised = torch.sigmoid(self.to_rgb_and_mask(x).float()[:, :3])
        return warped_picture + mouth * (synthesised - warped_picture), synthesised


class DetailRenderer(ModelMixin, ConfigMixin):
    """Encodes the source, moves it to the driving keypoints, and draws what is between the lips.

    The emotional adaptation module `volume_eam` acts on the feature volume.

    Args:
        keypoints: K.
        rigid_keypoints: indices of keypoints that expressions hardly move, at least 4.
        inner_mouth: indices of the keypoints around the opening of the mouth, in order.
        encoder_channels: widths of the 2D encoder, whose first convolution works on 2x2 pixels at a time; each but the
            first halves the size.
        volume_channels, volume_depth, volume_blocks: the volume and the 3D residual blocks that refine it.
        guidance: width of the guidance embedding e.
        hourglass_channels: of the motion network.
        feature_channels: width of the flattened, warped features, which are the decoder's map.
        decoder_channels, decoder_blocks, up_channels, spade_hidden: of the decoder.
        detail_channels: width of the shallow features that are carried over.
        eyes: indices of the keypoints of the eyes, see `EyeDecoder`; none: they are moved, not drawn.
        teeth: of an arch, that a guide to where they are may show (`MouthGuide`); 0 for no guide.
        refine_channels: widths of the decoder's last layers, at the density of the picture.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["SPADEBlock"]

    @register_to_config
    def __init__(
        self,
        keypoints: int,
        rigid_keypoints: tuple[int, ...],
        inner_mouth: tuple[int, ...],
        encoder_channels: tuple[int, ...] = (32, 64),
        volume_channels: int = 24,
        volume_depth: int = 4,
        volume_blocks: int = 0,
        guidance: int = 128,
        hourglass_channels: tuple[int, ...] = (32, 64, 96, 128),
        feature_channels: int = 48,
        decoder_channels: int = 48,
        decoder_blocks: int = 2,
        up_channels: tuple[int, ...] = (48,),
        spade_hidden: int = 32,
        detail_channels: int = 16,
        teeth: int = 0,
        eyes: tuple[int, ...] = (),
        refine_channels: tuple[int, ...] = (16,),
    ):
        super().__init__()
        if len(rigid_keypoints) < 4 or len(inner_mouth) < 3:
            raise ValueError(
                f"At least 4 rigid_keypoints and 3 keypoints of the inner_mouth are needed, not {len(rigid_keypoints)} "
                f"and {len(inner_mouth)}."
            )
        flat = volume_channels * volume_depth
        self.volume_eam = EmotionalAdaptationModule(volume_channels, guidance)
        self.dense_motion = AffineDenseMotion(
            keypoints, rigid_keypoints, depth=volume_depth, channels=hourglass_channels
        )
        self.to_volume = nn.Conv2d(encoder_channels[-1], flat, 1)
        self.refine_volume = nn.Sequential(*(PreActivationBlock3d(volume_channels) for _ in range(volume_blocks)))
        self.stem = ConvNormReLU(12, encoder_channels[0])
        self.downs = nn.ModuleList(
            nn.Sequential(ConvNormReLU(i, o, stride=2), ResidualBlock2d(o))
            for i, o in zip(encoder_channels, encoder_channels[1:], strict=False)
        )
        self.to_details = nn.Conv2d(encoder_channels[0], detail_channels, 1)
        self.heat_features = nn.Conv2d(keypoints, 16, 1)
        self.flatten = ConvNormReLU(flat + 17, feature_channels, slope=0.01)
        self.decoder = DetailDecoder(
            feature_channels,
            decoder_channels,
            decoder_blocks,
            up_channels,
            detail_channels,
            spade_hidden,
            guide_channels=MouthGuide.channels if teeth else 0,
            refine_channels=refine_channels,
        )
        self.eye_decoder = EyeDecoder(eyes) if eyes else None
        self.mouth_guide = MouthGuide(keypoints, rigid_keypoints, teeth) if teeth else None

    @property
    def per_frame(self) -> tuple[nn.Module, ...]:
        """What runs once a frame without sizes that depend on data, and is worth compiling."""
        return self.dense_motion, self.flatten, self.decoder

    @apply_forward_hook
    def encode(self, pixel_values: Tensor) -> DetailFeatures:
        """Once per portrait: pixel_values (B, 3, 256, 256) in [0, 1], float32 whatever the network's precision."""
        x = self.stem(F.pixel_unshuffle(pixel_values.to(self.dtype), 2))
        details = self.to_details(x)
        for block in self.downs:
            x = block(x)
        volume = self.to_volume(x).unflatten(1, (-1, self.config.volume_depth))
        return DetailFeatures(volume=self.refine_volume(volume), picture=pixel_values, details=details)

    def move(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> AffineMotion:
        """The motion alone: picture (N, 3, 256, 256), keypoints (N, K, 3)."""
        return self.dense_motion(picture, source_keypoints, driving_keypoints)

    @apply_forward_hook
    def render(
        self,
        source: DetailFeatures,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
        crop: Crop | None = None,
    ) -> DetailRendererOutput:
        """Frames of encoded portraits.

        Args:
            source: from `encode`, B portraits.
            source_keypoints: K_s (B, K, 3).
            driving_keypoints: K_d (B, F, K, 3).
            guidance: e, (B, G) for the clip or (B, F, G) where it changes from frame to frame, or None (stage 1).
            crop: decode this part of every frame only, as if all of it were drawn, to train at a fraction of the cost.
        """
        clips, count = driving_keypoints.shape[:2]
        driving = driving_keypoints.flatten(0, 1)
        volume = modulate_per_frame(self.volume_eam, source.volume, guidance, count)
        motion = self.move(repeat_per_frame(source.picture, count), repeat_per_frame(source_keypoints, count), driving)
        size = motion.occlusion.shape[-1]
        # a cell for the soft rim of the mouth, another for the convolution that makes the feature map
        drawn = crop or Crop.around(self._mouth_polygon(driving), self.decoder.reach + 2, size)

        def cut(maps: Tensor) -> Tensor:
            return drawn.cut(maps, maps.shape[-1] // size)

        mouth = polygon_coverage(self._mouth_polygon(driving), 2 * size)
        small_mouth = F.avg_pool2d(mouth, 2)
        mouth = F.interpolate(mouth, scale_factor=2, mode="bilinear")
        feature_map = self._feature_map(volume, motion, self.dense_motion.heat(driving), small_mouth, cut)

        # where the portrait's own mouth is open, it shows teeth or a tongue that may be used
        own_mouth = polygon_coverage(self._mouth_polygon(source_keypoints), source.picture.shape[-1])
        pictures = repeat_per_frame(torch.cat([source.picture, own_mouth], 1), count)
        picture, shown = warp_picture(pictures, motion.displacement).split([3, 1], 1)
        details = warp_picture(repeat_per_frame(source.details.float(), count), motion.displacement, cut)
        eyes_picture = self._draw_eyes(picture, repeat_per_frame(source_keypoints, count), driving, size)
        guide = self._draw_guide(driving, picture, cut)
        frames, synthesised = self.decoder(
            feature_map, details, cut(eyes_picture), cut(mouth), cut(mouth * (1 - shown)), guide
        )
        if crop is None:
            whole = drawn.paste(frames, eyes_picture, picture.shape[-1] // size)
            output = {"frames": whole, "warped_picture": picture}
        else:
            output = {"frames": frames, "warped_picture": cut(picture), "synthesised": synthesised}
        output |= {"eyes_picture": eyes_picture, **motion}
        return DetailRendererOutput(**{name: value.unflatten(0, (clips, count)) for name, value in output.items()})

    def _feature_map(
        self, volume: Tensor, motion: AffineMotion, heat: Tensor, mouth: Tensor, cut: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The part that `cut` keeps of the warped volume, flattened, with where keypoints and the mouth are."""
        dtype = volume.dtype
        deformation = cut(motion.deformation.movedim(-1, 1).flatten(1, 2)).unflatten(1, (3, -1)).movedim(1, -1)
        warped = F.grid_sample(volume.float(), deformation, padding_mode="border", align_corners=False)
        parts = warped.flatten(1, 2).to(dtype), self.heat_features(cut(heat).to(dtype)), cut(mouth).to(dtype)
        return self.flatten(torch.cat(parts, 1)) * cut(motion.occlusion).to(dtype)

    def _draw_eyes(self, picture: Tensor, source: Tensor, driving: Tensor, cells: int) -> Tensor:
        """picture (N, 3, H, W), moved already; keypoints (N, K, 3); cells across the feature map."""
        if self.eye_decoder is None:
            return picture
        with torch.autocast(picture.device.type, enabled=False):
            band = Crop.around(self.eye_decoder.band(driving.float()), 1, cells)
            scale = picture.shape[-1] // cells
            grid = pixel_grid(*picture.shape[2:], like=picture.float()).movedim(-1, 0)
            places = band.cut(grid.expand(len(driving), -1, -1, -1), scale).movedim(1, -1)
            maps, where = self.eye_decoder.maps(source.float(), driving.float(), places)
        return band.paste(self.eye_decoder(band.cut(picture, scale), maps, where), picture, scale)

    def _draw_guide(self, keypoints: Tensor, picture: Tensor, cut: Callable[[Tensor], Tensor]) -> Tensor | None:
        if self.mouth_guide is None:
            return None
        with torch.autocast(picture.device.type, enabled=False):
            grid = pixel_grid(*picture.shape[2:], like=picture.float()).movedim(-1, 0)
            places = cut(grid.expand(len(keypoints), -1, -1, -1)).movedim(1, -1)
            return self.mouth_guide.draw(self.mouth_guide.points(keypoints.float()), places)

    def _mouth_polygon(self, keypoints: Tensor) -> Tensor:
        """Keypoints (N, K, 3) -> (N, P, 2), the opening of the mouth."""
        return keypoints[:, list(self.config.inner_mouth), :2]

    def forward(
        self,
        pixel_values: Tensor,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
    ) -> DetailRendererOutput:
        """`encode` and `render` in one: pixel_values (B, 3, 256, 256) in [0, 1]."""
        return self.render(self.encode(pixel_values), source_keypoints, driving_keypoints, guidance)
