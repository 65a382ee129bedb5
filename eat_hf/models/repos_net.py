"""RePos-Net, the renderer (paper section 3.1): source picture and keypoints -> frames."""

from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from .dense_motion import DenseMotion
from .eam import EmotionalAdaptationModule, modulate_per_frame
from .layers import ConvNormReLU, PreActivationBlock3d, repeat_per_frame
from .spade import SPADEDecoder


@dataclass
class SourceFeatures(BaseOutput):
    """What a renderer keeps of a portrait, so that it is encoded once for all frames.

    Attributes:
        volume: (B, C, D, H, W) feature volume before the emotional adaptation.
    """

    volume: Tensor


@dataclass
class RePosNetOutput(BaseOutput):
    """Attributes (B clips of F frames):
    frames: (B, F, 3, 256, 256) in [0, 1].
    deformation: (B, F, D, H, W, 3), occlusion: (B, F, 1, H, W), mask: (B, F, K + 1, D, H, W), see `MotionField`.
    """

    frames: Tensor
    deformation: Tensor
    occlusion: Tensor
    mask: Tensor


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
    """

    largest_frames = 256  # side of the frames, the portrait's
    _supports_gradient_checkpointing = True
    _no_split_modules = ["SPADEBlock", "PreActivationBlock3d", "ConvNormReLU"]

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
    ):
        super().__init__()
        flat = volume_channels * volume_depth
        self.stem = ConvNormReLU(3, encoder_channels[0])
        self.downs = nn.ModuleList(
            ConvNormReLU(i, o) for i, o in zip(encoder_channels, encoder_channels[1:], strict=False)
        )
        self.to_volume = nn.Conv2d(encoder_channels[-1], flat, 1)
        self.refine_volume = nn.Sequential(*(PreActivationBlock3d(volume_channels) for _ in range(volume_blocks)))
        self.volume_eam = EmotionalAdaptationModule(volume_channels, guidance)
        self.dense_motion = DenseMotion(volume_channels, volume_depth, keypoints, compress_channels, hourglass_channels)
        self.flatten = ConvNormReLU(flat, feature_channels, slope=0.01)
        self.project = nn.Conv2d(feature_channels, feature_channels, 1)
        self.decoder = SPADEDecoder(feature_channels, decoder_channels, decoder_blocks, up_channels, spade_hidden)

    @property
    def per_frame(self) -> tuple[nn.Module, ...]:
        """What runs once a frame without sizes that depend on data, and is worth compiling."""
        return self.dense_motion, self.flatten, self.decoder

    @apply_forward_hook
    def encode(self, pixel_values: Tensor) -> SourceFeatures:
        """Once per portrait: pixel_values (B, 3, 256, 256) in [0, 1], float32 whatever the network's precision."""
        x = self.stem(pixel_values.to(self.dtype))
        for block in self.downs:
            x = F.avg_pool2d(block(x), 2)
        volume = self.to_volume(x).unflatten(1, (-1, self.config.volume_depth))
        return SourceFeatures(volume=self.refine_volume(volume))

    @apply_forward_hook
    def render(
        self,
        source: SourceFeatures,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
    ) -> RePosNetOutput:
        """Frames of encoded portraits.

        Args:
            source: from `encode`, B portraits.
            source_keypoints: K_s (B, K, 3).
            driving_keypoints: K_d (B, F, K, 3).
            guidance: e, (B, G) for the clip or (B, F, G) where it changes from frame to frame, or None (stage 1).
        """
        clips, count = driving_keypoints.shape[:2]
        volume = modulate_per_frame(self.volume_eam, source.volume, guidance, count)
        motion = self.dense_motion(volume, repeat_per_frame(source_keypoints, count), driving_keypoints.flatten(0, 1))
        warped = F.grid_sample(volume.float(), motion.deformation, align_corners=False).flatten(1, 2).to(volume.dtype)
        feature_map = self.project(self.flatten(warped)) * motion.occlusion.to(volume.dtype)
        output = {**motion, "frames": self.decoder(feature_map).float()}
        return RePosNetOutput(**{name: value.unflatten(0, (clips, count)) for name, value in output.items()})

    def forward(
        self,
        pixel_values: Tensor,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
    ) -> RePosNetOutput:
        """`encode` and `render` in one: pixel_values (B, 3, 256, 256) in [0, 1]."""
        return self.render(self.encode(pixel_values), source_keypoints, driving_keypoints, guidance)
