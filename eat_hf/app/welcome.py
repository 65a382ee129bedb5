"""What a visitor sees before the first click: an example with its finished video, or what the address asks for."""

import gc
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import gradio as gr
import numpy as np

from ..errors import UserError
from ..serving.telling import masked, told
from .components import AT_ONCE, PRIVATE
from .inputs import Inputs
from .link import LONGEST, Asked
from .make_video_tab import Settings, plan
from .result import Result
from .studio import Session, Studio

AHEAD_SECONDS = 60  # after which no other example is begun ahead of visitors
PRESS = "Press **Make the video** to see what the link asks for."


def welcome(demo: gr.Blocks, studio: Studio, inputs: Inputs, result: Result, tabs: gr.Tabs) -> Callable[[], None]:
    """Fill the page when it opens and when an example is clicked; a link with the settings of the open tab.

    Returns:
        A function that makes the examples' videos and pictures ahead of visitors.
    """
    address = gr.Textbox(visible=False, max_length=LONGEST)
    copy = gr.Button("Copy a link to these settings", elem_id="copy-link")
    link = gr.Textbox(label="Link", interactive=False, visible=False, buttons=["copy"], elem_id="link", container=False)
    galleries: dict[int, list[tuple[np.ndarray, str]]] = {}
    chosen_example = gr.State(0)
    outputs = [
        *(inputs.portrait, inputs.voice, tabs, *inputs.link.components),
        *(result.video, result.preview, result.stop, result.note, result.code, result.gallery),
        *(chosen_example, inputs.wanted),
    ]

    def prepared(index: int, **values: Any):
        """Settings of an example with everything that follows from them."""
        example = studio.examples[index]
        settings = Settings(**{"emotion": example.emotion, **values})
        return settings, *plan(studio, Session(), str(example.portrait), str(example.voice), settings)

    def pictures(index: int):
        """The example's gallery, once it is there; until then none, rather than somebody else's."""
        return gr.Gallery(value=galleries.get(index), visible=index in galleries)

    def fill(index: int, asked: Asked | None, wanted: int) -> tuple:
        """All outputs, for an example with or without what the address asks for."""
        settings, _, code, key = prepared(index, **(asked.values if asked and asked.tab == "make" else {}))
        example, video = studio.examples[index], key and inputs.kept.find(key)
        linked = asked is not None and bool(asked.values) and asked.tab == "make"
        note = f"An example of this page: {example.portrait.stem}, {settings.emotion}. Choose another emotion, below "
        note += "or in the tab, or bring your own portrait and voice."
        return (
            *(str(example.portrait), str(example.voice), gr.Tabs(selected=asked.tab if asked else "make")),
            *_updates(inputs, asdict(settings), asked),
            gr.Video(value=str(video) if video else None, visible=True),
            *(gr.Image(visible=False), gr.Button(visible=False)),
            PRESS if linked and not video else note,
            code if video else "",
            pictures(index),
            index,
            gr.skip() if video or linked else wanted + 1,
        )

    def arrive(address: str, wanted: int):
        try:
            asked = inputs.link.read(address, studio.examples)
        except UserError as error:
            gr.Warning(told(str(error)))
            asked = Asked("make")
        if not studio.examples:
            tab = [gr.skip(), gr.skip(), gr.Tabs(selected=asked.tab)]
            updates = inputs.link.updates(asked.tab, asked.values)
            return *tab, *updates, *[gr.skip()] * (len(outputs) - len(tab) - len(updates))
        try:
            return fill(asked.example or 0, asked, wanted)
        except UserError as error:
            gr.Warning(told(str(error)))
            return fill(0, None, wanted)

    # not in the queue for the networks, where others are at work
    demo.load(
        arrive,
        [address, inputs.wanted],
        outputs,
        js="(address, wanted) => [location.search, wanted]",
        concurrency_id="welcome",
        concurrency_limit=None,
        **PRIVATE,
    )
    inputs.arrived.then(pictures, chosen_example, result.gallery, **AT_ONCE)
    if inputs.examples is not None:
        inputs.examples.click(
            lambda index, wanted: fill(index, None, wanted),
            [inputs.examples, inputs.wanted],
            outputs,
            concurrency_id="welcome",
            concurrency_limit=None,
            **PRIVATE,
        )
    copy.click(
        None,
        [inputs.portrait, inputs.voice, *inputs.link.components],
        link,
        js=inputs.link.script(studio.examples),
    ).then(lambda: gr.Textbox(visible=True), None, link, queue=False, **PRIVATE)

    def choose(chosen: gr.SelectData):
        names = studio.pipe.emotion_mapper.config.emotions
        if not isinstance(chosen.index, int) or isinstance(chosen.index, bool) or not 0 <= chosen.index < len(names):
            raise UserError("There is no such picture.")
        return names[chosen.index], gr.Tabs(selected="make")

    emotion = inputs.link.components[inputs.link.settings.index(("make", "emotion"))]
    result.gallery.select(choose, None, [emotion, tabs], **PRIVATE)

    def make_ahead() -> None:
        until = time.monotonic() + AHEAD_SECONDS
        try:
            for index in range(len(studio.examples)):
                if time.monotonic() > until:
                    break
                _, request, _, key = prepared(index)

                still = replace(request.options, emotion="neutral", head_motion="still")
                galleries[index] = studio.gallery(replace(request, options=still))

                def make(request=request):
                    return studio.make_video(Session(), request)

                inputs.kept.make_ahead(key, request.name, make)
        except Exception:  # the first visitor makes them
            print(masked(traceback.format_exc()), file=sys.stderr)
        gc.collect()

    return make_ahead


def _updates(inputs: Inputs, values: Mapping[str, Any], asked: Asked | None) -> list[Any]:
    """Of all settings: those of the tab that makes videos, and what the address asks for in another."""
    made = inputs.link.updates("make", values)
    if asked is None or asked.tab == "make":
        return made
    return [
        other if tab == asked.tab else mine
        for (tab, _), mine, other in zip(
            inputs.link.settings, made, inputs.link.updates(asked.tab, asked.values), strict=True
        )
    ]
