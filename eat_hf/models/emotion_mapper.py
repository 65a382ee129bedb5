"""The mapping network M from noise and an emotion to emotional prompts (paper section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..constants import EMOTIONS
from ..names import check_name


@dataclass
class EmotionMapperOutput(BaseOutput):
    """Output of `EmotionMapper`.

    Args:
        prompts: (B, prompts, width); the first is the guidance embedding e, the others the deep prompts.
    """

    prompts: Tensor


class EmotionMapper(ModelMixin, ConfigMixin):
    """z ~ N(0, I) and an emotion -> guidance embedding and deep prompts.

    An MLP shared by all emotions, then one for each.

    Args:
        emotions: names, in the order of their ids.
        latent: width of z.
        hidden: width of both MLPs.
        prompts: 1 + A2ET's layers; 2 is the shallow variant of Table 4.
        width: width of a prompt.
        depth: linear layers in each MLP.

    Raises:
        UserError: an emotion cannot be called so.
    """

    @register_to_config
    def __init__(
        self,
        emotions: Sequence[str] = EMOTIONS,
        latent: int = 16,
        hidden: int = 512,
        prompts: int = 7,
        width: int = 128,
        depth: int = 4,
    ):
        super().__init__()
        for name in emotions:
            check_name(name)
        self.shared = nn.ModuleList(nn.Linear(hidden if i else latent, hidden) for i in range(depth))
        outputs = [hidden] * (depth - 1) + [prompts * width]
        self.heads = nn.ModuleList(nn.ModuleList(nn.Linear(hidden, o) for o in outputs) for _ in emotions)

    def forward(self, latent: Tensor, emotion_ids: Tensor) -> EmotionMapperOutput:
        """latent (B, latent), emotion_ids (B,) integers -> prompts (B, prompts, width).

        Raises:
            ValueError: an id outside the emotions of this mapper.
        """
        emotion_ids = emotion_ids.to(latent.device)
        if not 0 <= int(emotion_ids.min()) <= int(emotion_ids.max()) < len(self.heads):
            raise ValueError(f"emotion_ids must be in 0..{len(self.heads) - 1}, got {emotion_ids.tolist()}.")
        order, rows = [], []
        for emotion in emotion_ids.unique().tolist():
            chosen = (emotion_ids == emotion).nonzero()[:, 0]
            order.append(chosen)
            rows.append(self.of_one(latent[chosen], emotion))
        return EmotionMapperOutput(prompts=torch.cat(rows)[torch.cat(order).argsort()])

    def of_one(self, latent: Tensor, emotion: int) -> Tensor:
        """latent (B, latent), the id of one emotion -> prompts (B, prompts, width)."""
        x = latent
        for layer in self.shared:
            x = F.relu(layer(x))
        *hidden, last = cast(nn.ModuleList, self.heads[emotion])
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x).unflatten(1, (self.config.prompts, self.config.width))
