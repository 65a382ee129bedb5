"""A portrait that talks while the visitor does."""

from pathlib import Path

import gradio as gr

from ..inputs.emotions import MAX_INTENSITY
from ..inputs.faces import SIZE
from ..pipeline.arguments import DEFAULT_SIZE, ClipOptions
from ..pipeline.live import LiveSession
from .components import PRIVATE, any_name
from .inputs import Inputs, emotion_choices
from .result import Result
from .studio import Session, Studio

SCRIPT = (Path(__file__).with_name("live.js")).read_text(encoding="utf8")
SOURCES = [
    ("Microphone", "microphone"),
    ("Microphone, and hear it", "heard"),
    ("The voice, as if live", "voice"),
]
FACE = """<canvas width="512" height="512" aria-label="The talking face"></canvas>
<p class="eat-live-status" role="status">Press Start, and speak.</p><p class="eat-live-figures eat-note"></p>"""
NOTE = """Use headphones to hear yourself. The face follows the sound by about a second; frames for which this machine
has no time are left out."""


def live_tab(studio: Studio, inputs: Inputs, result: Result) -> None:
    """The microphone, or the voice as if it were live; emotions act at once."""
    with gr.Column(elem_id="live-tab"):
        gr.HTML(FACE, elem_id="live", container=False, padding=False)
        with gr.Row():
            start = gr.Button("Start", variant="primary", elem_id="start-live")
            stop = gr.Button("Stop", elem_id="stop-live")
        emotion = any_name(
            gr.Radio(emotion_choices(studio, Session()), value="neutral", label="Emotion", elem_id="live-emotion")
        )
        intensity = gr.Slider(0, MAX_INTENSITY, value=1, step=0.05, label="Intensity")
        with gr.Row():
            source = gr.Radio(SOURCES, value="microphone", label="Sound", min_width=260, elem_id="live-source")
            sizes = [str(side) for side in (SIZE, DEFAULT_SIZE) if side <= studio.pipe.repos_net.largest_frames]
            visible = len(sizes) > 1
            size = gr.Radio(sizes, value=sizes[0], label="Size", min_width=160, elem_id="live-size", visible=visible)
        gr.Markdown(NOTE, elem_classes="eat-note")
    inputs.pickers.append(emotion)
    token = gr.Textbox(visible="hidden", elem_id="live-token")
    inputs.link.add("live", emotion=emotion, intensity=intensity, source=source, size=size)

    def admit(session: Session, portrait: str | None, emotion: str, intensity: float, size: str) -> str:
        """A token for the WebSocket."""
        studio.limits.read_portrait(portrait)
        studio.track(session, emotion, intensity)
        options = ClipOptions(emotion, float(intensity), size=int(size))

        def begin() -> LiveSession:
            # read anew: a hundred may be admitted and never begin, whose pictures would take gigabytes
            return studio.begin_live(session, studio.limits.read_portrait(portrait), options)

        return studio.live.admit(begin)

    settings = [inputs.session, inputs.portrait, emotion, intensity, size]
    start.click(admit, settings, token, **PRIVATE).success(
        None, [token, source, inputs.voice], None, js="(token, source, voice) => eatLive.start(token, source, voice)"
    )
    stop.click(None, None, None, js="() => eatLive.stop()")
    emotion.input(None, [emotion], None, js="emotion => eatLive.set({emotion})")
    intensity.release(None, [intensity], None, js="intensity => eatLive.set({intensity})")
