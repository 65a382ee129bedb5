"""Components that take what they get: the pipeline checks it, and says in a sentence what is wrong with it."""

from typing import Any

import gradio as gr

# Of events that are the page's own affair. Gradio shows the errors of queued ones alone, so AT_ONCE must have none.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False}


class Portrait(gr.Image):
    """A picture's path. Gradio's own fails on files that are none, before anybody could explain it."""

    is_template = True  # in the browser it is its parent

    def preprocess(self, payload):
        """The path of the uploaded file."""
        inline = payload is not None and payload.url and payload.url.startswith("data:")
        return super().preprocess(payload) if payload is None or inline else payload.path


class Choice(gr.Radio):
    """One of names that depend on what the visitor has loaded; Gradio's own knows only the first ones."""

    is_template = True

    def preprocess(self, payload):
        """The name as it came."""
        return payload


class DropdownChoice(gr.Dropdown):
    """As `Choice`."""

    is_template = True

    def preprocess(self, payload):
        """The name as it came."""
        return payload
