"""The bundled renderer: the portrait is moved as a whole, at its own resolution; mouth and eyes are drawn on patches.

Named extensions of RePos-Net (`repos_net`) for keypoints that sit on features of the face: motion is affine plus
residuals (`affine_motion`), so texture is copied from the portrait, and only what it cannot show is decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from . import eye_decoder, mouth_decoder
from .affine_motion import AffineDenseMotion, AffineMotion
from .eam import EmotionalAdaptationModule, modulate_per_frame
from .eye_decoder import EyeDecoder
from .layers import ConvNormReLU, PreActivationBlock3d, ResidualBlock2d, for_convolutions, pixel_grid, repeat_per_frame
from .lips import lip_motion
from .mouth_decoder import MouthDecoder
from .patches import PatchPlane, sample
from .repos_net import SourceFeatures

SIZE = 256  # of what the networks look at, whatever the portrait's own
Some = Tensor | slice  # numbers (n,) of frames
PARTS = "eyes", "mouth"  # of a face that are drawn, in the order they are laid into frames


@dataclass
class DetailFeatures(SourceFeatures):
    """What the renderer keeps of a portrait, so that it is encoded once for all frames.

    Attributes:
        volume: (B, C, D, H, W) feature volume before the emotional adaptation.
        picture: (B, 3, S, S) the portrait itself.
        thumbnail: (B, 3, 64, 64), what the motion network sees of it.
    """

    volume: Tensor
    picture: Tensor
    thumbnail: Tensor


@dataclass
class DetailRendererOutput(BaseOutput):
    """Attributes (B clips of F frames):
    frames: (B, F, 3, S, S) in [0, 1].
    deformation: (B, F, D, H, W, 3), occlusion: (B, F, 1, H, W), displacement: (B, F, 2, H, W), see `AffineMotion`.
    warped_picture: (B, F, 3, S, S), the portrait moved by the displacement.
    """

    frames: Tensor
    deformation: Tensor
    occlusion: Tensor
    displacement: Tensor
    warped_picture: Tensor


@dataclass
class Drawing:
    """A part of N faces as it is drawn, for training and for laying it into frames.

    Attributes:
        plane: where it lies.
        places: (N, h, w, 2) of its pixels in the frame.
        moved: (N, 3, h, w), the moved portrait there.
        drawn: (N, 3, h, w) in [0, 1].
        mask: (N, 1, h, w) in [0, 1], where `drawn` shows.
    """

    plane: PatchPlane
    places: Tensor
    moved: Tensor
    drawn: Tensor
    mask: Tensor

    def paste(self, frames: Tensor) -> Tensor:
        """Into the frames (M, 3, S, S), which it is in one or more parts of each: N is a multiple of M."""
        for part in range(each := self.mask.shape[0] // frames.shape[0]):
            one = slice(part, None, each)
            frames = self.plane.of(one).paste(self.drawn[one], self.mask[one], frames)
        return frames


@dataclass
class MovedFaces:
    """N frames of portraits that are moved.

    Attributes:
        picture: (N, 3, S, S), the portrait of each.
        own, driving: keypoints (N, K, 3) of the portrait and of the frame, float32.
        motion: between them.
        mouth: where the patch of the mouth lies.
    """

    picture: Tensor
    own: Tensor
    driving: Tensor
    motion: AffineMotion
    mouth: PatchPlane

    def of(self, numbers: Some) -> "MovedFaces":
        """Frames of some numbers."""
        motion = AffineMotion(**{name: value[numbers] for name, value in self.motion.items()})
        return MovedFaces(
            self.picture[numbers], self.own[numbers], self.driving[numbers], motion, self.mouth.of(numbers)
        )


def warp_picture(picture: Tensor, displacement: Tensor, features: Tensor | None = None) -> Tensor:
    """Fetch each pixel of (N, C, H, W) from where `displacement` (N, 2, h, w), and `features` (N, 2, H, W) in addition,
    point to."""
    flow = F.interpolate(displacement, size=picture.shape[2:], mode="bilinear")
    if features is not None:
        flow = flow + features
    where = flow + pixel_grid(*picture.shape[2:], like=picture).movedim(-1, 0)
    return sample(picture, where.movedim(1, -1))


def _lay(frames: Tensor, seen: Tensor, draw: Callable[[Some], Drawing]) -> Tensor:
    """Draw a part of the faces, given numbers of frames, into those of N frames in which it can be seen, (N,) bool."""
    # a GPU would have to be waited for, and a graph does not choose
    if frames.device.type != "cpu" or torch.onnx.is_in_onnx_export() or bool(seen.all()):
        return draw(slice(None)).paste(frames)
    numbers = seen.nonzero()[:, 0]
    if not len(numbers):
        return frames
    return frames.index_copy(0, numbers, draw(numbers).paste(frames[numbers]))


def _fetched_from(motion: AffineMotion, places: Tensor) -> Tensor:
    """Where in the portraits what frames show at places (N, h, w, 2) comes from: (N, h, w, 2)."""
    return places + sample(motion.displacement, places).movedim(1, -1)


class DetailRenderer(ModelMixin, ConfigMixin):
    """Encodes the source, moves it to the driving keypoints, and draws eyes and what is between the lips.

    The emotional adaptation module `volume_eam` acts on the feature volume. Frames are as large as the portrait.

    Args:
        keypoints: K.
        rigid_keypoints: indices of keypoints that expressions hardly move, at least 4.
        inner_mouth: indices of the keypoints around the opening of the mouth, clockwise from its left corner: an even
            number, at least 4, half of them above the other half.
        outer_mouth: as many around the lips, with the same corners; none: lips are as thick as the portrait's.
        eyes: indices of the keypoints of the eyes, see `EyeDecoder`; none: they are moved, not drawn.
        teeth: of an arch, that a guide shows where to draw (`MouthGuide`).
        encoder_channels: widths of the 2D encoder, whose first convolution works on 2x2 pixels at a time; each but the
            first halves the size.
        volume_channels, volume_depth, volume_blocks: the volume and the 3D residual blocks that refine it.
        guidance: width of the guidance embedding e.
        hourglass_channels: of the motion network.
        feature_channels: width of the flattened, warped features, which the mouth is drawn from.
        mouth_channels, mouth_details: of the `MouthDecoder`.
        eye_channels: of the `EyeDecoder`.
    """

    largest_frames = 1024  # side of the frames, the portrait's
    _supports_gradient_checkpointing = True
    _no_split_modules = ["ConvNormReLU"]

    @register_to_config
    def __init__(
        self,
        keypoints: int,
        rigid_keypoints: tuple[int, ...],
        inner_mouth: tuple[int, ...],
        outer_mouth: tuple[int, ...] = (),
        eyes: tuple[int, ...] = (),
        teeth: int = 10,
        encoder_channels: tuple[int, ...] = (32, 64),
        volume_channels: int = 24,
        volume_depth: int = 4,
        volume_blocks: int = 0,
        guidance: int = 128,
        hourglass_channels: tuple[int, ...] = (32, 64, 96, 128),
        feature_channels: int = 48,
        mouth_channels: tuple[int, ...] = (32, 48, 64, 96),
        mouth_details: int = 16,
        eye_channels: int = 24,
    ):
        super().__init__()
        if len(rigid_keypoints) < 4 or len(inner_mouth) < 4 or len(inner_mouth) % 2:
            raise ValueError(
                f"At least 4 rigid_keypoints and 4 keypoints of the inner_mouth, an even number, are needed, not "
                f"{len(rigid_keypoints)} and {len(inner_mouth)}."
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
        self.flatten = ConvNormReLU(flat, feature_channels, slope=0.01)
        self.mouth_decoder = MouthDecoder(
            keypoints, rigid_keypoints, inner_mouth, teeth, feature_channels, mouth_channels, mouth_details
        )
        self.eye_decoder = EyeDecoder(eyes, eye_channels) if eyes else None

    @property
    def per_frame(self) -> tuple[nn.Module, ...]:
        """What runs once a frame without sizes that depend on data, and is worth compiling."""
        parts = self.dense_motion, self.flatten, self.mouth_decoder, self.eye_decoder
        return tuple(part for part in parts if part is not None)

    @apply_forward_hook
    def encode(self, pixel_values: Tensor) -> DetailFeatures:
        """Once per portrait: pixel_values (B, 3, S, S) in [0, 1], S at least 256, float32 whatever the network's
        precision."""
        seen = F.adaptive_avg_pool2d(pixel_values, SIZE)
        x = self.stem(F.pixel_unshuffle(seen.to(self.dtype), 2))
        for block in self.downs:
            x = block(x)
        volume = self.to_volume(x).unflatten(1, (-1, self.config.volume_depth))
        thumbnail = F.adaptive_avg_pool2d(pixel_values, self.dense_motion.size)
        return DetailFeatures(volume=self.refine_volume(volume), picture=pixel_values, thumbnail=thumbnail)

    def move(self, picture: Tensor, source_keypoints: Tensor, driving_keypoints: Tensor) -> AffineMotion:
        """The motion alone: picture (N, 3, S, S), keypoints (N, K, 3)."""
        return self.dense_motion(picture, source_keypoints, driving_keypoints)

    def draw(
        self,
        source: DetailFeatures,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
        motion: AffineMotion | None = None,
        teeth: Tensor | None = None,
        parts: Sequence[str] = PARTS,
    ) -> dict[str, Drawing]:
        """What is drawn of every frame, by part, in the order it is laid into frames. Arguments are those of `render`.

        Args:
            motion: of the frames, if it is known already.
            teeth: points of the arches (N, P, 3), if they are known; else they follow from the keypoints.
            parts: what to draw of the eyes, if this renderer does, and the mouth.
        """
        count = driving_keypoints.shape[1]
        faces = self._moved_faces(source, source_keypoints, driving_keypoints, motion)
        drawings = {}
        if "eyes" in parts and self.eye_decoder is not None:
            drawings["eyes"] = self._draw_eyes(self.eye_decoder, faces)
        if "mouth" in parts:
            volume = modulate_per_frame(self.volume_eam, source.volume, guidance, count)
            drawings["mouth"] = self._draw_mouth(volume, faces, teeth)
        return drawings

    def _moved_faces(
        self,
        source: DetailFeatures,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        motion: AffineMotion | None = None,
    ) -> MovedFaces:
        """B portraits, keypoints (B, K, 3) and (B, F, K, 3) -> B * F frames."""
        count = driving_keypoints.shape[1]
        driving, own = driving_keypoints.flatten(0, 1).float(), repeat_per_frame(source_keypoints, count).float()
        if motion is None:
            motion = self.move(repeat_per_frame(source.thumbnail, count), own, driving)
        picture = repeat_per_frame(source.picture, count)
        return MovedFaces(picture, own, driving, motion, self.mouth_decoder.plane(driving))

    def _draw_eyes(self, decoder: EyeDecoder, faces: MovedFaces, turned: Tensor | None = None) -> Drawing:
        plane, (maps, where) = decoder.plane(faces.driving), decoder.maps(faces.own, faces.driving)
        places = plane.places(eye_decoder.HEIGHT, eye_decoder.WIDTH)
        fetched = _fetched_from(faces.motion, places.unflatten(0, (-1, 2)).flatten(1, 2))
        fetched = fetched.unflatten(1, (2, -1)).flatten(0, 1)
        unfolded, closing = decoder.unfold(faces.own, faces.driving)
        turned = decoder.turn(faces.own, faces.driving) if turned is None else turned
        fetched = fetched + closing * (unfolded - fetched) + turned.movedim(1, -1)
        # both patches of a frame from its portrait at once
        moved = sample(faces.picture, fetched.unflatten(0, (-1, 2)).flatten(1, 2))
        moved = moved.unflatten(2, (2, -1)).movedim(2, 1).flatten(0, 1)
        return Drawing(plane, places, moved, decoder(moved, maps), where)

    def _draw_mouth(
        self,
        volume: Tensor,
        faces: MovedFaces,
        teeth: Tensor | None = None,
        lips: Tensor | None = None,
        opening: Tensor | None = None,
    ) -> Drawing:
        """With the volume of every frame, (N, C, D, H, W)."""
        mouth, plane = self.mouth_decoder, faces.mouth
        places = plane.places(mouth_decoder.HEIGHT, mouth_decoder.WIDTH)
        lips = self._move_lips(faces) if lips is None else lips
        where = _fetched_from(faces.motion, places) + lips.movedim(1, -1)
        moved = sample(faces.picture, where)
        opening = mouth.opening(faces.driving, places) if opening is None else opening
        # where the portrait's own mouth is open, it shows teeth or a tongue that may be used
        shown = mouth.shown(faces.own, where)
        coarse = plane.places(mouth_decoder.HEIGHT // 4, mouth_decoder.WIDTH // 4)
        features = self._features(volume, faces.motion, coarse)
        teeth = mouth.guide.points(faces.driving) if teeth is None else teeth
        return Drawing(plane, places, moved, mouth(moved, opening, shown, teeth, places, features), opening)

    @apply_forward_hook
    def render(
        self,
        source: DetailFeatures,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
    ) -> DetailRendererOutput:
        """Frames of encoded portraits.

        Args:
            source: from `encode`, B portraits.
            source_keypoints: K_s (B, K, 3).
            driving_keypoints: K_d (B, F, K, 3).
            guidance: e, (B, G) for the clip or (B, F, G) where it changes from frame to frame, or None (stage 1).
        """
        clips, count = driving_keypoints.shape[:2]
        faces = self._moved_faces(source, source_keypoints, driving_keypoints)
        decoder = self.eye_decoder
        turned = None if decoder is None else decoder.turn(faces.own, faces.driving)
        lips = self._move_lips(faces)
        features = self._move_features(faces, lips, turned)
        warped = frames = warp_picture(faces.picture, faces.motion.displacement, features)
        if decoder is not None and turned is not None:
            seen = decoder.changed(faces.own, faces.driving).any(1)
            both = turned.unflatten(0, (-1, 2))
            frames = _lay(frames, seen, lambda some: self._draw_eyes(decoder, faces.of(some), both[some].flatten(0, 1)))
        volume = modulate_per_frame(self.volume_eam, source.volume, guidance, count)
        places = faces.mouth.places(mouth_decoder.HEIGHT, mouth_decoder.WIDTH)
        opening = self.mouth_decoder.opening(faces.driving, places)
        frames = _lay(
            frames,
            opening.flatten(1).any(1),
            lambda some: self._draw_mouth(volume[some], faces.of(some), None, lips[some], opening[some]),
        )
        output = {**faces.motion, "frames": frames, "warped_picture": warped}
        return DetailRendererOutput(**{name: value.unflatten(0, (clips, count)) for name, value in output.items()})

    def _move_lips(self, faces: MovedFaces) -> Tensor:
        """What lips add to where their patch comes from: (N, 2, h, w)."""
        mouth, around = self.mouth_decoder, list(self.config.outer_mouth)

        def missing(own: Tensor, driving: Tensor) -> Tensor:
            return own - _fetched_from(faces.motion, driving[:, None])[:, 0]

        inner = outer = faces.driving[:, mouth.inner_mouth, :2]
        inner_missing = outer_missing = missing(mouth.own_lips(faces.own), inner)
        if around:
            outer = faces.driving[:, around, :2]
            outer_missing = missing(faces.own[:, around, :2], outer)
        size = mouth_decoder.HEIGHT, mouth_decoder.WIDTH
        return lip_motion(faces.mouth, inner, outer, inner_missing, outer_missing, *size)

    def _move_features(self, faces: MovedFaces, lips: Tensor, turned: Tensor | None) -> Tensor:
        """What lips, and eyes that turn, add to the displacement of the pictures, on their patches: (N, 2, H, W)."""
        flow = lips.new_zeros(lips.shape[0], 2, *faces.picture.shape[2:])
        # where lips meet, the mean of where both come from would be the teeth between them
        flow = faces.mouth.paste(lips, torch.ones_like(lips[:, :1]), flow, "nearest")
        if self.eye_decoder is None or turned is None:
            return flow
        plane = self.eye_decoder.plane(faces.driving)
        for eye in range(2):
            one = slice(eye, None, 2)
            flow = plane.of(one).paste(turned[one], torch.ones_like(turned[one, :1]), flow)
        return flow

    def _features(self, volume: Tensor, motion: AffineMotion, places: Tensor) -> Tensor:
        """The warped volume at places (N, h, w, 2) of the frames, flattened."""
        deformation = sample(motion.deformation.movedim(-1, 1).flatten(1, 2), places)
        deformation = deformation.unflatten(1, (3, -1)).movedim(1, -1)
        warped = F.grid_sample(volume.float(), deformation, padding_mode="border", align_corners=False)
        features = self.flatten(for_convolutions(warped.flatten(1, 2).to(volume.dtype)))
        return features * sample(motion.occlusion, places).to(volume.dtype)

    def forward(
        self,
        pixel_values: Tensor,
        source_keypoints: Tensor,
        driving_keypoints: Tensor,
        guidance: Tensor | None = None,
    ) -> DetailRendererOutput:
        """`encode` and `render` in one: pixel_values (B, 3, S, S) in [0, 1]."""
        return self.render(self.encode(pixel_values), source_keypoints, driving_keypoints, guidance)
