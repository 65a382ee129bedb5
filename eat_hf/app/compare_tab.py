"""The same voice in all emotions of the model, side by side."""

import gradio as gr

from ..inputs.emotions import MAX_INTENSITY
from .inputs import Inputs
from .result import build_buttons, build_result, shown
from .studio import Session, Studio


def compare_tab(studio: Studio, inputs: Inputs) -> None:
    """A grid video; the endpoint is /compare."""
    count = len(studio.pipe.emotion_mapper.config.emotions)
    gr.Markdown(f"The portrait says the voice in all {count} emotions at once. This takes {count} times as long.")
    with gr.Row():
        intensity = gr.Slider(0, MAX_INTENSITY, value=1, step=0.05, label="Intensity", min_width=200)
        head_motion = gr.Radio(
            [("Natural", "natural"), ("Still", "still")], value="still", label="Head motion", min_width=200
        )
    start, stop = build_buttons("Compare all emotions", "start-compare")
    result = build_result("compare")

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

    result.listen(start.click, compare, [*inputs.given, intensity, head_motion], [], "compare", stop)
