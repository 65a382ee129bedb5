"""What goes wrong, told to the visitor: user's mistakes and warnings become notices in the page."""

import functools
import inspect
import re
import warnings
from collections.abc import Callable

import gradio as gr

from ..errors import InputWarning, UserError

FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^/\s]+/)+")  # of the server, which are no visitor's business


def without_folders(text: str) -> str:
    """ "The recording /uploads/1f/voice.wav lasts ..." -> "The recording voice.wav lasts ..." """
    return FOLDERS.sub("", text)


def readable(handler: Callable) -> Callable:
    """An event handler whose `UserError` is a readable notice instead of a failure of the server."""

    @functools.wraps(handler)
    def call(*arguments, **named):
        try:
            return handler(*arguments, **named)
        except UserError as error:
            raise _notice(error) from error

    @functools.wraps(handler)
    def iterate(*arguments, **named):
        try:
            yield from handler(*arguments, **named)
        except UserError as error:
            raise _notice(error) from error

    return iterate if inspect.isgeneratorfunction(handler) else call


def _notice(error: UserError) -> gr.Error:
    return gr.Error(without_folders(str(error)), title="That did not work", print_exception=False)


def show_input_warnings() -> None:
    """From now on, an `InputWarning` goes to the page of the visitor whose request it came from."""
    before = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None):
        if issubclass(category, InputWarning):
            gr.Warning(without_folders(str(message)))
        else:
            before(message, category, filename, lineno, file, line)

    if getattr(before, "__module__", None) != __name__:
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
