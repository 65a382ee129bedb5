"""From a sentence to emotional prompts at once: an addition to the paper's text-driven editing (section 4.5)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn


@dataclass
class TextMapperOutput(BaseOutput):
    """Attributes:
    prompts: (B, prompts, width), as M makes them of an emotion; the first is the guidance embedding.
    """

    prompts: Tensor


class TextMapper(ModelMixin, ConfigMixin):
    """The CLIP embedding of a sentence -> guidance embedding and deep prompts: what M is for the emotions it knows.

    Args:
        embedding: width of CLIP's projection.
        hidden: width of the MLP.
        prompts, width: as of `EmotionMapper`.
        depth: linear layers.
    """

    @register_to_config
    def __init__(self, embedding: int = 768, hidden: int = 512, prompts: int = 7, width: int = 128, depth: int = 4):
        super().__init__()
        sizes = [embedding, *[hidden] * (depth - 1), prompts * width]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:], strict=False))

    def forward(self, embedding: Tensor) -> TextMapperOutput:
        """embedding (B, embedding), of length 1."""
        # CLIP's embeddings have length 1, so their entries are small: as many as there are, of a mean square of 1
        x = embedding * embedding.shape[-1] ** 0.5
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        prompts = self.layers[-1](x)
        return TextMapperOutput(prompts=torch.unflatten(prompts, 1, (self.config.prompts, self.config.width)))
