"""Emotional Deformation Network: what emotion adds to the expression (paper section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from .a2et import A2ET
from .layers import PictureToken
from .transformer import WHOLE, PromptedTransformer


@dataclass
class EDNOutput(BaseOutput):
    """Output of `EDN`.

    Args:
        expression: (B, 3K) emotional deformation, in units of the face's hull volume V.
    """

    expression: Tensor


class EDN(ModelMixin, ConfigMixin):
    """One deformation a clip, from the portrait's face features and the emotional prompts.

    Args:
        width, heads, feed_forward, layers, dropout: of the transformer encoder, as in A2ET.
        face_widths: channels of the face features and of the residual down blocks; the last is `width`.
        keypoints: K.
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
        face_widths: Sequence[int] = (32, 32, 48, 64, 96, 128),
        keypoints: int = 15,
    ):
        super().__init__()
        self.face_token = PictureToken(face_widths)
        self.encoder = PromptedTransformer(width, heads, feed_forward, layers, dropout)
        self.head = nn.Linear(width, 3 * keypoints)

    def forward(self, face_features: Tensor, prompts: Tensor) -> EDNOutput:
        """face_features (B, C, S, S) of A2ET, prompts (B, prompts, width) of the mapper -> expression (B, 3K)."""
        tokens = torch.cat([self.face_token(face_features)[:, None], prompts], 1)
        return EDNOutput(expression=self.head(self.encoder(tokens)[:, 1:].mean(1)))

    @torch.no_grad()
    def initialise_from_a2et(self, a2et: A2ET) -> None:
        """Start from the pretrained A2ET: the first layers of its encoder, and its down blocks of the acoustic branch.

        The first down block of A2ET reads (sound, face) channels; EDN's reads the face alone, so it takes the weights
        of the last channels. Blocks of other widths than A2ET's stay as they were made. The output head is set to
        zero, so that training starts from no deformation.

        Raises:
            ValueError: EDN has layers that A2ET has not, or of another size.
        """
        theirs = a2et.encoder.state_dict()
        state = {f"encoder.{name}": theirs.get(name) for name in self.encoder.state_dict()}
        if tuple(self.config["face_widths"][1:]) == tuple(a2et.config["acoustic_token_widths"][1:]):
            own = self.face_token.state_dict()
            for name, value in a2et.acoustic_token.state_dict().items():
                if name not in own:  # without a change of width EDN's first block has no shortcut layers
                    continue
                if name.startswith("blocks.0."):
                    for axis, size in enumerate(own[name].shape):
                        value = value.narrow(axis, value.shape[axis] - size, size)
                state[f"face_token.{name}"] = value
        state |= {"head.weight": torch.zeros_like(self.head.weight), "head.bias": torch.zeros_like(self.head.bias)}
        for name, own_value in self.state_dict().items():
            value = state.get(name, own_value)
            if value is None or value.shape != own_value.shape:
                raise ValueError(f"This A2ET cannot initialise this EDN: {name} has no counterpart of its size.")
        self.load_state_dict(state, strict=False)
