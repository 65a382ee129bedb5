"""RePos-Net, the renderer (paper section 3.1): source picture and keypoints -> frames."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from .dense_motion import DenseMotion, MotionField
from .detail_renderer import AffineDenseMotion, Crop, DetailDecoder, polygon_coverage, warp_picture
from .eam import EmotionalAdaptationModule
from .layers import ConvNormReLU, ResidualBlock2d, pixel_grid, repeat_per_frame
from .spade import SPADEDecoder


@dataclass
class SourceFeatures(BaseOutput):
    """What RePos-Net keeps of a portrait, so that it is encoded once for all frames.

    Attributes:
        volume: (B, C, D, H, W) feature volume before the emotional adaptation.
        picture: (B, 3, 256, 256) the portrait itself.
        details: (B, C, 128, 128) shallow features (extension `detail_skip` only).
    """

    volume: Tensor
    picture: Tensor
    details: Tensor | None = None


@dataclass
class RePosNetOutput(BaseOutput):
    """Attributes (B clips of F frames):
    frames: (B, F, 3, 256, 256) in [0, 1].
    deformation: (B, F, D, H, W, 3) and occlusion: (B, F, 1, H, W), see `MotionField`.
    mask: (B, F, K + 1, D, H, W), published network only.
    displacement, warped_picture: extensions only.
    synthesised, mask_logits: for training; with `redraw="mouth"` only where a crop was asked for.
    """

    frames: Tensor
    deformation: Tensor
    occlusion: Tensor
    mask: Tensor | None = None
    displacement: Tensor | None = None
    warped_picture: Tensor | None = None
    synthesised: Tensor | None = None
    mask_logits: Tensor | None = None


class PreActivationBlock3d(nn.Module):
    """BN, ReLU, 3x3x3 convolution, twice, plus the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class RePosNet(ModelMixin, ConfigMixin):
    """Encodes the source as a feature volume, moves it to the driving keypoints and decodes it.

    The defaults are the official network. The emotional adaptation module `volume_eam` acts on the volume.

    Args:
        keypoints: K.
        encoder_channels: widths of the 2D encoder; each but the first halves the size.
        volume_channels, volume_depth, volume_blocks: the volume and the 3D residual blocks that refine it.
        guidance: width of the guidance embedding e.
        compress_channels, hourglass_channels: of the dense motion network.
        feature_channels: width of the flattened, warped features, which are the SPADE decoder's map.
        decoder_channels, decoder_blocks, up_channels, spade_hidden: of the SPADE decoder.
        affine_motion: extension, `AffineDenseMotion` in place of `DenseMotion`; needs `rigid_keypoints`.
        rigid_keypoints: indices of keypoints that expressions hardly move.
        detail_skip: extension, `DetailDecoder` in place of `SPADEDecoder`; needs `affine_motion` (for its 2D flow) and
            `inner_mouth`. The first convolution then works on 2x2 pixels at a time.
        detail_channels: width of the shallow features that are carried over.
        inner_mouth: indices of the keypoints around the opening of the mouth, in order.
        redraw: where `detail_skip` may draw instead of copying: "anywhere", as its mask decides, or "mouth", only
            between the lips, so that nothing else can go wrong on pictures unlike those of the training; then only
            that part of the frame is decoded, for the rest is known.
    """

    @register_to_config
    def __init__(
        self,
        keypoints: int = 15,
        encoder_channels: tuple[int, ...] = (64, 128, 256),
        volume_channels: int = 32,
        volume_depth: int = 16,
        volume_blocks: int = 6,
        guidance: int = 128,
        compress_channels: int = 4,
        hourglass_channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        feature_channels: int = 256,
        decoder_channels: int = 512,
        decoder_blocks: int = 6,
        up_channels: tuple[int, ...] = (256, 64),
        spade_hidden: int = 128,
        affine_motion: bool = False,
        rigid_keypoints: tuple[int, ...] = (),
        detail_skip: bool = False,
        detail_channels: int = 16,
        inner_mouth: tuple[int, ...] = (),
        redraw: Literal["anywhere", "mouth"] = "anywhere",
    ):
        super().__init__()
        flat = volume_channels * volume_depth
        if detail_skip and not (affine_motion and inner_mouth):
            raise ValueError("detail_skip needs affine_motion=True and the indices inner_mouth.")
        if affine_motion and len(rigid_keypoints) < 4:
            raise ValueError(f"affine_motion needs at least 4 rigid_keypoints, not {len(rigid_keypoints)}.")
        self.volume_eam = EmotionalAdaptationModule(volume_channels, guidance)
        if affine_motion:
            self.dense_motion: nn.Module = AffineDenseMotion(
                keypoints, rigid_keypoints, depth=volume_depth, channels=hourglass_channels
            )
        else:
            self.dense_motion = DenseMotion(
                volume_channels, volume_depth, keypoints, compress_channels, hourglass_channels
            )
        self.to_volume = nn.Conv2d(encoder_channels[-1], flat, 1)
        self.refine_volume = nn.Sequential(*(PreActivationBlock3d(volume_channels) for _ in range(volume_blocks)))
        if detail_skip:
            self.stem = ConvNormReLU(12, encoder_channels[0])
            self.downs = nn.ModuleList(
                nn.Sequential(ConvNormReLU(i, o, stride=2), ResidualBlock2d(o))
                for i, o in zip(encoder_channels, encoder_channels[1:], strict=False)
            )
            self.to_details = nn.Conv2d(encoder_channels[0], detail_channels, 1)
            self.heat_features = nn.Conv2d(keypoints, 16, 1)
            self.flatten = ConvNormReLU(flat + 17, feature_channels, slope=0.01)
            self.decoder: nn.Module = DetailDecoder(
                feature_channels,
                decoder_channels,
                decoder_blocks,
                up_channels,
                detail_channels,
                hidden=spade_hidden,
                modulate_at_map_size=True,
                batch_norm=True,
            )
        else:
            self.stem = ConvNormReLU(3, encoder_channels[0])
            self.downs = nn.ModuleList(
                ConvNormReLU(i, o) for i, o in zip(encoder_channels, encoder_channels[1:], strict=False)
            )
            self.flatten = ConvNormReLU(flat, feature_channels, slope=0.01)
            self.project = nn.Conv2d(feature_channels, feature_channels, 1)
            self.decoder = SPADEDecoder(
                feature_channels, decoder_channels, decoder_blocks, up_channels, hidden=spade_hidden
            )

    def encode(self, pixel_values: Tensor) -> SourceFeatures:
        """Once per portrait: pixel_values (B, 3, 256, 256) in [0, 1], float32 whatever the network's precision."""
        details = None
        x = pixel_values.to(self.dtype)
        if self.config.detail_skip:
            x = self.stem(F.pixel_unshuffle(x, 2))
            details = self.to_details(x)
            for block in self.downs:
                x = block(x)
        else:
            x = self.stem(x)
            for block in self.downs:
                x = F.avg_pool2d(block(x), 2)
        volume = self.to_volume(x).unflatten(1, (-1, self.config.volume_depth))
        return SourceFeatures(volume=self.refine_volume(volume), picture=pixel_values, details=details)

    def adapt(self, source: SourceFeatures, guidance: Tensor | None, frames: int) -> Tensor:
        """The emotional volume of every frame, (B * F, C, D, H, W), for guidance (B, G), (B, F, G) or None."""
        if guidance is not None and guidance.dim() == 3:
            return self.volume_eam(repeat_per_frame(source.volume, frames), guidance.flatten(0, 1))
        return repeat_per_frame(self.volume_eam(source.volume, guidance), frames)

    def render(
        self,
        source: SourceFeatures,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
        crop: Crop | None = None,
    ) -> RePosNetOutput:
        """Frames of encoded portraits.

        Args:
            source: from `encode`, B portraits.
            source_keypoints: K_s (B, K, 3).
            driving_keypoints: K_d (B, F, K, 3).
            guidance: e, (B, G) for the clip or (B, F, G) where it changes from frame to frame, or None (stage 1).
            crop: decode this part of every frame only, to train at a fraction of the cost (`detail_skip` only).
        """
        clips, count = driving_keypoints.shape[:2]
        volume = self.adapt(source, guidance, count)
        driving = driving_keypoints.flatten(0, 1)
        moving = repeat_per_frame(source_keypoints, count)
        if self.config.affine_motion:
            field = self.move(repeat_per_frame(source.picture, count), moving, driving)
        else:
            field = self.dense_motion(volume, moving, driving)
        if self.config.detail_skip:
            output = self._decode_with_details(source, volume, field, source_keypoints, driving, crop)
        else:
            warped = self.project(self.flatten(self._warp_volume(volume, field.deformation)))
            output = {**field, "frames": self.decoder(warped * field.occlusion.to(warped.dtype)).float()}
        return RePosNetOutput(**{name: value.unflatten(0, (clips, count)) for name, value in output.items()})

    def move(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> MotionField:
        """The motion of the extension `affine_motion` alone: picture (N, 3, 256, 256), keypoints (N, K, 3)."""
        return self.dense_motion(picture, source_keypoints, driving_keypoints)

    def _warp_volume(self, volume: Tensor, deformation: Tensor) -> Tensor:
        padding = "border" if self.config.affine_motion else "zeros"
        warped = F.grid_sample(volume.float(), deformation, padding_mode=padding, align_corners=False)
        return warped.flatten(1, 2).to(volume.dtype)

    def _mouth_polygon(self, keypoints: Tensor) -> Tensor:
        """Keypoints (N, K, 3) -> (N, P, 2), the opening of the mouth."""
        return keypoints[:, list(self.config.inner_mouth), :2]

    def _decode_with_details(
        self,
        source: SourceFeatures,
        volume: Tensor,
        field: MotionField,
        source_keypoints: Tensor,
        driving: Tensor,
        crop: Crop | None,
    ) -> dict[str, Tensor]:
        assert isinstance(self.decoder, DetailDecoder)  # as this configuration always has it, and what follows
        assert source.details is not None and field.displacement is not None
        count = len(driving) // len(source.picture)
        size = field.occlusion.shape[-1]
        mouth_only = self.config.redraw == "mouth"
        whole = crop is None and mouth_only  # a frame is asked for, and a part of it needs to be drawn
        if whole:
            # a cell for the soft rim of the mouth, another for the convolution that makes the feature map
            crop = Crop.around(self._mouth_polygon(driving), self.decoder.reach + 2, size)

        def cut(maps: Tensor) -> Tensor:
            return maps if crop is None else crop.cut(maps, maps.shape[-1] // size)

        grid, dtype = pixel_grid(size, like=driving).squeeze(-1), volume.dtype
        heat_x, heat_y = (
            torch.exp(-0.5 * ((grid - driving[..., i : i + 1]) / AffineDenseMotion.HEAT_WIDTH).square()) for i in (0, 1)
        )
        heat = cut(heat_y.unsqueeze(-1) * heat_x.unsqueeze(-2))
        mouth = polygon_coverage(self._mouth_polygon(driving), 2 * size)
        small_mouth = cut(F.avg_pool2d(mouth, 2))
        mouth = F.interpolate(mouth, scale_factor=2, mode="bilinear")

        deformation = cut(field.deformation.movedim(-1, 1).flatten(1, 2)).unflatten(1, (3, -1)).movedim(1, -1)
        occlusion = cut(field.occlusion).to(dtype)
        warped = self._warp_volume(volume, deformation)
        shape = self.heat_features(heat.to(dtype)), small_mouth.to(dtype)
        feature_map = self.flatten(torch.cat([warped, *shape], 1)) * occlusion

        # where the portrait's own mouth is open, it shows teeth or a tongue that may be used
        own_mouth = polygon_coverage(self._mouth_polygon(source_keypoints), source.picture.shape[-1])
        pictures = repeat_per_frame(torch.cat([source.picture, own_mouth], 1), count)
        picture, shown = warp_picture(pictures, field.displacement).split([3, 1], 1)
        details = warp_picture(repeat_per_frame(source.details.float(), count), field.displacement, cut)
        frames, synthesised, logits = self.decoder(
            feature_map, details, cut(picture), cut(mouth), cut(mouth * (1 - shown)), mouth_only
        )
        drawn = {} if whole else {"synthesised": synthesised, "mask_logits": logits}
        if whole and crop is not None:
            frames = crop.paste(frames, picture, picture.shape[-1] // size)
        return {**field, "frames": frames, "warped_picture": picture if whole else cut(picture), **drawn}

    def forward(
        self,
        pixel_values: Tensor,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
    ) -> RePosNetOutput:
        """`encode` and `render` in one: pixel_values (B, 3, 256, 256) in [0, 1]."""
        return self.render(self.encode(pixel_values), source_keypoints, driving_keypoints, guidance)
