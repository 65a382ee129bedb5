"""The command line, `eat-hf`. Heavy imports wait until a command needs them, so that --help answers at once."""

import signal
import sys
import warnings

import typer
from typer.exceptions import Abort, TyperException

from ..errors import InputWarning, UserError
from .convert import convert, convert_judge
from .generate import generate, learn_emotion
from .info import detect_watermark, info
from .measure import benchmark, evaluate

INTERRUPTED = 130

app = typer.Typer(
    name="eat-hf",
    help="Emotional talking-head videos from one portrait and a voice.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (generate, learn_emotion, convert, convert_judge, evaluate, benchmark, detect_watermark, info):
    app.command()(command)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _terminate(signum, frame) -> None:
    raise SystemExit(128 + signum)  # unwinds, so that unfinished files are removed


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and exit status 2, a programming error keeps its traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", InputWarning)
    warnings.showwarning = _show_warning
    try:
        app(arguments or sys.argv[1:] or ["--help"], standalone_mode=False, prog_name="eat-hf")
    except UserError as error:
        _fail(str(error))
    except TyperException as error:
        _fail(error.format_message())
    except (KeyboardInterrupt, Abort):
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _fail(message: str) -> None:
    print(f"eat-hf: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)
