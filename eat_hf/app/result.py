"""The place where a video appears: its newest frame while it is made, then the video."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .studio import Made

CONSENT = (
    "Animate only people who agreed to it, or who never lived, and say that the video is AI-generated when you show it."
)


@dataclass
class Result:
    """Attributes: video, and preview, the newest frame while it is made; one of them is seen at a time."""

    video: gr.Video
    preview: gr.Image

    def listen(
        self,
        trigger: Callable,
        handler: Callable,
        inputs: list,
        more_outputs: list,
        api_name: str | None,
        stop: gr.Button,
    ):
        """Run a generator of (video, *more, preview) on a trigger. The endpoint, if it has a name, returns the last."""
        more = [gr.skip()] * len(more_outputs)

        def show_preview():
            return gr.Video(value=None, visible=False), gr.Image(value=None, visible=True, label="Video"), *more

        def show_video(video):
            made = bool(video)
            return gr.Video(visible=made), gr.Image(visible=not made)

        outputs = [self.video, *more_outputs, self.preview]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        first = trigger(show_preview, None, [self.video, self.preview, *more_outputs], **private)
        run = first.then(
            handler,
            inputs,
            outputs,
            api_name=api_name,
            api_visibility="public" if api_name else "private",
            show_progress_on=[self.preview],
            concurrency_id="generate",
        )
        run.then(show_video, self.video, [self.video, self.preview], **private)
        stop.click(None, cancels=[run])
        return run


def build_result(elem_id: str) -> Result:
    """The video and its preview, in the same place."""
    preview = gr.Image(
        label="Video",
        interactive=False,
        height=380,
        format="jpeg",
        elem_id=f"{elem_id}-preview",
        buttons=[],
        placeholder="Your video appears here.",
    )
    video = gr.Video(
        label="Video (AI-generated)",
        interactive=False,
        autoplay=True,
        height=380,
        visible=False,
        elem_id=f"{elem_id}-video",
        buttons=["download"],
    )
    return Result(video, preview)


def build_buttons(name: str, elem_id: str) -> tuple[gr.Button, gr.Button]:
    """The button that starts, one that stops, and what is agreed to by pressing."""
    with gr.Row():
        start = gr.Button(name, variant="primary", scale=3, min_width=160, elem_id=elem_id)
        stop = gr.Button("Stop", scale=1, min_width=80)
    gr.Markdown(CONSENT, elem_classes="eat-note")
    return start, stop


def shown(steps: Iterator[Made], *more: Any) -> Iterator[tuple]:
    """Steps of the work as outputs of `Result.listen`."""
    start = time.monotonic()
    for made in steps:
        if made.video is not None:
            yield str(made.video), *more, None
        else:
            left = (time.monotonic() - start) / made.done * (made.total - made.done)
            label = f"Frame {made.done} of {made.total}, {left:.0f} s left"
            yield gr.skip(), *([gr.skip()] * len(more)), gr.Image(value=made.frame, label=label)
