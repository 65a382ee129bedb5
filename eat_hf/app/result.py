"""The place where a video appears: its newest frame while it is made, then the video."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .components import AT_ONCE
from .fair_queue import NETWORKS
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
            return gr.Image(value=None, visible=True, label="Video"), gr.Video(value=None, visible=False), *more

        def show_video(video):
            return gr.Image(visible=False), gr.Video(visible=bool(video))

        outputs = [self.video, *more_outputs, self.preview]
        first = trigger(show_preview, None, [self.preview, self.video, *more_outputs], scroll_to_output=True, **AT_ONCE)
        run = first.then(
            handler,
            inputs,
            outputs,
            api_name=api_name,
            api_visibility="public" if api_name else "private",
            show_progress_on=[self.preview],
            concurrency_id=NETWORKS,
        )
        run.then(show_video, self.video, [self.preview, self.video], **AT_ONCE)
        stop.click(None, cancels=[run])
        return run


def build_result(elem_id: str) -> Result:
    """The video and its preview, in the same place."""
    preview = gr.Image(
        label="Video",
        interactive=False,
        visible=False,
        height=380,
        format="jpeg",
        elem_id=f"{elem_id}-preview",
        buttons=[],
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
    first = None
    for made in steps:
        if made.video is not None:
            yield str(made.video), *more, None
        else:
            label, now = f"Frame {made.done} of {made.total}", time.monotonic()
            if first is None:  # it came with the motion of the whole clip, which says nothing about the rest
                first = made.done, now
            else:
                left = (now - first[1]) / (made.done - first[0]) * (made.total - made.done)
                label += f", {left:.0f} s left"
            yield gr.skip(), *([gr.skip()] * len(more)), gr.Image(value=made.frame, label=label)
