"""How many parameters emotional adaptation adds to the network (the paper's Figure 6)."""

from typing import TYPE_CHECKING

from torch import nn

from .report import ParameterShare

if TYPE_CHECKING:
    from ..pipeline import EATPipeline

NETWORK = ("repos_net", "keypoint_detector", "a2et")  # frozen while the emotions are learnt, but for their EAMs
ADAPTATION = ("emotion_mapper", "edn")
BEFORE_THE_NETWORK = ("motion_estimator", "speech_encoder", "expression_basis")  # the paper does not count them


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def parameter_shares(pipeline: "EATPipeline") -> list[ParameterShare]:
    """Parts that do not overlap: each component without its EAMs, then the EAMs of all of them."""
    from ..models.eam import EmotionalAdaptationModule

    shares, modules = [], 0
    for name in (*NETWORK, *ADAPTATION):
        component = pipeline.components[name]
        inside = sum(count_parameters(m) for m in component.modules() if isinstance(m, EmotionalAdaptationModule))
        shares.append(ParameterShare(name, count_parameters(component) - inside, tuned=name in ADAPTATION))
        modules += inside
    return [*shares, ParameterShare("EAM", modules, tuned=True)]
