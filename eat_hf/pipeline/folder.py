"""A model's folder: brought from the Hub, and looked at before any of its networks is made."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from diffusers import ModelMixin

from ..adapters.from_text import FOLDER as WORDS
from ..animation.networks import Networks
from ..errors import RepositoryError
from ..hub.client import fetch_folder
from ..media.bounded import read_json
from ..models.checked import WEIGHTS, check_network, check_numbers
from ..models.components import component_class

INDEX = "model_index.json"
FILES = [INDEX, "*/config.json", "*/*.safetensors", "*/*.safetensors.index*.json", "README.md"]


def fetch_model(
    place: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    force_download: bool = False,
    local_files_only: bool | None = None,
    variant: str | None = None,
    **given: Any,
) -> Path:
    """The folder in the cache of a model that is on the Hub, checked.

    Args:
        variant, given: as for `check_model`; of `given` the names alone.

    Raises:
        RepositoryError: the repository cannot be had, or holds no such model.
    """
    folder = fetch_folder(
        place,
        FILES,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        force_download=force_download,
        local_files_only=bool(local_files_only),
    )
    if not (folder / INDEX).is_file():
        raise RepositoryError(f"{place} is not a model of eat_hf: it has no {INDEX}.")
    check_model(folder, variant, given.keys())
    return folder


def loaded_folder(place: str, asked: Mapping[str, Any]) -> Path:
    """Where a model of the Hub lies that was just loaded, with those options of `from_pretrained`."""
    names = ("revision", "token", "cache_dir", "local_files_only")
    return fetch_model(place, **{name: asked[name] for name in names if name in asked})


def check_model(folder: Path, variant: str | None = None, given: Collection[str] = ()) -> None:
    """That a folder holds a model whose networks have the sizes that their configurations say.

    Args:
        variant: of the weights.
        given: components that do not come from the folder.

    Raises:
        RepositoryError: it does not.
    """
    index = read_json(folder / INDEX)
    if not isinstance(index.get("_class_name"), str):
        raise RepositoryError(f"{folder / INDEX} cannot be used; _class_name: it must be the name of a pipeline.")
    for name, hint in get_type_hints(Networks).items():
        kinds = get_args(hint) or (hint,)
        entry = index.get(name)
        left_out = name not in index or entry == [None, None]
        if name in given or (type(None) in kinds and left_out):
            continue
        check_network(_named_class(entry, kinds, f"{folder / INDEX} cannot be used; {name}"), folder / name, variant)


def _named_class(entry: Any, kinds: tuple[type, ...], place: str) -> type[ModelMixin]:
    names = [kind.__name__ for kind in kinds if kind is not type(None)]
    if not (isinstance(entry, list) and len(entry) == 2 and entry[0] == "eat_hf" and entry[1] in names):
        raise RepositoryError(f'{place}: it must be ["eat_hf", CLASS], of which CLASS is {" or ".join(names)}.')
    return component_class(entry[1])


def belongs_to_model(variant: str | None, saved: Collection[str]) -> Callable[[Path], bool]:
    """Tells, of paths in a model's folder, what goes when a model takes its place.

    Args:
        variant: of the weights that are written; plain ones stay beside them, as diffusers has it. Without one, all go.
        saved: the components that are written.
    """
    named = rf".*\.{re.escape(variant)}\b" if variant else ""
    weights = re.compile(rf"{WEIGHTS}{named}.*\.(safetensors|json)")
    known = get_type_hints(Networks)

    def belongs(path: Path) -> bool:
        folder = path.parts[0]
        if folder in (INDEX, WORDS):
            return True
        if folder not in known or len(path.parts) != 2:
            return False
        return path.name == "config.json" or folder not in saved or bool(weights.fullmatch(path.name))

    return belongs


def check_networks(networks: Networks, place: str) -> None:
    """That networks fit each other, and all their weights are numbers.

    Raises:
        RepositoryError: they do not, as when one of them is of another model.
    """
    settings = {name: getattr(module, "config", {}) for name, module in networks.components.items()}
    pairs = [
        *((name, "keypoints", "keypoint_detector", "keypoints") for name in settings),
        ("expression_basis", "coefficients", "a2et", "coefficients"),
        ("edn", "width", "a2et", "width"),
        ("emotion_mapper", "width", "a2et", "width"),
        ("repos_net", "guidance", "a2et", "width"),
        ("speech_encoder", "window", "a2et", "semantic_steps"),
    ]
    for one, key, other, other_key in pairs:
        found, wanted = settings.get(one, {}).get(key), settings[other].get(other_key)
        if found is not None and wanted is not None and found != wanted:
            raise RepositoryError(
                f"The model {place} cannot be used: {one} has {key} {found}, and {other} {other_key} {wanted}, so they "
                "are not of one model."
            )
    a2et, speech = settings["a2et"], settings.get("speech_encoder", {})
    if speech.get("classes") and list(a2et.get("semantic_widths", ()))[:1] not in ([], [speech["classes"]]):
        raise RepositoryError(f"The model {place} cannot be used: its speech_encoder is not the one that a2et reads.")
    if a2et.get("layers") and settings["emotion_mapper"].get("prompts") not in (None, 1, 2, 1 + a2et["layers"]):
        raise RepositoryError(f"The model {place} cannot be used: its emotion_mapper is not the one that a2et reads.")
    for name, module in networks.components.items():
        check_numbers(module, f"{place}/{name}")
