"""Components by the class that their configuration names, so that another one is a new file and a configuration."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ModelMixin

from ..media.bounded import read_json
from .checked import load_network


def component_class(name: str) -> type[ModelMixin]:
    """The class that the package exports under a name, such as "RePosNet".

    Raises:
        ValueError: there is none.
    """
    found = getattr(importlib.import_module("eat_hf"), name, None)
    if not (isinstance(found, type) and issubclass(found, ModelMixin)):
        raise ValueError(f"eat_hf has no network {name!r}.")
    return found


def build_component(section: Mapping[str, Any], **more: Any) -> ModelMixin:
    """A new network.

    Args:
        section: its settings, and under "class" that of the network; under "pretrained", for a class that wraps one of
            transformers, the folder or Hub id of that.
        more: settings beside those, or in place of them.
    """
    settings = {**section, **more}
    kind: Any = component_class(settings.pop("class"))
    if "pretrained" in settings:
        return kind.from_transformers(settings.pop("pretrained"), **settings)
    return kind(**settings)


def load_component(folder: str | os.PathLike) -> ModelMixin:
    """The network of a folder with a config.json and safetensors, in evaluation mode.

    Raises:
        ValueError: the folder holds no such network.
    """
    name = read_json(Path(folder) / ModelMixin.config_name).get("_class_name")
    return load_network(component_class(str(name)), Path(folder))
