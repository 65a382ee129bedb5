"""What goes wrong, told to the visitor: user's mistakes and warnings become notices in the page."""

import warnings
from collections.abc import Sequence

import gradio as gr

from ..errors import InputWarning
from ..serving.telling import told


def as_code(text: str) -> str:
    """A stranger's text within Markdown, where it is neither markup nor a link."""
    return "`" + told(text).replace("`", "'") + "`"


def notice(text: str, secrets: Sequence[str] = ()) -> gr.Error:
    """A notice in the page instead of a failure of the server."""
    return gr.Error(told(text, secrets), title="That did not work", print_exception=False)


def show_input_warnings() -> None:
    """From now on, an `InputWarning` goes to the page of the visitor whose request it came from."""
    before = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None):
        if issubclass(category, InputWarning):
            gr.Warning(told(str(message)))
        else:
            before(message, category, filename, lineno, file, line)

    if getattr(before, "__module__", None) != __name__:
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
