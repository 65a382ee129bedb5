"""The networks that show an emotion: what is frozen, and what an adaptation has of its own (paper section 3.2)."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..models.a2et import A2ET
from ..models.detail_renderer import DetailRenderer
from ..models.eam import EmotionalAdaptationModule
from ..models.edn import EDN
from ..models.emotion_mapper import EmotionMapper
from ..models.expression_basis import ExpressionBasis
from ..models.keypoint_detector import CanonicalKeypointDetector
from ..models.landmark_detector import LandmarkDetector
from ..models.motion_estimator import MotionEstimator
from ..models.repos_net import RePosNet
from ..models.speech_encoder import DeepSpeechEncoder
from ..models.streaming_speech_encoder import StreamingSpeechEncoder
from ..models.transformers_speech_encoder import TransformersSpeechEncoder

Parts = dict[str, nn.Module]
# what does the same work, as published or as the bundled model has it; a model's configuration names the class
KeypointDetector = CanonicalKeypointDetector | LandmarkDetector
Renderer = RePosNet | DetailRenderer
SpeechEncoder = DeepSpeechEncoder | StreamingSpeechEncoder | TransformersSpeechEncoder
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Adaptation:
    """Some emotions and the networks that show them: the base's own, or the base's with an adapter's modules."""

    emotions: tuple[str, ...]
    emotion_mapper: EmotionMapper
    a2et: A2ET
    edn: EDN
    repos_net: Renderer


@dataclass(frozen=True)
class Networks:
    """All networks of a talking head, by the names that the pipeline gives its components."""

    keypoint_detector: KeypointDetector
    motion_estimator: MotionEstimator
    emotion_mapper: EmotionMapper
    a2et: A2ET
    edn: EDN
    repos_net: Renderer
    expression_basis: ExpressionBasis
    speech_encoder: SpeechEncoder | None = None

    @property
    def components(self) -> dict[str, nn.Module]:
        """Those that are there, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: module for name, module in found.items() if module is not None}

    @property
    def own(self) -> Adaptation:
        """The emotional adaptation that is the model's own."""
        emotions = tuple(self.emotion_mapper.config.emotions)
        return Adaptation(emotions, self.emotion_mapper, self.a2et, self.edn, self.repos_net)

    def frozen(self) -> "Networks":
        """The same weights, which take no gradient; these networks themselves stay as they are."""
        return Networks(**{name: frozen(module) for name, module in self.components.items()})  # type: ignore[arg-type]


def frozen(module: Module) -> Module:
    """A view of a module whose weights, the very same, take no gradient. Nothing of the module itself changes."""
    view = copy.copy(module)
    view._parameters = {
        name: None if weight is None else nn.Parameter(weight.detach(), requires_grad=False)
        for name, weight in module._parameters.items()
    }
    view._modules = {name: None if child is None else frozen(child) for name, child in module._modules.items()}
    return view


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
        grafted._modules[child] = graft(cast(nn.Module, host._modules[child]), below)
    if "_hf_hook" in vars(grafted):  # accelerate's hooks replace `forward` by one that runs the host
        grafted.forward = functools.partial(_run_with_hook, grafted)
    return grafted


def _run_with_hook(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What accelerate makes of `module(...)`, for a copy of a module with its hook."""
    hook = cast(Any, module)._hf_hook
    args, kwargs = hook.pre_forward(module, *args, **kwargs)
    return hook.post_forward(module, type(module).forward(module, *args, **kwargs))
