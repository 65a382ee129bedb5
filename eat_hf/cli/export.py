"""`eat-hf export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..pipeline.bundled import MODEL_VARIABLE, find_model, load_pipeline
from .extras import needs
from .messages import show


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; an older export is replaced.")],
    model: Annotated[
        str | None, typer.Option(help=f"Folder or Hub id. Default: ${MODEL_VARIABLE}, else the bundled model.")
    ] = None,
    format: Annotated[Literal["onnx"], typer.Option(help="What to write.")] = "onnx",
) -> None:
    """Write a model for other runtimes: ONNX graphs from a portrait and sound to frames, and what they take."""
    with needs("export"):
        import onnx  # noqa: F401  the exporter's, which would tell it with a traceback
    pipeline = load_pipeline(find_model(model)).to("cpu")
    from ..export.onnx_folder import export_onnx

    export_onnx(pipeline.networks, output, pipeline.progress_bar)
    show(output)
