"""Speech networks of transformers, from folders and the Hub: bounded before they are made, and safetensors alone."""

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import RepositoryError, shown
from ..hub.client import fetch_folder, quiet
from ..media.bounded import INDEX_BYTES, StoredTensor, read_headers, read_json, read_text
from ..media.files import one_line
from .checked import check_numbers, expected_tensors

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FILES = ["config.json", "preprocessor_config.json", "model*.safetensors", "model*.index*.json"]
SPARE = 1.05, 2_000_000  # a network may have that much more numbers than its file: buffers, what is tied
MOST_PATCHES = 4096  # of a spectrogram that a transformer looks at
LARGEST_SETTING = 1_000_000  # of what prepares sound: Whisper's half minute has 480,000 samples
LEAST_STRIDE = 100  # samples from row to row
# in training, a row that was masked; a network that is only used does without
UNUSED = ("masked_spec_embed",)


def fetch_pretrained(place: str | os.PathLike, **options: Any) -> Path:
    """The folder of a network of transformers: a path, or a repository of the Hub in the cache.

    Raises:
        RepositoryError: there is none, or it cannot be had.
    """
    folder = fetch_folder(place, FILES, **options)
    if (folder / "adapter_config.json").exists():  # transformers would load what it names in its place
        raise RepositoryError(f"{place} holds an adapter of peft, not a whole network; merge it into one.")
    if not any(folder.glob("model*.safetensors")):
        raise RepositoryError(
            f"{place} has no model.safetensors, and pickles are never opened; where its pickle is trusted, load it "
            "with transformers and write it again with save_pretrained(FOLDER)."
        )
    return folder


def read_config(folder: Path, families: Sequence[str]) -> "PretrainedConfig":
    """The configuration of a folder's network.

    Args:
        families: model types of transformers that will do.

    Raises:
        RepositoryError: it cannot be read, or is of something else.
    """
    path = folder / "config.json"
    settings = read_json(path)
    if settings.get("model_type") not in families:
        raise RepositoryError(
            f"{path} describes a network of the type {shown(settings.get('model_type'))}; it must be one of "
            f"{', '.join(families)}."
        )
    try:
        return make_config(settings)
    except Exception as error:  # whatever transformers says of a stranger's settings
        raise RepositoryError(f"{path} cannot be used: {one_line(error)[:200]}.") from error


def make_config(settings: Mapping[str, Any]) -> "PretrainedConfig":
    """A configuration of transformers from its settings, those alone that say how the network is built, and what its
    labels are: none that would fetch code, kernels or other weights.

    Raises:
        ValueError: there is no such network, or it would take far more memory for its sound than it should.
    """
    from transformers import CONFIG_MAPPING, PretrainedConfig

    family = str(settings.get("model_type"))
    if family not in CONFIG_MAPPING:
        raise ValueError(f"transformers knows no model_type {shown(family)}")
    kind = CONFIG_MAPPING[family]
    own = kind().to_dict().keys() - PretrainedConfig().to_dict().keys()
    kept = {name: settings[name] for name in settings if name in own or name == "id2label"}
    # neither what is private, nor how weights begin that are read from a file
    config = kind(**{name: value for name, value in kept.items() if not name.startswith(("_", "init"))})
    strides = getattr(config, "conv_stride", None)
    if strides is not None and math.prod(strides) < LEAST_STRIDE:
        raise ValueError(f"conv_stride: {list(strides)} makes more rows of sound than can be heard")
    if family == "audio-spectrogram-transformer":
        across = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        if across * ((config.max_length - config.patch_size) // config.time_stride + 1) > MOST_PATCHES:
            raise ValueError(f"a spectrogram would become more than {MOST_PATCHES} patches")
    return config


def load_pretrained(folder: Path, kind: Any, config: "PretrainedConfig", part: str = "") -> "PreTrainedModel":
    """The network of a folder, frozen, in evaluation mode and float32.

    Args:
        kind: its class, or one of transformers' Auto classes.
        config: made by `make_config`.
        part: of the folder's network, such as "encoder"; empty for all of it.

    Raises:
        RepositoryError: its settings and weights do not fit each other, or are not numbers.
    """
    found = read_headers(folder, "model")
    path = folder / "config.json"

    def build() -> "PreTrainedModel":
        return kind.from_config(config) if hasattr(kind, "from_config") else kind(config)

    expected, stored = _size(expected_tensors(build, len(found), path)), _size(found)
    if expected > SPARE[0] * stored + SPARE[1]:
        raise RepositoryError(f"{path} describes a network of {expected:,} numbers, but its weights are {stored:,}.")
    try:
        with quiet():
            place, weights = (None, _read_part(folder, part)) if part else (folder, None)
            model, loaded = kind.from_pretrained(
                place, config=config, state_dict=weights, use_safetensors=True, output_loading_info=True,
                local_files_only=True,
            )  # fmt: skip
    except Exception as error:  # of many kinds: whatever a stranger's weights are
        raise RepositoryError(f"The weights of {folder} cannot be used: {one_line(error)[:200]}.") from error
    for missing in sorted(name for name in loaded["missing_keys"] if name.rpartition(".")[2] not in UNUSED)[:1]:
        raise RepositoryError(f"{folder} lacks the tensor {missing}, so it is no {type(model).__name__}.")
    check_numbers(model, folder)
    return model.to(torch.float32).eval().requires_grad_(False)


def _read_part(folder: Path, part: str) -> dict[str, torch.Tensor]:
    """Weights whose names say that they are of a part, under their names within it."""
    from safetensors import safe_open

    index, found = folder / "model.safetensors.index.json", {}
    shards = {"model.safetensors"}
    if index.exists():
        shards = set(json.loads(read_text(index, INDEX_BYTES))["weight_map"].values())
    for shard in shards:
        with safe_open(folder / shard, "pt") as stored:
            for name in stored.keys():
                before, within, own = name.partition(f"{part}.")
                if within and before in ("", "model."):
                    found[own] = stored.get_tensor(name)
    return found


def _size(tensors: Mapping[str, StoredTensor]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def make_extractor(folder: Path, config: "PretrainedConfig") -> Any:
    """What makes a network's input of sound: a feature extractor of transformers.

    Raises:
        RepositoryError: preprocessor_config.json cannot be used, or wants sound at another rate than 16 kHz.
    """
    from transformers import (
        ASTFeatureExtractor,
        SeamlessM4TFeatureExtractor,
        Wav2Vec2FeatureExtractor,
        WhisperFeatureExtractor,
    )

    path = folder / "preprocessor_config.json"
    settings = read_json(path, most=LARGEST_SETTING) if path.exists() else {}
    if settings.get("sampling_rate", 16_000) != 16_000:
        raise RepositoryError(f"{path}: this network hears sound at {settings['sampling_rate']} Hz, not at 16000.")
    family = config.model_type
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of transformers, about bands that are empty, and are so in training, too
            if family == "whisper":
                return WhisperFeatureExtractor(feature_size=config.num_mel_bins)
            if family == "audio-spectrogram-transformer":
                own = {name: settings[name] for name in ("mean", "std", "do_normalize") if name in settings}
                return ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length, **own)
            if family == "wav2vec2-bert":
                return SeamlessM4TFeatureExtractor()
            return Wav2Vec2FeatureExtractor(do_normalize=settings.get("do_normalize", True) is not False)
    except (ValueError, TypeError, ImportError) as error:
        raise RepositoryError(f"{path} cannot be used: {one_line(error)[:200]}.") from error
