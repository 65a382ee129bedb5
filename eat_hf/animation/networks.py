"""The networks that show an emotion: what is frozen, and what an adaptation has of its own (paper section 3.2)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ..models.a2et import A2ET
from ..models.eam import EmotionalAdaptationModule
from ..models.edn import EDN
from ..models.emotion_mapper import EmotionMapper
from ..models.repos_net import RePosNet

Parts = dict[str, nn.Module]


Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Adaptation:
    """Some emotions and the networks that show them: the base's own, or the base's with an adapter's modules."""

    emotions: tuple[str, ...]
    emotion_mapper: EmotionMapper
    a2et: A2ET
    edn: EDN
    repos_net: RePosNet


class MixedEAM(nn.Module):
    """The renderer's EAMs of several adaptations as one, for frames that show emotions of more than one.

    Each modulates the feature map as its own guidance says; the results are averaged by share, which is the same as
    averaging gamma and beta.
    """

    def __init__(self, modules: Sequence[EmotionalAdaptationModule]):
        super().__init__()
        self.eams = nn.ModuleList(modules)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """x (N, C, ...), guidance (N, EAMs * (1 + width)): share and embedding e of each -> (N, C, ...)."""
        parts = guidance.unflatten(1, (len(self.eams), -1)).unbind(1)
        shape = (-1, *(1,) * (x.dim() - 1))
        return sum(
            (
                part[:, 0].view(shape).to(x.dtype) * eam(x, part[:, 1:])
                for eam, part in zip(self.eams, parts, strict=True)
            ),
            torch.zeros((), device=x.device, dtype=x.dtype),
        )


def graft(host: Module, parts: Parts) -> Module:
    """`host` with the modules of some names exchanged.

    Only what contains them is new; all else, weights included, is shared and not changed. So any number of threads
    can run the host and its grafts at the same time, which `torch.func.functional_call` does not allow.
    """
    if "" in parts:
        return cast(Module, parts[""])
    grafted = copy.copy(host)
    grafted._modules = dict(host._modules)
    for child in {name.partition(".")[0] for name in parts}:
        below = {name.partition(".")[2]: part for name, part in parts.items() if name.partition(".")[0] == child}
        grafted._modules[child] = graft(host._modules[child], below)  # type: ignore[type-var]
    return grafted
