"""`eat-hf app`."""

from typing import Annotated

import typer

from ..errors import UserError
from ..inputs.numbers import check_whole_number
from ..pipeline.bundled import MODEL_VARIABLE, find_model, load_pipeline
from .extras import needs

PORTS = (1, 65_535)


def app(
    model: Annotated[
        str | None, typer.Option(help=f"Folder or Hub id. Default: ${MODEL_VARIABLE}, else the bundled model.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: the first free one from 7860.", show_default=False)] = None,
) -> None:
    """Open the page in which videos are made, in a browser of this machine or another.

    EAT_HF_VOICE_EMOTION in the environment names the model that hears emotions in voices.
    """
    if port is not None:
        check_whole_number(port, "--port", PORTS)
    with needs("app"):
        from ..app import build_app, launch
    place = find_model(model)
    demo = build_app(load_pipeline(place), model=place)
    try:
        launch(demo, server_name=host, server_port=port)
    except OSError as error:  # of Gradio: its sentence names the ports
        raise UserError(f"The page cannot be served at {host}: {error}") from error
