"""What Gradio's components leave to be said here."""

from typing import Any, TypeVar

import gradio as gr

# Of events that are the page's own affair. Gradio shows the errors of queued ones alone, so AT_ONCE must have none.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False}

Component = TypeVar("Component", bound=gr.components.Component)

# On the instances: Gradio writes an interface file beside every module that derives from its components.


def any_name(choice: Component) -> Component:
    """Let a radio or dropdown pass names that it does not offer.

    Which ones there are depends on what the visitor has loaded; the pipeline knows, and says what is wrong.
    """
    choice.preprocess = lambda payload: payload  # type: ignore[method-assign]
    return choice


def any_file(image: gr.Image) -> gr.Image:
    """Let an image of type "filepath" pass files that are no picture, which are explained where they are read."""

    def preprocess(payload: Any) -> Any:
        return None if payload is None else payload.path

    image.preprocess = preprocess  # type: ignore[method-assign]
    return image
