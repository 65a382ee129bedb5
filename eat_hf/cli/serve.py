"""`eat-hf serve`."""

import os
import socket
from typing import Annotated

import typer

from ..errors import UserError
from ..inputs.numbers import check_whole_number
from ..pipeline.bundled import find_model, load_pipeline

KEY_VARIABLE = "EAT_HF_API_KEY"
PORTS = (0, 65535)
STOP_SECONDS = 30  # in which what is under way may come to its end


def serve(
    model: Annotated[str | None, typer.Option(help="Folder or Hub id. Default: the bundled one.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for everybody.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8000,
) -> None:
    """Serve videos over HTTP and live faces over WebSocket; the page /docs describes both.

    With EAT_HF_API_KEY in the environment, requests must bear that key.
    """
    check_whole_number(port, "--port", PORTS)
    try:
        import uvicorn

        from ..service.server import build_service
    except ImportError as error:
        raise UserError(f"`eat-hf serve` needs {error.name}: pip install 'eat_hf[serve]'.") from error
    from ..serving.limits import Limits

    limits = Limits()
    listening = _bound(host, port)  # before the model is loaded: whether it can be had shall be known at once
    pipeline = load_pipeline(find_model(model))
    pipeline.set_progress_bar_config(disable=True)
    app = build_service(pipeline, limits, os.environ.get(KEY_VARIABLE) or None)
    largest = limits.megabytes * 1_400_000  # a portrait as base64
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ws_max_size=largest,
        ws_max_queue=4,
        timeout_graceful_shutdown=STOP_SECONDS,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    shown_host = f"[{host}]" if ":" in host else host
    print(f"http://{shown_host}:{listening.getsockname()[1]}", flush=True)
    server.run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError as error:
        raise UserError(f"{host} port {port} cannot be listened on ({error.strerror}); choose another.") from error
    return found
