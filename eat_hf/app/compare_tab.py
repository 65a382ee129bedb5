"""All emotions of the model at once: a picture of each, or the same voice side by side."""

import gradio as gr

from ..inputs.emotions import MAX_INTENSITY
from .components import AT_ONCE
from .fair_queue import NETWORKS
from .inputs import Inputs
from .result import Result, shown
from .studio import Session, Studio


def compare_tab(studio: Studio, inputs: Inputs, result: Result) -> None:
    """Pictures in the gallery, and a grid video; endpoints /preview_emotions and /compare."""
    count = len(studio.pipe.emotion_mapper.config.emotions)
    gr.Markdown(
        f"The portrait says the voice in all {count} emotions at once, side by side. The video takes {count} times as "
        "long as another; pictures take a few seconds.",
        elem_classes="eat-note",
    )
    with gr.Row():
        intensity = gr.Slider(0, MAX_INTENSITY, value=1, step=0.05, label="Intensity", min_width=200)
        head_motion = gr.Radio(
            [("Natural", "natural"), ("Still", "still")], value="still", label="Head motion", min_width=200
        )
    look = gr.Button("Show pictures", elem_id="preview-emotions")
    start = gr.Button("Make the video of all emotions", variant="primary", elem_id="start-compare")

    def preview(
        session: Session,
        portrait: str | None,
        voice: str | None,
        intensity: float = 1.0,
        progress=gr.Progress(),  # noqa: B008
    ):
        """A frame of every emotion, with its name."""
        progress(0.1, desc="A frame of every emotion")
        return studio.gallery(studio.request(session, portrait, voice, "neutral", intensity, "still"))

    def compare(
        session: Session,
        portrait: str | None,
        voice: str | None,
        intensity: float = 1.0,
        head_motion: str = "still",
        progress=gr.Progress(),  # noqa: B008
    ):
        """A grid video of all emotions, and nothing."""
        progress(0, desc="Moving the face in every emotion")
        request = studio.request(session, portrait, voice, "neutral", intensity, head_motion, name="emotions.mp4")
        yield from shown(studio.make_grid(request))

    inputs.link.add("compare", intensity=intensity, head_motion=head_motion)
    look.click(lambda: gr.Gallery(visible=True), None, result.gallery, scroll_to_output=True, **AT_ONCE).then(
        preview,
        [*inputs.given, intensity],
        result.gallery,
        api_name="preview_emotions",
        concurrency_id=NETWORKS,
    )
    result.listen(start.click, compare, [*inputs.given, intensity, head_motion], "compare", with_code=False)
