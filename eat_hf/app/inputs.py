"""What every tab works with: the portrait, the voice, and examples of both."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from . import typed_voice
from .components import any_file
from .kept import Kept
from .link import Link
from .studio import Session, Studio

CONSENT = (
    "Animate only people who agreed to it, or who never lived, and say that the video is AI-generated when you show it."
)


@dataclass
class Inputs:
    """Attributes:
    portrait, voice: components whose values are paths.
    session: state, a `Session`.
    examples: component whose click gives the index of an example, or None.
    pickers: components whose choices are emotions, updated when adapters come and go.
    link: the settings of all tabs that the page's address may hold.
    kept: videos of examples.
    wanted: state whose change asks for the video of the tab Make a video; arrived: the event of its being there.
    """

    portrait: gr.Image
    voice: gr.Audio
    session: gr.State
    examples: gr.Dataset | None
    wanted: gr.State
    pickers: list[gr.Radio | gr.Dropdown] = field(default_factory=list)
    link: Link = field(default_factory=Link)
    kept: Kept = field(default_factory=Kept)
    arrived: Any = None

    @property
    def given(self) -> list:
        """What handlers take first."""
        return [self.session, self.portrait, self.voice]


def build_inputs(studio: Studio, session: gr.State) -> Inputs:
    """Portrait, voice and examples; every handler of the tabs gets them from here."""
    examples = None
    if studio.examples:
        examples = gr.Dataset(
            label="Examples",
            components=[gr.Image(visible=False)],
            samples=[[str(example.portrait)] for example in studio.examples],
            type="index",
            elem_id="examples",
        )
    portrait = any_file(
        gr.Image(
            label="Portrait",
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            image_mode=None,
            height=260,
            elem_id="portrait",
        )
    )
    voice = gr.Audio(
        label="Voice", sources=["upload", "microphone"], type="filepath", elem_id="voice", buttons=["download"]
    )
    if typed_voice.is_installed():
        with gr.Accordion("Or type what to say", open=False):
            text = gr.Textbox(
                label="Text (English)",
                lines=2,
                max_length=studio.limits.characters,
                placeholder="I knew you would come!",
            )
            with gr.Row():
                speaker = gr.Radio(list(typed_voice.VOICES), value="Woman", label="Speaker", min_width=140)
                speak = gr.Button("Speak", min_width=100)

        def say(text: str, speaker: str):
            if len(text) > studio.limits.characters:
                raise gr.Error(f"The text has {len(text)} characters; up to {studio.limits.characters} are allowed.")
            return typed_voice.speak(text, speaker)

        gr.on([speak.click, text.submit], say, [text, speaker], voice, api_name="speak")
    gr.Markdown(f"{CONSENT} {studio.limits.describe()}", elem_classes="eat-note")
    return Inputs(portrait, voice, session, examples, gr.State(0))


def emotion_choices(studio: Studio, session: Session) -> list[tuple[str, str]]:
    return [(name.capitalize(), name) for name in studio.emotions(session)]
