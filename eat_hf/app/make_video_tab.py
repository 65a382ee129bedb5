"""A portrait says the voice with one emotion."""

from dataclasses import dataclass

import gradio as gr

from ..inputs.emotions import MAX_INTENSITY
from ..inputs.faces import SIZE
from ..inputs.numbers import AMOUNTS
from ..pipeline.arguments import DEFAULT_SIZE
from .components import AT_ONCE, any_name
from .inputs import Inputs, emotion_choices
from .result import Result, shown
from .studio import Request, Session, Studio, same_file


@dataclass(frozen=True)
class Settings:
    """What the tab asks for beside portrait and voice, by the names that a link has for it; what /animate takes."""

    emotion: str
    intensity: float = 1
    head_motion: str = "natural"
    driving_video: str | None = None
    picture: str = "crop"
    seed: int = 0
    face: int | None = None
    head_amount: float = 1
    blinks: float = 1
    gaze: float = 1


def plan(
    studio: Studio, session: Session, portrait: str | None, voice: str | None, asked: Settings
) -> tuple[Request, str, str | None]:
    """What the tab's settings ask for, checked; the Python code that makes the same; and a name for the two if they are
    of an example and need nothing that is its visitor's.

    Raises:
        UserError: about the first thing that is wrong.
    """
    full, size = asked.picture == "full picture", SIZE if asked.picture == "small crop" else None
    known = asked.emotion in studio.pipe.emotions
    # no file is called as something is that a visitor named
    name = f"{asked.emotion}.mp4" if known else "emotion.mp4"
    request = studio.request(
        *(session, portrait, voice, asked.emotion, asked.intensity, asked.head_motion, asked.driving_video, full),
        *(asked.seed, asked.face, name, size),
        amounts=(asked.head_amount, asked.blinks, asked.gaze),
    )
    code = studio.python_code(session, portrait, voice, request)
    example = next((e for e in studio.examples if same_file(portrait, e.portrait) and same_file(voice, e.voice)), None)
    plain = asked.head_motion != "driving video" and known
    return request, code, f"{example.portrait} {code}" if example and plain else None


def make_video_tab(studio: Studio, inputs: Inputs, result: Result) -> None:
    """Emotion, strength and head motion; the endpoint is /animate."""
    emotion = any_name(gr.Radio(emotion_choices(studio, Session()), value="happy", label="Emotion", elem_id="emotion"))
    inputs.pickers.append(emotion)
    with gr.Row():
        intensity = gr.Slider(
            0, MAX_INTENSITY, value=1, step=0.05, label="Intensity", info="0 is neutral, 1 as trained", min_width=220
        )
        head_motion = gr.Radio(
            [("Natural", "natural"), ("Still", "still"), ("As in a video", "driving video")],
            value="natural",
            label="Head motion",
            min_width=280,
            elem_id="head-motion",
        )
    driving_video = gr.Video(
        label="Driving video: its head motion is used", sources=["upload"], visible=False, height=220, buttons=[]
    )
    sizes = [("Face, 256 x 256", "crop")]
    if studio.pipe.repos_net.largest_frames > SIZE:
        sizes = [(f"Face, {DEFAULT_SIZE} x {DEFAULT_SIZE}", "crop"), ("Face, 256 x 256, sooner", "small crop")]
    picture = gr.Radio(
        [*sizes, ("Full picture", "full picture")],
        value="crop",
        label="Picture",
        elem_id="picture",
    )
    with gr.Accordion("More", open=False):
        with gr.Row():
            seed = gr.Number(value=0, precision=0, minimum=0, label="Seed", info="another seed, other head motion")
            face = gr.Number(
                value=None,
                precision=0,
                minimum=0,
                label="Face",
                info="which of several, from 0; empty: the most prominent",
            )
        with gr.Row():
            amounts = [
                gr.Slider(*AMOUNTS, value=1, step=0.1, label=label, min_width=160)
                for label in ("Head movement", "Blinks", "Gaze")
            ]
    start = gr.Button("Make the video", variant="primary", elem_id="start-make")
    head_motion.change(
        lambda motion: gr.Video(visible=motion == "driving video"),
        head_motion,
        driving_video,
        **AT_ONCE,
    )

    def animate(
        session: Session,
        portrait: str | None,
        voice: str | None,
        emotion: str,
        intensity: float = 1.0,
        head_motion: str = "natural",
        driving_video: str | None = None,
        picture: str = "crop",
        seed: int = 0,
        face: int | None = None,
        head_amount: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
        progress=gr.Progress(),  # noqa: B008, as Gradio wants it
    ):
        """A video of the portrait saying the voice, the Python code that makes the same, and nothing."""
        progress(0, desc="Reading the portrait and the voice")
        amounts = head_amount, blinks, gaze
        asked = Settings(emotion, intensity, head_motion, driving_video, picture, seed, face, *amounts)
        request, code, key = plan(studio, session, portrait, voice, asked)

        def make():
            return studio.make_video(session, request)

        yield from shown(inputs.kept.video(key, request.name, make) if key else make(), code)

    head_amount, blinks, gaze = amounts
    inputs.link.add(
        "make",
        **{"emotion": emotion, "intensity": intensity, "head_motion": head_motion, "picture": picture, "seed": seed},
        **{"face": face, "head_amount": head_amount, "blinks": blinks, "gaze": gaze},
    )
    settings = [*inputs.given, emotion, intensity, head_motion, driving_video, picture, seed, face, *amounts]
    result.listen(start.click, animate, settings, "animate")
    inputs.arrived = result.listen(inputs.wanted.change, animate, settings, None)
