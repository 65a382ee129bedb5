"""How many parameters emotional adaptation adds to the network (the paper's Figure 6)."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from .eam import EmotionalAdaptationModule


@dataclass(frozen=True)
class ParameterShare:
    """One part of a network and its number of parameters; parts do not overlap (paper Figure 6).

    Attributes:
        tuned: whether emotional adaptation trains this part.
    """

    name: str
    parameters: int
    tuned: bool = False


NETWORK = ("repos_net", "keypoint_detector", "a2et")  # frozen while the emotions are learnt, but for their EAMs
ADAPTATION = ("emotion_mapper", "edn")
BEFORE_THE_NETWORK = ("motion_estimator", "speech_encoder", "expression_basis")  # the paper does not count them


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def parameter_shares(components: Mapping[str, nn.Module | None]) -> list[ParameterShare]:
    """Parts that do not overlap: each component without its EAMs, then the EAMs of all of them."""
    shares, modules = [], 0
    for name in (*NETWORK, *ADAPTATION):
        component = components[name]
        assert component is not None  # only the speech encoder may be missing
        inside = sum(count_parameters(m) for m in component.modules() if isinstance(m, EmotionalAdaptationModule))
        shares.append(ParameterShare(name, count_parameters(component) - inside, tuned=name in ADAPTATION))
        modules += inside
    return [*shares, ParameterShare("EAM", modules, tuned=True)]
