"""The constants of DeepSpeech's frozen TensorFlow graph, read without TensorFlow."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConversionError
from .files import existing


def load_graph_constants(path: str | Path) -> dict[str, np.ndarray]:
    """The floating-point constants of a frozen TensorFlow graph, by node name, as float32.

    Raises:
        ConversionError: there is no such file, it is something else, or what reads it is not installed.
    """
    path = existing(path, "DeepSpeech graph")
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.graph_pb2 import GraphDef
        from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_HALF
    except ImportError as error:
        raise ConversionError(
            f"Reading the DeepSpeech graph {path} needs the package tensorboard; install it: "
            "pip install 'eat_hf[convert]'"
        ) from error
    try:
        graph = GraphDef.FromString(path.read_bytes())
        tensors = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
        return {name: _array(tensor) for name, tensor in tensors.items() if tensor.dtype in (DT_FLOAT, DT_HALF)}
    except (DecodeError, ValueError, OSError) as error:
        raise ConversionError(f"The DeepSpeech graph {path} is not a frozen TensorFlow graph: {error}") from error


def _array(tensor: Any) -> np.ndarray:
    """A TensorProto as float32."""
    from tensorboard.util.tensor_util import make_ndarray

    if not tensor.tensor_content:  # a list of numbers, the last of which stands for all that follow
        stored = tensor.half_val or tensor.float_val
        size = math.prod(dimension.size for dimension in tensor.tensor_shape.dim)
        stored.extend([stored[-1] if stored else 0] * (size - len(stored)))
    return make_ndarray(tensor).astype(np.float32)
