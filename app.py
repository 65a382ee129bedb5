"""The Gradio Space: a portrait, a voice and an emotion become a video."""

import tempfile
from pathlib import Path

import gradio as gr

from eat_hf import EATPipeline
from eat_hf.errors import UserError

MODEL = Path(__file__).parent / "checkpoints_card" / "eat-demo"
EXAMPLES = Path(__file__).parent / "examples"

pipe = EATPipeline.from_pretrained(MODEL)


def animate(image: str, audio: str, emotion: str, intensity: float, head_motion: str, paste_back: bool) -> str:
    """Paths of a picture and a recording -> path of the video."""
    if not image or not audio:
        raise gr.Error("Give a portrait and a voice first.")
    try:
        out = pipe(image, audio, emotion, intensity, head_motion, generator=0, paste_back=paste_back)
    except UserError as error:
        raise gr.Error(str(error)) from error
    path = Path(tempfile.mkdtemp()) / "eat.mp4"
    out.save(path)
    return str(path)


demo = gr.Interface(
    animate,
    [
        gr.Image(type="filepath", label="Portrait"),
        gr.Audio(type="filepath", label="Voice"),
        gr.Radio(list(pipe.emotions), value="happy", label="Emotion"),
        gr.Slider(0, 1.5, value=1, step=0.1, label="Intensity"),
        gr.Radio(["natural", "still"], value="natural", label="Head motion"),
        gr.Checkbox(label="Full picture"),
    ],
    gr.Video(label="Video (AI-generated)"),
    title="EAT: emotional talking heads",
    description="Animate people only with their consent, or people who never lived.",
    examples=[
        [str(EXAMPLES / "portrait.png"), str(EXAMPLES / "speech.wav"), "happy", 1.0, "natural", False],
        [str(EXAMPLES / "astronaut.jpg"), str(EXAMPLES / "speech.wav"), "surprised", 1.0, "natural", True],
    ],
    cache_examples=False,
    flagging_mode="never",
)

if __name__ == "__main__":
    demo.launch()
