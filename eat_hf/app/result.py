"""The place where videos appear, one for all tabs: the newest frame while one is made, then the video, and its code."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from .components import AT_ONCE
from .fair_queue import NETWORKS
from .studio import Made

LABEL = "Video (AI-generated)"
HEIGHT = 384


@dataclass
class Result:
    """Attributes:
    video, preview: the video, and its newest frame while it is made; one of them is seen at a time.
    stop: a button that is seen with the preview.
    note: what the video is, or what to do for one.
    code: Python code that makes the same.
    gallery: a frame of every emotion of the model.
    runs: of all tabs, which `stop` ends.
    """

    video: gr.Video
    preview: gr.Image
    stop: gr.Button
    note: gr.Markdown
    code: gr.Code
    gallery: gr.Gallery
    runs: list[Any] = field(default_factory=list)

    def listen(self, trigger: Callable, handler: Callable, inputs: list, api_name: str | None, with_code: bool = True):
        """Run a generator of (video, code, preview), or without code, on a trigger. The endpoint, if it has a name,
        returns the last; without a name, it is the page that asks, and has said in the note what for."""

        def show_preview():
            return (
                gr.Image(value=None, visible=True, label="Video"),
                gr.Video(value=None, visible=False, autoplay=True),
                gr.Button(visible=True),
                "" if api_name else gr.skip(),
                "",
            )

        def show_video():
            return gr.Image(visible=False), gr.Video(visible=True), gr.Button(visible=False)

        seen = [self.preview, self.video, self.stop]
        first = trigger(show_preview, None, [*seen, self.note, self.code], scroll_to_output=True, **AT_ONCE)
        run = first.then(
            handler,
            inputs,
            [self.video, *([self.code] if with_code else []), self.preview],
            api_name=api_name,
            api_visibility="public" if api_name else "private",
            show_progress_on=[self.preview],
            concurrency_id=NETWORKS,
        )
        run.then(show_video, None, seen, **AT_ONCE)
        self.runs.append(run)
        return run

    def let_stop(self) -> None:
        """To be called when all tabs listen."""
        self.stop.click(
            lambda: (gr.Button(visible=False), "Stopped."), None, [self.stop, self.note], cancels=self.runs, **AT_ONCE
        )


def build_result() -> Result:
    """Video and preview in the same place, and what belongs to them."""
    preview = gr.Image(
        label="Video",
        interactive=False,
        visible=False,
        height=HEIGHT,
        format="jpeg",
        elem_id="result-preview",
        buttons=[],
    )
    video = gr.Video(
        label=LABEL,
        interactive=False,
        height=HEIGHT,
        elem_id="result-video",
        buttons=["download"],
    )
    stop = gr.Button("Stop", visible=False, elem_id="stop")
    note = gr.Markdown(elem_id="result-note", elem_classes="eat-note")
    gallery = gr.Gallery(
        label="The emotions",
        show_label=False,
        columns=4,
        height=None,
        visible=False,
        format="jpeg",
        elem_id="emotions",
        object_fit="cover",
        allow_preview=False,
        buttons=[],
    )
    with gr.Accordion("The same in Python", open=False):
        code = gr.Code(label="Python code", language="python", show_label=False, interactive=False, elem_id="code")
    return Result(video, preview, stop, note, code, gallery)


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
            elif made.done > first[0]:
                left = (now - first[1]) / (made.done - first[0]) * (made.total - made.done)
                label += f", {left:.0f} s left"
            yield gr.skip(), *([gr.skip()] * len(more)), gr.Image(value=made.frame, label=label)
