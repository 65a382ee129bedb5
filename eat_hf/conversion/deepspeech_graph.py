"""The constants of DeepSpeech's frozen TensorFlow graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConversionError
from .files import existing

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
