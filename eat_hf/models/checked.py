"""Networks from strangers: their settings are compared with their weights before anything of their size is made."""

import inspect
import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from pydantic import ConfigDict, ValidationError, create_model
from torch import Tensor, nn

from ..errors import RepositoryError, UserError, shown
from ..hub.client import explained, fetch_folder
from ..media.bounded import StoredTensor, check_tensors, read_headers, read_json
from ..media.files import one_line
from ..names import check_name

Network = TypeVar("Network", bound=ModelMixin)

WEIGHTS = SAFETENSORS_WEIGHTS_NAME.removesuffix(".safetensors")
# settings that shape no weight, so that nothing else bounds them: frames, pixels and rows
MOST = {
    "blur_size": 255, "downscale": 16, "pooled_size": 64, "window": 255, "semantic_steps": 1024, "map_size": 512,
    "pose_size": 512, "image_size": 1024, "heads": 256, "mels": 1024, "depth": 1024,
    "lookahead": 2,
}  # fmt: skip
POSITIVE = ("temperature", "blur_sigma", "driving_crop_scale")
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.float64: "F64"}


def load_network(kind: type[Network], place: str | Path) -> Network:
    """A network in evaluation mode: a folder, or a repository of the Hub; safetensors only.

    Raises:
        RepositoryError: there is none, it cannot be had, or its settings, weights or numbers are not a network's.
    """
    with explained(place):
        if not Path(place).is_dir():
            names = [ModelMixin.config_name, f"{WEIGHTS}*.safetensors", f"{WEIGHTS}*.index*.json"]
            place = fetch_folder(place, names)
        check_network(kind, Path(place))
        network = kind.from_pretrained(place, use_safetensors=True).eval()
    check_numbers(network, place)
    return network


def check_network(kind: type[ModelMixin], folder: Path, variant: str | None = None) -> None:
    """That a folder holds a network of this class. Nothing is read but its configuration and the names of its weights.

    Raises:
        RepositoryError: it does not.
    """
    path = folder / ModelMixin.config_name
    settings = read_json(path)
    named = settings.get("_class_name")
    if named != kind.__name__:
        raise RepositoryError(f"{path} is the configuration of {shown(named)}, not of {kind.__name__}.")
    own = {name: value for name, value in settings.items() if not name.startswith("_")}
    _check_settings(kind, own, path)
    found = read_headers(folder, WEIGHTS, variant)
    known = {name: own[name] for name in inspect.signature(kind).parameters if name in own}
    check_tensors(expected_tensors(lambda: kind(**known), len(found), path), found, folder)


def _check_settings(kind: type[ModelMixin], settings: Mapping[str, Any], path: Path) -> None:
    parameters = inspect.signature(kind.__init__, eval_str=True).parameters
    fields: Any = {
        name: (each.annotation, ... if each.default is each.empty else each.default)
        for name, each in parameters.items()
        if name != "self" and each.kind is not each.VAR_KEYWORD
    }
    schema = create_model("Settings", __config__=ConfigDict(strict=True, extra="ignore"), **fields)
    try:
        schema.model_validate_json(json.dumps(settings))  # in JSON's way: a list will do for a tuple
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise RepositoryError(f"{path} cannot be used; {place}: {first['msg']}.") from error
    for name, value in settings.items():
        if name in fields and _least_integer(value) < 0:
            raise RepositoryError(f"{path} cannot be used; {name}: no size is negative.")
        if isinstance(value, int | float) and (value > MOST.get(name, value) or (name in POSITIVE and value <= 0)):
            wanted = f"at most {MOST[name]}" if name in MOST else "more than 0"
            raise RepositoryError(f"{path} cannot be used; {name}: {value} must be {wanted}.")
        if name in MOST and value == 0:
            raise RepositoryError(f"{path} cannot be used; {name}: it must be at least 1.")
    emotions = settings.get("emotions")
    if emotions is not None:
        check_names(emotions, path)


def check_names(emotions: Sequence[str], path: Path) -> None:
    """That emotions are names, and can be told apart.

    Raises:
        RepositoryError: they cannot.
    """
    if not emotions or len(set(emotions)) < len(emotions):
        raise RepositoryError(f"{path} cannot be used; emotions: names must be there, and none of them twice.")
    try:
        for name in emotions:
            check_name(name)
    except UserError as error:
        raise RepositoryError(f"{path} cannot be used; emotions: {error}") from error


def _least_integer(value: Any) -> int:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return min(map(_least_integer, value), default=0)
    return value if isinstance(value, int) else 0


class _TooMany(Exception):
    """A network turned out larger than its file of weights."""


@contextmanager
def _at_most(tensors: int) -> Iterator[None]:
    """Stop whoever builds, in this thread, more modules and parameters than weights for them are there."""
    thread, left = threading.get_ident(), [20 * tensors + 1000, tensors + 1]

    def count(kind: int) -> Callable[..., None]:
        def one_more(*_: Any) -> None:
            if threading.get_ident() == thread:
                left[kind] -= 1
                if left[kind] < 0:
                    raise _TooMany

        return one_more

    hooks = [
        nn.modules.module.register_module_module_registration_hook(count(0)),
        nn.modules.module.register_module_parameter_registration_hook(count(1)),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def expected_tensors(build: Callable[[], nn.Module], stored: int, path: Path) -> dict[str, StoredTensor]:
    """The tensors of a network that is built without memory for them.

    Args:
        build: makes it.
        stored: how many tensors there are for it; one that has far more is not built to its end.
        path: of its configuration.

    Raises:
        RepositoryError: its settings make no network, or one of more tensors.
    """
    try:
        with warnings.catch_warnings(), torch.device("meta"), _at_most(2 * stored + 100):
            warnings.simplefilter("ignore")
            network = build()
    except _TooMany as error:
        raise RepositoryError(f"{path} describes a network of far more than its {stored} tensors.") from error
    except Exception as error:  # whatever a layer says of a stranger's settings
        raise RepositoryError(f"{path} cannot be used; they make no network: {one_line(error)[:200]}.") from error
    return tensors_of(network.state_dict())


def tensors_of(weights: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
    """What a safetensors file would say of weights."""
    return {
        name: StoredTensor(tuple(tensor.shape), _DTYPES.get(tensor.dtype, str(tensor.dtype)))
        for name, tensor in weights.items()
    }


def check_numbers(network: nn.Module, place: str | Path) -> None:
    """That all weights are numbers, and variances of batch norms not negative.

    Raises:
        RepositoryError: they are not.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise RepositoryError(f"The weights of {place} cannot be used: {name} holds NaN or infinite numbers.")
        if name.endswith("running_var") and (tensor < 0).any():
            raise RepositoryError(f"The weights of {place} cannot be used: {name} holds negative variances.")
