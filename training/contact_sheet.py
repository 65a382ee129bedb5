"""A picture of every emotion on some portraits: one row a portrait, one column an emotion, the portrait itself first.

python -m training.contact_sheet --output docs/emotions.png --images examples/portrait.png examples/astronaut.jpg
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from eat_hf import EATPipeline
from eat_hf.media import SAMPLING_RATE, read_audio

from .options import parse_options


@dataclass
class SheetOptions:
    """Options."""

    images: list[str] = field(default_factory=lambda: ["examples/portrait.png"], metadata={"help": "Portraits."})
    audio: str = field(default="examples/speech.wav", metadata={"help": "Recording."})
    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder."})
    output: str = field(default="emotions.png", metadata={"help": "Picture to write."})
    seconds: list[float] = field(default_factory=lambda: [1.0], metadata={"help": "Instants that are shown."})
    intensity: float = field(default=1.0, metadata={"help": "Of the emotions."})
    head_motion: str = field(default="still", metadata={"help": "natural or still."})
    size: int = field(default=192, metadata={"help": "Side of a picture in the sheet."})


def labelled(picture: np.ndarray, text: str, size: int) -> np.ndarray:
    tile = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS)
    ImageDraw.Draw(tile).text((5, 3), text, fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(tile)


def main() -> None:
    options, _ = parse_options(SheetOptions, "sheet")
    pipe = EATPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    # half a second more than is shown, since the networks look ahead
    sound = read_audio(options.audio).waveform[: round((max(options.seconds) + 0.5) * SAMPLING_RATE)]
    rows = []
    for image in options.images:
        columns = [[labelled(pipe.prepare_portrait(image).crop, "portrait", options.size)] * len(options.seconds)]
        for emotion in pipe.emotions:
            out = pipe(image, (sound, SAMPLING_RATE), emotion, options.intensity, options.head_motion, generator=0)
            shown = [out.frames[min(len(out.frames) - 1, round(second * out.fps))] for second in options.seconds]
            columns.append([labelled(frame, emotion, options.size) for frame in shown])
        rows += [np.hstack([column[n] for column in columns]) for n in range(len(options.seconds))]
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
