"""Configurations and weights from strangers: looked at, and bounded, before anything of their size is made."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RepositoryError, shown, visible
from .files import one_line

JSON_BYTES = 1_000_000  # the longest configuration of a component has 3,000
INDEX_BYTES = HEADER_BYTES = 8_000_000  # a network of 5,000 tensors needs a tenth of that
WEIGHT_BYTES = 4 * 2**30  # of one network; CLIP, the largest, has 1.7 GB
LARGEST_NUMBER = 65_536  # in a configuration: no layer is wider, and no vocabulary of CLIP's larger
FLOATS = ("F32", "F16", "BF16", "F64")
LONGEST_LIST, LONGEST_TEXT, DEEPEST = 4_096, 20_000, 24


class StoredTensor(NamedTuple):
    """What a safetensors file says of one tensor: its shape, and its numbers' type as safetensors names it."""

    shape: tuple[int, ...]
    dtype: str


def plain_file(path: Path) -> Path:
    """The path, if a file lies there: no folder, pipe or device, which could be read without end.

    Raises:
        RepositoryError: there is none.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path} cannot be read: {one_line(error)}.") from error
    if not stat.S_ISREG(mode):
        raise RepositoryError(f"{path} is a {'folder' if stat.S_ISDIR(mode) else 'device'}, where a file should be.")
    return path


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """A short UTF-8 file.

    Raises:
        RepositoryError: it is none, or longer than `limit` bytes.
    """
    try:
        with plain_file(path).open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise RepositoryError(f"{path} has more than {limit / 1e6:g} MB, which no such file needs.")
        return content.decode()
    except RepositoryError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{path} cannot be read: {one_line(error)}.") from error


def read_json(path: Path, limit: int = JSON_BYTES, most: float = LARGEST_NUMBER) -> dict[str, Any]:
    """A JSON object without duplicated keys, and without numbers, lists, texts and depths beyond all reason.

    Args:
        most: the largest number.

    Raises:
        RepositoryError: it cannot be read, or is something else.
    """
    found = _parse(read_text(path, limit), path)
    _check_values(found, path, most)
    return found


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else one_line(error)
        raise RepositoryError(f"{path} cannot be read: {reason}.") from error
    if not isinstance(found, dict):
        raise RepositoryError(f"{path} cannot be read: it must hold a JSON object, not a {type(found).__name__}.")
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _check_values(found: Mapping[str, Any], path: Path, most: float) -> None:
    waiting: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in found.items()]
    while waiting:
        key, value, depth = waiting.pop()
        problem = ""
        if depth > DEEPEST:
            problem = f"it is nested more than {DEEPEST} deep"
        elif isinstance(value, int | float) and not abs(value) <= most:
            problem = f"numbers beyond {most:,} are not sensible"
        elif isinstance(value, str) and len(value) > LONGEST_TEXT:
            problem = f"its text has more than {LONGEST_TEXT} characters"
        elif isinstance(value, list | dict):
            if len(value) > LONGEST_LIST:
                problem = f"it has more than {LONGEST_LIST} entries"
            inner = value.values() if isinstance(value, dict) else value
            waiting += [(key, each, depth + 1) for each in inner]
        if problem:
            raise RepositoryError(f"{path} cannot be used; {shown(key)}: {problem}.")


def read_header(path: Path) -> dict[str, StoredTensor]:
    """What a safetensors file says of its tensors, by name; none of them is read.

    Raises:
        RepositoryError: it is no such file, is cut off, or larger than any network.
    """
    from safetensors import SafetensorError, safe_open

    size = plain_file(path).stat().st_size
    if size > WEIGHT_BYTES:
        raise RepositoryError(f"{path} has {size / 1e9:.1f} GB; networks have {WEIGHT_BYTES / 1e9:.1f} at most.")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_BYTES, size - 8):
                raise RepositoryError(f"{path} cannot be read: it is no safetensors file, or cut off.")
            _parse(file.read(length).decode(), path)  # safetensors itself would not notice a name that is there twice
        with safe_open(path, "pt") as stored:  # it maps the file, and checks where every tensor lies
            return {
                name: StoredTensor(tuple(part.get_shape()), part.get_dtype())
                for name in stored.keys()
                for part in [stored.get_slice(name)]
            }
    except RepositoryError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise RepositoryError(f"{path} cannot be read: {one_line(error)}.") from error


def read_headers(folder: Path, name: str, variant: str | None = None) -> dict[str, StoredTensor]:
    """`read_header` of a network's weights, in one file or in the shards that its index lists.

    Args:
        name: of the file, without its ending.
        variant: such as "fp16"; where it is not there, the plain weights count.

    Raises:
        RepositoryError: as for `read_header`; or there are none.
    """
    endings = ([f".{variant}"] if variant and any(folder.glob(f"{name}*.{variant}*")) else []) + [""]
    ending = endings[0]
    indices = [f"{name}.safetensors.index{ending}.json", f"{name}.safetensors{ending}.index.json"]
    index = next((folder / each for each in indices if os.path.lexists(folder / each)), None)
    if index is None:
        path = folder / f"{name}{ending}.safetensors"
        if not os.path.lexists(path):
            raise RepositoryError(f"The folder {folder} cannot be loaded: it has no {path.name}.")
        return read_header(path)
    shards = _parse(read_text(index, INDEX_BYTES), index).get("weight_map")
    if not (isinstance(shards, dict) and all(isinstance(shard, str) for shard in shards.values())):
        raise RepositoryError(f"{index} cannot be read: it must list the shard of every tensor.")
    found: dict[str, StoredTensor] = {}
    bytes_left = WEIGHT_BYTES
    for shard in sorted(set(shards.values())):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise RepositoryError(f"{index} names {shown(shard)}, which is no safetensors file of this folder.")
        bytes_left -= plain_file(folder / shard).stat().st_size
        if bytes_left < 0:
            raise RepositoryError(f"{folder} has more weights than any network here: {WEIGHT_BYTES / 1e9:.1f} GB.")
        tensors = read_header(folder / shard)
        if found.keys() & tensors.keys() or tensors.keys() != {each for each in shards if shards[each] == shard}:
            raise RepositoryError(f"{folder / shard} does not hold the tensors that {index.name} says.")
        found |= tensors
    return found


def check_tensors(
    expected: Mapping[str, StoredTensor], found: Mapping[str, StoredTensor], path: Path, *, others: bool = False
) -> None:
    """That weights are those of a network: their names, shapes and kinds of numbers.

    Args:
        others: tensors of other names are not minded.

    Raises:
        RepositoryError: they are not.
    """
    for missing in sorted(expected.keys() - found.keys())[:1]:
        raise RepositoryError(f"{path} lacks the tensor {missing}.")
    for unexpected in sorted(found.keys() - expected.keys())[:1]:
        if not others:
            raise RepositoryError(f"{path} has a tensor {visible(unexpected, 110)}, which is no part of this model.")
    for name, (shape, dtype) in expected.items():
        if found[name].shape != shape:
            raise RepositoryError(
                f"{path}: the tensor {name} has the shape {found[name].shape}, but this model needs {shape}."
            )
        if found[name].dtype not in FLOATS if dtype in FLOATS else found[name].dtype != dtype:
            raise RepositoryError(f"{path}: the tensor {name} holds {found[name].dtype}, not {dtype}.")
