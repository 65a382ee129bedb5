"""Graphs become a folder of ONNX files, with what a program must know to run them."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from ..constants import FPS, SAMPLING_RATE
from ..errors import UserError
from ..media.files import replaced_folder
from ..models.detail_renderer import DetailRenderer
from ..models.landmark_detector import LandmarkDetector
from ..models.streaming_speech_encoder import StreamingSpeechEncoder
from .closed_forms import ClosedForms
from .graphs import Graph, bundled_graphs

if TYPE_CHECKING:
    from ..animation.networks import Networks

OPSET = 20  # the newest that the exporter writes; the first whose GridSample reads volumes
FACTS, CARD = "graphs.json", "README.md"
KINDS = {
    "keypoint_detector": LandmarkDetector,
    "speech_encoder": StreamingSpeechEncoder,
    "repos_net": DetailRenderer,
}


def export_onnx(
    networks: "Networks", folder: str | os.PathLike, watch: Callable[[Sequence[Graph]], Iterable[Graph]] = iter
) -> None:
    """Write a model of the bundled kind as ONNX graphs, with `graphs.json` and a README; older ones are replaced as a
    whole, or stay if anything goes wrong. Numbers are float32, batches of any size.

    Args:
        watch: shows how the work goes on; it passes graphs on.

    Raises:
        UserError: the model is of another kind, or the folder cannot be written or holds something else.
    """
    for name, kind in KINDS.items():
        if not isinstance(network := getattr(networks, name), kind):
            raise UserError(
                f"Only models of the bundled kind can be exported: this one's {name} is {type(network).__name__}, not "
                f"{kind.__name__}."
            )
    if networks.expression_basis.config.driving_centring != "none":
        raise UserError("Only models of the bundled kind can be exported: this one centres keypoints over whole clips.")
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        raise UserError(f"{folder} holds something else; choose another folder.")
    if networks.repos_net.dtype != torch.float32:
        raise UserError("Only models in float32 can be exported; load this one without another dtype.")
    graphs = bundled_graphs(networks)
    written = {f"{graph.name}.onnx" for graph in graphs} | {FACTS, CARD}
    with replaced_folder(folder, FACTS, lambda path: str(path) in written) as unfinished:
        described = [_write(graph, unfinished / f"{graph.name}.onnx") for graph in watch(graphs)]
        facts = _facts(networks) | {"graphs": described}
        (unfinished / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        page = Environment(loader=PackageLoader("eat_hf.export", "."), undefined=StrictUndefined, trim_blocks=True)
        (unfinished / CARD).write_text(page.get_template("card.md.j2").render(facts), encoding="utf-8")


def _write(graph: Graph, path: Path) -> dict[str, Any]:
    """Trace a graph into a file; what its inputs and outputs are."""
    examples = tuple(graph.inputs.values())
    with torch.no_grad(), warnings.catch_warnings(), ClosedForms():
        warnings.simplefilter(
            "ignore"
        )  # of what a trace keeps as it is, which the tests compare, and of the exporter's age
        made = graph.module(*examples)
        # the exporter by torch.export knows no GridSample of volumes, and takes minutes
        torch.onnx.export(
            graph.module,
            examples,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=graph.outputs,
            dynamic_axes={name: dict(axes) for name, axes in graph.axes.items()},
        )
    outputs = dict(zip(graph.outputs, (made,) if isinstance(made, Tensor) else made, strict=True))

    def described(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
        return [
            {"name": name, "type": str(tensor.dtype).removeprefix("torch."), "about": graph.meanings[name]}
            | {"shape": [graph.axes.get(name, {}).get(axis, size) for axis, size in enumerate(tensor.shape)]}
            for name, tensor in tensors.items()
        ]

    return {
        "file": path.name,
        "about": graph.about,
        "inputs": described(dict(graph.inputs)),
        "outputs": described(outputs),
    }


def _facts(networks: "Networks") -> dict[str, Any]:
    a2et, encoder = networks.a2et, networks.speech_encoder
    assert isinstance(encoder, StreamingSpeechEncoder)
    return {
        "opset": OPSET,
        "frames_per_second": FPS,
        "sampling_rate": SAMPLING_RATE,
        "emotions": list(networks.emotion_mapper.config.emotions),
        "window": a2et.config.window,
        "speech_delay": encoder.delay,
        "speech_window": encoder.config.window,
        "mel_padding": a2et.mel_padding.tolist(),
        "semantic_padding": a2et.semantic_padding.tolist(),
    }
