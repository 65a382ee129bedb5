"""The command line, `eat-hf`. Heavy imports wait until a command needs them, so that --help answers at once."""

import sys
from typing import TYPE_CHECKING

from ..errors import UserError
from .messages import say
from .process import ended_by_signals, libraries_silenced

if TYPE_CHECKING:
    import typer


def command_line() -> "typer.Typer":
    """All commands with their options."""
    import typer

    from .convert import convert, convert_judge
    from .export import export
    from .generate import generate, learn_emotion
    from .info import detect_watermark, info
    from .measure import benchmark, evaluate
    from .page import app as page
    from .serve import serve

    app = typer.Typer(
        name="eat-hf",
        help="Emotional talking-head videos from one portrait and a voice.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    commands = (
        generate, page, serve, learn_emotion, convert, convert_judge, export, evaluate, benchmark,
        detect_watermark, info,
    )  # fmt: skip
    for command in commands:
        app.command()(command)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and exit status 2, a programming error keeps its traceback."""
    with libraries_silenced():
        try:
            with ended_by_signals():
                _run(arguments or sys.argv[1:] or ["--help"])
        except UserError as error:
            _fail(str(error))


def _run(arguments: list[str]) -> None:
    app = command_line()
    from typer.exceptions import TyperException

    try:
        app(arguments, standalone_mode=False, prog_name="eat-hf")
    except TyperException as error:
        raise UserError(" ".join(error.format_message().split())) from error
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # whoever read it has seen enough
    except OSError as error:
        sys.stdout = None
        raise UserError(f"The output cannot be written ({error.strerror}).") from error


def _fail(message: str) -> None:
    say(f"eat-hf: {message}")
    raise SystemExit(2)
