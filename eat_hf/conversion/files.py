"""Reading released files without ever running what is in them: pickles and numpy arrays."""

import codecs
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ConversionError

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]

# what readers of pickles raise for damaged ones: they are machines that run whatever the file says
DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError
)  # fmt: skip


def check_output_folder(output: Path) -> None:
    """Raises ConversionError for a folder that holds something already."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConversionError(f"The output folder {output} already exists and is not empty.")


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
    except DAMAGED as error:
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
    except DAMAGED as error:
        raise ConversionError(
            f"The padding file {path} is not a pair of a mel column (80,) and a semantic window (16, 29): {error}"
        ) from error
    return mel, semantic
