"""Which modules emotional adaptation consists of, and a digest of all that it leaves frozen."""

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..animation.networks import Parts
from ..models.eam import EmotionalAdaptationModule

if TYPE_CHECKING:
    from ..pipeline.pipeline_eat import EATPipeline


SETTINGS = ("keypoint_space", "expression_frame", "hull_volume_exponent", "driving_centring")


def adaptation_parts(pipeline: "EATPipeline") -> Parts:
    """The modules of the pipeline's own emotional adaptation by name: what an adapter has its own of."""
    parts: Parts = {"emotion_mapper.heads": pipeline.emotion_mapper.heads, "edn": pipeline.edn}
    for host in ("a2et", "repos_net"):
        for name, module in pipeline.components[host].named_modules():
            if isinstance(module, EmotionalAdaptationModule):
                parts[f"{host}.{name}"] = module
    return parts


def prompt_type(pipeline: "EATPipeline") -> str:
    """Which prompts M makes beside the guidance embedding: "deep", "shallow" or "none" (Table 4)."""
    return {1: "none", 2: "shallow"}.get(pipeline.emotion_mapper.config.prompts, "deep")


def fingerprint(pipeline: "EATPipeline") -> dict[str, str]:
    """A digest of every component without its emotional adaptation, and of the settings that give outputs their units.

    Two bases of the same fingerprint have the same frozen weights, wherever they lie. A renderer that was rounded
    (`EATPipeline.to`) is still the one that it was.
    """
    settings = json.dumps([pipeline.config[name] for name in SETTINGS]).encode()
    digests = {"settings": hashlib.sha256(settings).hexdigest()[:16]}
    for component, module in sorted(pipeline.components.items()):
        if isinstance(module, nn.Module):  # a release may lack the speech encoder
            known = pipeline.before_rounding.get(component)
            digests |= digest_of(pipeline, component) if known is None else {component: known}
    return digests


def digest_of(pipeline: "EATPipeline", component: str) -> dict[str, str]:
    """{component: digest} of its frozen weights, or nothing if all of it is emotional adaptation."""
    own = tuple(f"{name}." for name in adaptation_parts(pipeline))
    weights = {f"{component}.{name}": tensor for name, tensor in pipeline.components[component].state_dict().items()}
    frozen = sorted(name for name in weights if not name.startswith(own))
    digest = hashlib.sha256()
    for name in frozen:
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return {component: digest.hexdigest()[:16]} if frozen else {}
