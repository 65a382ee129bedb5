"""Driving keypoints become frames."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..errors import explain_memory
from .clip_plan import ClipPlan, guidance_of
from .expression import EmotionMix
from .networks import MixedEAM, Networks, Renderer, graft
from .portrait import Portrait


def renderer_of(networks: Networks, mix: EmotionMix | None) -> Renderer:
    """The renderer with the EAMs of all adaptations that show."""
    if mix is None:
        return networks.repos_net
    if len(mix.adaptations) == 1:
        return mix.adaptations[0].repos_net
    mixed = MixedEAM([adaptation.repos_net.volume_eam for adaptation in mix.adaptations])
    return graft(networks.repos_net, {"volume_eam": mixed})


def render_plan(networks: Networks, plan: ClipPlan) -> Iterator[np.ndarray]:
    """The frames of a plan, in chunks (n, S, S, 3) uint8, as they are asked for.

    Raises:
        UserError: there is not enough memory.
    """
    renderer = renderer_of(networks, plan.mix)
    for driving, guidance in plan.pieces():
        yield from render_frames(renderer, plan.portrait, driving, guidance, plan.batch_size)


def render_frames(
    renderer: Renderer, portrait: Portrait, driving: Tensor, guidance: Tensor | None, batch_size: int = 8
) -> Iterator[np.ndarray]:
    """Frames of driving keypoints (1, F, K, 3), in chunks (n, S, S, 3) uint8.

    Args:
        guidance: (1, width), (1, F, width), or None before emotional adaptation.

    Raises:
        UserError: there is not enough memory.
    """
    for start in range(0, driving.shape[1], batch_size):
        part = slice(start, start + batch_size)
        e = guidance_of(guidance, part)
        with torch.no_grad(), explain_memory("Ask for a smaller batch_size."):
            rendered = renderer.render(portrait.features, portrait.keypoints, driving[:, part], e)
        yield to_uint8(rendered.frames[0])


def to_uint8(frames: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] -> (N, H, W, 3) uint8."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
