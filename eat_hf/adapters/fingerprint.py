"""What adapters are made for: which modules emotional adaptation consists of, and a digest of all that stays frozen."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..animation.networks import Networks, Parts
from ..models.eam import EmotionalAdaptationModule


@dataclass(frozen=True)
class Base:
    """A model that adapters are made for.

    Attributes:
        networks: its own.
        place: the folder or repository it was loaded from; None if it was not.
        before_rounding: digests of components whose weights are no longer what was loaded, see `digest_of`.
    """

    networks: Networks
    place: str | None = None
    before_rounding: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What adapters call it."""
        folder = Path(self.place or "")
        return folder.resolve().name if folder.is_dir() else str(self.place)

    @property
    def prompt_type(self) -> Literal["deep", "shallow", "none"]:
        """Which prompts M makes beside the guidance embedding: "deep", "shallow" or "none" (Table 4)."""
        kinds: dict[int, Literal["none", "shallow"]] = {1: "none", 2: "shallow"}
        return kinds.get(self.networks.emotion_mapper.config.prompts, "deep")


def adaptation_parts(networks: Networks) -> Parts:
    """The modules of the networks' own emotional adaptation by name: what an adapter has its own of."""
    parts: Parts = {"emotion_mapper.heads": networks.emotion_mapper.heads, "edn": networks.edn}
    for host in ("a2et", "repos_net"):
        for name, module in networks.components[host].named_modules():
            if isinstance(module, EmotionalAdaptationModule):
                parts[f"{host}.{name}"] = module
    return parts


def conventions(networks: Networks) -> list[Any]:
    """The settings that give the networks' outputs their meaning, in the order in which they are digested."""
    expressions = networks.expression_basis.config
    return [
        networks.keypoint_detector.config.keypoint_space,
        expressions.expression_frame,
        expressions.hull_volume_exponent,
        expressions.driving_centring,
    ]


def fingerprint(base: Base) -> dict[str, str]:
    """A digest of every component without its emotional adaptation, and of the settings that give outputs their units.

    Two bases of the same fingerprint have the same frozen weights, wherever they lie. A renderer that was rounded
    (`EATPipeline.to`) is still the one that it was.
    """
    settings = json.dumps(conventions(base.networks)).encode()
    digests = {"settings": hashlib.sha256(settings).hexdigest()[:16]}
    for component in sorted(base.networks.components):
        known = base.before_rounding.get(component)
        digests |= digest_of(base.networks, component) if known is None else {component: known}
    return digests


def digest_of(networks: Networks, component: str) -> dict[str, str]:
    """{component: digest} of its frozen weights, or nothing if all of it is emotional adaptation."""
    own = tuple(f"{name}." for name in adaptation_parts(networks))
    module: nn.Module = networks.components[component]
    weights = {f"{component}.{name}": tensor for name, tensor in module.state_dict().items()}
    frozen = sorted(name for name in weights if not name.startswith(own))
    digest = hashlib.sha256()
    for name in frozen:
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return {component: digest.hexdigest()[:16]} if frozen else {}
