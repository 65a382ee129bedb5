"""Reading released files without ever running what is in them (pickles, numpy arrays, a TensorFlow graph), and writing
folders that are complete or not there."""

import codecs
import contextlib
import io
import pickle
import shutil
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import UserError

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]


class ConversionError(UserError):
    """A release file that is missing, unreadable, or not what the converter knows.

    Attributes:
        problems: where tensors are to blame, their names by the kind of problem; the message may name fewer.
    """

    def __init__(self, message: str, problems: dict[str, list[str]] | None = None):
        super().__init__(message)
        self.problems = problems or {}


def check_output_folder(output: Path) -> None:
    """Raises ConversionError for a folder that holds something already."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConversionError(f"The output folder {output} already exists and is not empty.")


@contextlib.contextmanager
def complete_folder(output: Path) -> Iterator[Path]:
    """A hidden folder to fill; then it gets the name `output`. On any error all of it vanishes."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        if output.exists():
            output.rmdir()
        unfinished.rename(output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def existing(path: str | Path, what: str) -> Path:
    path = Path(path)
    if not path.exists():
        raise ConversionError(f"The {what} {path} does not exist.")
    return path


# Training state in a checkpoint may hold numpy numbers. None of these can run code of the file's choosing.
_NUMPY_GLOBALS: list[Any] = [
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    (multiarray.scalar, "numpy._core.multiarray.scalar"),
    (np.dtype, "numpy.dtype"),
    (codecs.encode, "_codecs.encode"),
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]


def load_checkpoint(path: str | Path, what: str) -> dict:
    """A torch checkpoint as nested dictionaries of CPU tensors; nothing but data is unpickled."""
    path = existing(path, what)
    try:
        with torch.serialization.safe_globals(_NUMPY_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"The {what} {path} cannot be read as a checkpoint of plain tensors: {reason}") from error
    if not isinstance(content, dict):
        raise ConversionError(f"The {what} {path} holds a {type(content).__name__}, not a dictionary of networks.")
    return content


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds arrays and tensors and refuses everything else."""

    @staticmethod
    def _storage(content: bytes):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def find_class(self, module: str, name: str):
        allowed = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "numpy.core.multiarray._reconstruct": multiarray._reconstruct,
            "numpy._core.multiarray._reconstruct": multiarray._reconstruct,
            "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
            "torch.storage._load_from_bytes": self._storage,
            "collections.OrderedDict": OrderedDict,
            "_codecs.encode": codecs.encode,
        }
        try:
            return allowed[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is neither array nor tensor") from None


def load_array(path: str | Path, what: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A .npy file of plain numbers -> float32 of the given shape; -1 stands for any size."""
    path = existing(path, what)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ConversionError(f"The {what} {path} cannot be read as an array of numbers: {error}") from error
    wrong = array.ndim != len(shape) or any(s not in (-1, a) for a, s in zip(array.shape, shape, strict=True))
    if wrong or not np.issubdtype(array.dtype, np.number):
        raise ConversionError(f"The {what} {path} must hold numbers of shape {shape}, not {array.dtype} {array.shape}.")
    return torch.from_numpy(array.astype(np.float32))


def load_padding(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The release's pad.npy -> mel (80,) and semantic (16, 29) float32.

    The file is a pair of objects, so numpy could only read it by running the pickle inside. Here a reader that knows
    arrays and tensors alone does.
    """
    path = existing(path, "padding file")
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if not dtype.hasobject:
                raise ValueError(f"it holds an array of shape {shape}")
            mel, semantic = _ArrayUnpickler(file).load()
        mel, semantic = (torch.as_tensor(x).detach().to(torch.float32).clone() for x in (mel, semantic))
        if (mel.shape, semantic.shape) != ((80,), (16, 29)):
            raise ValueError(f"its arrays have shapes {tuple(mel.shape)} and {tuple(semantic.shape)}")
    except (ValueError, TypeError, OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConversionError(
            f"The padding file {path} is not a pair of a mel column (80,) and a semantic window (16, 29): {error}"
        ) from error
    return mel, semantic


# A TensorFlow GraphDef in protocol buffers' wire format; the numbers below are fields of TensorFlow's public schema.
_GRAPH_NODE = 1
_NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 5
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_ATTRIBUTE_TENSOR = 8
_TENSOR_TYPE, _TENSOR_SHAPE, _TENSOR_CONTENT, _TENSOR_FLOATS = 1, 2, 4, 5
_SHAPE_DIMENSION, _DIMENSION_SIZE = 2, 1
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 19: np.dtype("<f2")}  # short tensors come as lists of floats


def _varint(message: memoryview, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Pairs of (field number, value) of one message; a value is a number or the bytes of a string or sub-message."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        value: int | memoryview
        if wire_type == 0:
            value, position = _varint(message, position)
        elif wire_type in (1, 2, 5):
            if wire_type == 2:
                length, position = _varint(message, position)
            else:
                length = 8 if wire_type == 1 else 4
            if position + length > end:
                raise ValueError("it ends in the middle of a field")
            value = message[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire_type} is unknown")
        yield number, value


def _tensor(message: memoryview) -> np.ndarray | None:
    """A TensorProto of floating-point numbers -> float32; None for other types."""
    dtype: np.dtype[Any] | None = None
    shape, content, floats = [], None, []
    for number, value in _fields(message):
        if number == _TENSOR_TYPE:
            dtype = _DTYPES.get(value)
        elif number == _TENSOR_SHAPE:
            dimensions = (dict(_fields(d)) for n, d in _fields(value) if n == _SHAPE_DIMENSION)
            shape = [d.get(_DIMENSION_SIZE, 0) for d in dimensions]
        elif number == _TENSOR_CONTENT:
            content = value
        elif number == _TENSOR_FLOATS:  # packed, or one by one
            floats.append(np.frombuffer(value, "<f4"))
    if dtype is None:
        return None
    if content is not None:
        return np.frombuffer(content, dtype).astype(np.float32).reshape(shape)
    values = np.concatenate(floats) if floats else np.zeros(1, np.float32)
    size = int(np.prod(shape))
    if len(values) < size:  # the last number stands for all that follow
        values = np.concatenate([values, np.full(size - len(values), values[-1])])
    return values.astype(np.float32).reshape(shape)


def load_graph_constants(path: str | Path) -> dict[str, np.ndarray]:
    """The floating-point constants of a frozen TensorFlow graph, by node name, as float32."""
    path = existing(path, "DeepSpeech graph")
    constants = {}
    try:
        for number, node in _fields(memoryview(path.read_bytes())):
            if number != _GRAPH_NODE:
                continue
            name = operation = ""
            tensor = None
            for field, value in _fields(node):
                if field == _NODE_NAME:
                    name = bytes(value).decode()
                elif field == _NODE_OP:
                    operation = bytes(value).decode()
                elif field == _NODE_ATTRIBUTE:
                    entry = dict(_fields(value))
                    if bytes(entry.get(_ENTRY_KEY, b"")) == b"value":
                        tensor = dict(_fields(entry[_ENTRY_VALUE])).get(_ATTRIBUTE_TENSOR)
            if operation == "Const" and tensor is not None:
                array = _tensor(tensor)
                if array is not None:
                    constants[name] = array
    except (ValueError, IndexError, TypeError, OSError) as error:
        raise ConversionError(f"The DeepSpeech graph {path} is not a frozen TensorFlow graph: {error}") from error
    return constants
