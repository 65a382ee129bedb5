"""The reader of frozen graphs on every form in which TensorFlow stores a constant."""

import sys

import numpy as np
import pytest
from official_release import encode_graph
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_HALF

from eat_hf.conversion.deepspeech_graph import load_graph_constants
from eat_hf.errors import ConversionError


def add_constant(graph, name, dtype, shape, **values):
    node = graph.node.add(name=name, op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = dtype
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    for field, numbers in values.items():
        getattr(tensor, field).extend(numbers)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "graph.pb"


def test_constants_come_as_float32_by_name_and_all_else_is_left_out(path):
    rng = np.random.default_rng(0)
    single, half = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=4).astype(np.float16)
    path.write_bytes(encode_graph({"single": single, "half": half, "whole": np.arange(3, dtype=np.int32)}))
    found = load_graph_constants(path)
    assert list(found) == ["single", "half"] and {array.dtype.name for array in found.values()} == {"float32"}
    np.testing.assert_array_equal(found["single"], single)
    np.testing.assert_array_equal(found["half"], half.astype(np.float32))


def test_the_last_number_of_a_list_stands_for_all_that_follow(path):
    graph = GraphDef()
    add_constant(graph, "all listed", DT_FLOAT, (2, 2), float_val=[1, 2, 3, 4])
    add_constant(graph, "one", DT_FLOAT, (2, 3), float_val=[0.5])
    add_constant(graph, "some", DT_FLOAT, (4,), float_val=[1, 7])
    add_constant(graph, "none", DT_FLOAT, (2,))
    add_constant(graph, "a number", DT_FLOAT, (), float_val=[9])
    add_constant(graph, "halves", DT_HALF, (3,), half_val=np.array([1.5, -2], np.float16).view(np.uint16).tolist())
    path.write_bytes(graph.SerializeToString())
    found = {name: array.tolist() for name, array in load_graph_constants(path).items()}
    assert found == {
        "all listed": [[1, 2], [3, 4]],
        "one": [[0.5] * 3] * 2,
        "some": [1, 7, 7, 7],
        "none": [0, 0],
        "a number": 9,
        "halves": [1.5, -2, -2],
    }


def test_a_file_that_was_cut_off_or_is_none_of_these(path):
    whole = encode_graph({"weight": np.ones((4, 4), np.float32)})
    graph = GraphDef()
    add_constant(graph, "too many", DT_FLOAT, (2,), float_val=[1, 2, 3])
    for content in (whole[: len(whole) // 2], b"no graph", graph.SerializeToString()):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match="DeepSpeech graph .*graph.pb is not a frozen TensorFlow graph"):
            load_graph_constants(path)


def test_without_its_reader_the_error_says_what_to_install(path, monkeypatch):
    path.write_bytes(encode_graph({}))
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.graph_pb2", None)
    with pytest.raises(ConversionError, match=r"pip install 'eat_hf\[convert\]'"):
        load_graph_constants(path)
