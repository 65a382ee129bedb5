"""Audio-to-Expression Transformer (paper section 3.1): speech, sound and head pose become expression coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ..keypoints import degrees_to_radians, expected_bin, rotation_matrices
from .acoustic_encoder import AcousticEncoder, PitchNetwork
from .eam import EmotionalAdaptationModule
from .layers import PictureToken, repeat_per_frame
from .transformer import WHOLE, PromptedTransformer

POSE_NUMBERS = 3 + 3 + 4 * 9 + 3  # angles twice, four matrices, translation


@dataclass
class A2ETOutput(BaseOutput):
    """Output of `A2ET`.

    Args:
        coefficients: (B, F, coefficients) of the expression basis.
        face_features: (B, face_channels, map_size, map_size), the portrait's features after emotional adaptation;
            EDN reads them.
    """

    coefficients: Tensor
    face_features: Tensor


class A2ET(ModelMixin, ConfigMixin):
    """Windows of speech around every frame -> expression coefficients of that frame.

    The encoder reads speech tokens (what is said, and how the head moves meanwhile), the decoder acoustic tokens (how
    it sounds, on whose face); both end with the head pose of the centre frame.

    `forward` is made of the public methods below it. Only `acoustic_tokens` needs whole windows: a caller that
    generates a clip can run `encode_speech` once per frame and cut its result into windows.

    Args:
        width, heads, feed_forward, layers, dropout: of both halves of the transformer.
        window: frames in a window, odd.
        semantic_widths: channels of the semantic features and of each convolution over their time steps.
        semantic_steps: time steps in a frame's semantic features.
        mels: mel bands.
        keypoints, depth: of the prediction map.
        map_size: side of the square feature pictures. Larger prediction maps are average-pooled to it.
        face_channels: channels of the face features.
        sound_widths: channels of the two convolutions that turn encoded sound into a picture.
        sound_kernel: side of the second one's kernel.
        acoustic_token_widths: channels of the residual down blocks behind them; the first is the sound's plus the
            face's, the last is `width`.
        pose_size: side that larger pose pictures are average-pooled to.
        pose_widths: channels of the pose pictures (1) and of their residual down blocks.
        pitch_widths: of the pitch network.
        encode_widths, pitch_width, decode_widths: of the acoustic encoder; it ends with `map_size` channels.
        coefficients: how many are predicted.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = list(WHOLE)

    @register_to_config
    def __init__(
        self,
        width: int = 128,
        heads: int = 8,
        feed_forward: int = 1024,
        layers: int = 6,
        dropout: float = 0.1,
        window: int = 11,
        semantic_widths: Sequence[int] = (29, 32, 32, 64, 64),
        semantic_steps: int = 16,
        mels: int = 80,
        keypoints: int = 15,
        depth: int = 16,
        map_size: int = 64,
        face_channels: int = 32,
        sound_widths: Sequence[int] = (8, 32),
        sound_kernel: int = 13,
        acoustic_token_widths: Sequence[int] = (64, 32, 48, 64, 96, 128),
        pose_size: int = 64,
        pose_widths: Sequence[int] = (1, 32, 64, 128, 128, 128),
        pitch_widths: Sequence[int] = (64, 128, 192, 256),
        encode_widths: Sequence[int] = (64, 128, 256, 512, 512, 512),
        pitch_width: int = 128,
        decode_widths: Sequence[int] = (640, 640, 512, 256, 128, 64),
        coefficients: int = 32,
    ):
        super().__init__()
        if window % 2 == 0:
            raise ValueError(f"window must be odd, so that one frame is its centre, got {window}.")
        if decode_widths[-1] != map_size:
            raise ValueError(
                f"decode_widths must end with map_size: the acoustic encoder's channels become the rows of its "
                f"picture, got {decode_widths[-1]} and {map_size}."
            )
        if acoustic_token_widths[0] != sound_widths[-1] + face_channels:
            raise ValueError(
                f"acoustic_token_widths must start with the sound's plus the face's channels, "
                f"{sound_widths[-1]} + {face_channels}, got {acoustic_token_widths[0]}."
            )
        self.head_pose_projection = nn.Linear(POSE_NUMBERS, width)

        pairs = zip(semantic_widths[:-1], semantic_widths[1:], strict=True)
        self.semantic_convs = nn.ModuleList(nn.Conv1d(i, o, 3, stride=2, padding=1) for i, o in pairs)
        self.pose_token = PictureToken(pose_widths)
        self.speech_fusion = nn.Sequential(
            nn.Linear(pose_widths[-1] + semantic_widths[-1], width), nn.LeakyReLU(0.02), nn.Linear(width, width)
        )

        self.face_projection = nn.Linear(keypoints * depth, face_channels)
        self.face_eam = EmotionalAdaptationModule(face_channels, width)
        self.pitch_network = PitchNetwork(pitch_widths)
        self.acoustic_encoder = AcousticEncoder(encode_widths, pitch_widths[-1], pitch_width, decode_widths, width)
        # without padding along the mel axis, the wide kernel leaves a square picture
        self.sound_conv1 = nn.Conv2d(1, sound_widths[0], (3, mels - map_size + 1), padding=(1, 0))
        self.sound_norm = nn.BatchNorm2d(sound_widths[0])
        self.sound_conv2 = nn.Conv2d(sound_widths[0], sound_widths[1], sound_kernel, padding=sound_kernel // 2)
        self.acoustic_token = PictureToken(acoustic_token_widths)

        tokens = window + 2  # the head pose and a prompt
        self.encoder = PromptedTransformer(width, heads, feed_forward, layers, dropout, positions=tokens)
        self.decoder = PromptedTransformer(width, heads, feed_forward, layers, dropout, cross=True, positions=tokens)
        self.head = nn.Linear(width, coefficients)

        # what stands before the first and after the last frame of a clip
        self.register_buffer("mel_padding", torch.zeros(mels))
        self.register_buffer("semantic_padding", torch.zeros(semantic_steps, semantic_widths[0]))

    def forward(
        self,
        semantic: Tensor,
        mel: Tensor,
        pose_images: Tensor,
        yaw: Tensor,
        pitch: Tensor,
        roll: Tensor,
        translation: Tensor,
        prediction_map: Tensor,
        prompts: Tensor | None = None,
    ) -> A2ETOutput:
        """Predict the expression of every frame.

        Args:
            semantic: (B, F, W, 16, 29) speech recogniser output around each frame of each window.
            mel: (B, F, W, 80) log-mel columns.
            pose_images: (B, F, W, 64, 64) pose pictures in [0, 255].
            yaw, pitch, roll: (B, F, 66) logits of the centre frame's head pose.
            translation: (B, F, 3).
            prediction_map: (B, K, D, H, W) of the keypoint detector, the portrait's.
            prompts: (B, 1 + layers, width) or (B, 2, width) for shallow prompts, the guidance embedding first.
                None is the network before emotional adaptation.
        """
        clips, frames, window = semantic.shape[:3]
        if window != self.config.window or mel.shape[2] != window or pose_images.shape[2] != window:
            raise ValueError(
                f"This A2ET reads windows of {self.config.window} frames, got {window} semantic, {mel.shape[2]} mel "
                f"and {pose_images.shape[2]} pose frames."
            )
        guidance = None if prompts is None else prompts[:, 0]
        deep = None if prompts is None else repeat_per_frame(prompts[:, 1:], frames)
        face = self.face_features(prediction_map, guidance)

        speech = self.encode_speech(semantic.flatten(0, 2), pose_images.flatten(0, 2)).unflatten(0, (-1, window))
        acoustic = self.acoustic_tokens(
            mel.flatten(0, 1),
            repeat_per_frame(face, frames),
            None if guidance is None else repeat_per_frame(guidance, frames),
        )
        head_pose = self.head_pose_token(*(x.flatten(0, 1) for x in (yaw, pitch, roll, translation)))
        coefficients = self.predict(speech, acoustic, head_pose, deep)
        return A2ETOutput(coefficients=coefficients.unflatten(0, (clips, frames)), face_features=face)

    @apply_forward_hook
    def face_features(self, prediction_map: Tensor, guidance: Tensor | None = None) -> Tensor:
        """Portraits' prediction maps (B, K, D, H, W), guidance (B, width) or None -> (B, face_channels, S, S)."""
        planes = prediction_map.flatten(1, 2)
        if planes.shape[-1] != self.config.map_size:
            planes = F.adaptive_avg_pool2d(planes, self.config.map_size)
        features = self.face_projection(planes.movedim(1, -1)).movedim(-1, 1)
        return self.face_eam(features, guidance)

    @apply_forward_hook
    def encode_speech(self, semantic: Tensor, pose_images: Tensor) -> Tensor:
        """Single frames' semantic features (N, 16, 29) and pose pictures (N, 64, 64) -> speech tokens (N, width)."""
        words = semantic.transpose(1, 2)
        for conv in self.semantic_convs:
            words = F.leaky_relu(conv(words), 0.02)
        pictures = pose_images[:, None]
        if pictures.shape[-1] != self.config.pose_size:
            pictures = F.adaptive_avg_pool2d(pictures, self.config.pose_size)
        return self.speech_fusion(torch.cat([self.pose_token(pictures), words.flatten(1)], 1))

    @apply_forward_hook
    def acoustic_tokens(self, mel: Tensor, face: Tensor, guidance: Tensor | None = None) -> Tensor:
        """Mel windows (N, W, 80), face features (N, C, S, S), guidance (N, width) or None -> (N, W, width)."""
        window = mel.shape[1]
        picture = mel.transpose(1, 2)[:, None]
        sound = self.acoustic_encoder(picture, self.pitch_network(picture), guidance)  # (N, S, 80, W)
        sound = sound.movedim(3, 1).flatten(0, 1)[:, None]  # (N * W, 1, S, 80)
        sound = self.sound_conv2(F.relu(self.sound_norm(self.sound_conv1(sound))))  # (N * W, sound channels, S, S)
        tokens = self.acoustic_token(torch.cat([sound, repeat_per_frame(face, window)], 1))
        return tokens.unflatten(0, (-1, window))

    @apply_forward_hook
    def head_pose_token(self, yaw: Tensor, pitch: Tensor, roll: Tensor, translation: Tensor) -> Tensor:
        """Logits (N, 66) each, translation (N, 3) -> (N, width). Here the bin index itself is read as degrees."""
        degrees = torch.stack([expected_bin(angle) for angle in (yaw, pitch, roll)], 1)
        radians = degrees_to_radians(degrees)
        matrices = [matrix.flatten(1) for matrix in rotation_matrices(*radians.unbind(1))]
        return self.head_pose_projection(torch.cat([degrees, radians, *matrices, translation], 1))

    @apply_forward_hook
    def predict(self, speech: Tensor, acoustic: Tensor, head_pose: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Windows of tokens (N, W, width) twice, head pose token (N, width), prompts (N, layers or 1, width) or None
        -> coefficients (N, coefficients) of the windows' centre frames."""
        head_pose = head_pose[:, None]
        memory = self.encoder(torch.cat([speech, head_pose], 1), prompts)
        decoded = self.decoder(torch.cat([acoustic, head_pose], 1), prompts, memory)
        return self.head(decoded[:, self.config.window // 2])
