"""Which model is meant: the one that is named, or the bundled one."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..media.bounded import read_json
from ..shipped import shipped_checkpoint

if TYPE_CHECKING:
    from .pipeline_eat import EATPipeline


MODEL_VARIABLE = "EAT_HF_MODEL"
BUNDLED_MODEL = "eat-demo"


def find_model(model: str | None = None) -> str:
    """The model's folder or Hub id: as named, the environment's choice, or the bundled checkpoint, "eat-demo".

    Raises:
        UserError: there is none, or the folder holds something else.
    """
    model = model or os.environ.get(MODEL_VARIABLE) or _bundled_model()
    folder = Path(model)
    there = os.path.exists(model)  # which takes any text, as long as it may be
    if not there and (ours := shipped_checkpoint(model)):
        return str(ours)
    if there and not (folder / "model_index.json").is_file():
        raise UserError(f"{model} is not a model folder: it has no model_index.json.")
    if not there and (folder.is_absolute() or model.count("/") != 1):
        raise UserError(f"The model {model} does not exist.")
    return model


def _bundled_model() -> str:
    folder = shipped_checkpoint(BUNDLED_MODEL)
    if folder is None:
        raise UserError(f"No bundled model was found; name one with --model or ${MODEL_VARIABLE}.")
    return str(folder)


def known_emotions(model: str, adapters: Sequence[str] = ()) -> tuple[str, ...] | None:
    """The emotions of a model and of adapters for it, as their folders say, without loading anything.

    Returns:
        None where that cannot be known, as with a repository of the Hub; whoever loads it will know.
    """
    emotions: list[str] = []
    for place, file in ((model, "emotion_mapper/config.json"), *((place, "adapter_config.json") for place in adapters)):
        try:
            found = read_json(Path(place) / file, most=math.inf)["emotions"]
        except (UserError, KeyError):
            return None
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            return None
        emotions += found
    return tuple(emotions)


def load_pipeline(model: str) -> "EATPipeline":
    """Load a model that `find_model` found onto the GPU, if there is one.

    Raises:
        UserError: it cannot be loaded.
    """
    import torch

    from ..hub.client import quiet
    from .pipeline_eat import EATPipeline

    with quiet():
        pipeline = EATPipeline.from_pretrained(model)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
