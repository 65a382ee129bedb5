"""A picture of every emotion on some portraits: one row a portrait, one column an emotion, the portrait itself first.

    python -m training.experiments.contact_sheet --output docs/emotions.jpg --corpus corpus \\
        --portraits astronaut grace_hopper

Portraits are files, folders of them, people of a corpus' test split, whom no network has seen, and two photographs in
the public domain that come with Python packages: `astronaut` (Eileen Collins, NASA; scikit-image) and `grace_hopper`
(U.S. Navy; matplotlib).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from eat_hf import EATPipeline
from eat_hf.constants import SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.inputs.faces import choose_face, detect_faces
from eat_hf.media.pictures import read_image
from eat_hf.media.recordings import read_audio

from ..data.dataset import Corpus
from ..loop.command_line import parse_options, run_script

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
HEADER = 34  # pixels of the labels above and beside the pictures


@dataclass
class SheetOptions:
    """Options."""

    portraits: list[str] = field(
        default_factory=lambda: ["examples/portrait.png"], metadata={"help": "Files, folders, astronaut, grace_hopper."}
    )
    corpus: str = field(default="", metadata={"help": "A corpus whose test split gives portraits, before the others."})
    identities: int = field(default=4, metadata={"help": "People of the corpus."})
    audio: str = field(default="examples/speech.wav", metadata={"help": "Recording."})
    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder."})
    output: str = field(default="emotions.png", metadata={"help": "Picture to write."})
    seconds: list[float] = field(default_factory=lambda: [1.0], metadata={"help": "Instants that are shown."})
    intensity: float = field(default=1.0, metadata={"help": "Of the emotions."})
    head_motion: str = field(default="still", metadata={"help": "natural or still."})
    size: int = field(default=160, metadata={"help": "Side of a picture in the sheet."})


def astronaut() -> np.ndarray:
    try:
        import skimage.data
    except ImportError as error:
        raise UserError("The portrait astronaut comes with scikit-image: pip install scikit-image") from error
    return skimage.data.astronaut()


def grace_hopper() -> np.ndarray:
    from matplotlib import get_data_path

    return np.asarray(Image.open(Path(get_data_path(), "sample_data", "grace_hopper.jpg")).convert("RGB"))


PUBLIC_DOMAIN = {"astronaut": astronaut, "grace_hopper": grace_hopper}


def find_portraits(wanted: list[str]) -> dict[str, Path | np.ndarray]:
    """Portraits by name, as files or pictures (H, W, 3) uint8.

    Args:
        wanted: files, folders whose pictures are taken in the order of their names, or keys of `PUBLIC_DOMAIN`.

    Raises:
        UserError: one does not exist, a folder has no picture, or two files have the same name.
    """
    found: dict[str, Path | np.ndarray] = {}
    for name in wanted:
        path = Path(name)
        if name in PUBLIC_DOMAIN:
            found[name] = PUBLIC_DOMAIN[name]()
            continue
        if not path.exists():
            raise UserError(f"There is no portrait {name}; give files, folders, or {' or '.join(PUBLIC_DOMAIN)}.")
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
        if not files:
            raise UserError(f"There is no picture in {path} (looked for {', '.join(PICTURE_SUFFIXES)}).")
        for file in files:
            if found.setdefault(file.name, file) != file:
                raise UserError(f"Two portraits are called {file.name}: {found[file.name]} and {file}; rename one.")
    return found


def unseen_people(corpus: str, count: int) -> dict[str, np.ndarray]:
    """Portraits of `count` people of a corpus' test split, by name.

    Raises:
        UserError: it has fewer.
    """
    first = {clip.identity: clip for clip in reversed(Corpus(corpus).clips(split="test", kind="speech"))}
    if len(first) < count:
        raise UserError(f"{corpus} has {len(first)} people in its test split, not {count}.")
    return {f"unseen {identity}": first[identity].portrait() for identity in sorted(first)[:count]}


def draw_sheet(rows: dict[str, list[np.ndarray]], columns: list[str], size: int) -> Image.Image:
    """Pictures (H, W, 3) uint8 in rows, each with a name, under the names of the columns; `size` pixels a picture."""
    sheet = Image.new("RGB", (HEADER + size * len(columns), HEADER + size * len(rows)), "white")
    names = Image.new("RGB", (size * len(rows), HEADER), "white")  # of the rows, read from the bottom
    font = ImageFont.load_default(24)
    for row, (name, pictures) in enumerate(rows.items()):
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS)
            sheet.paste(tile, (HEADER + column * size, HEADER + row * size))
        place = ((len(rows) - row - 0.5) * size, HEADER / 2)
        ImageDraw.Draw(names).text(place, name, "black", font, anchor="mm")
    sheet.paste(names.rotate(90, expand=True), (0, HEADER))
    for column, name in enumerate(columns):
        ImageDraw.Draw(sheet).text((HEADER + (column + 0.5) * size, HEADER / 2), name, "black", font, anchor="mm")
    return sheet


def column_order(emotions: tuple[str, ...]) -> list[str]:
    """Neutral first, beside the portrait, since the others are compared with it."""
    return sorted(emotions, key=lambda emotion: emotion != "neutral")


def make_sheet(options: SheetOptions) -> Image.Image:
    """Animate the portraits and draw the sheet. Raises UserError if a portrait has no face or cannot be read."""
    pipe = EATPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    portraits = find_portraits(options.portraits)
    if options.corpus:
        portraits = {**unseen_people(options.corpus, options.identities), **portraits}
    # half a second more than is shown, since the networks look ahead
    sound = read_audio(options.audio).waveform[: round((max(options.seconds) + 0.5) * SAMPLING_RATE)]
    emotions, rows = column_order(pipe.emotions), {}
    for name, source in tqdm(portraits.items(), "portraits"):
        picture = read_image(source)
        face = choose_face(detect_faces(picture))
        columns = [[pipe.prepare_portrait(picture, face).aligned.crop] * len(options.seconds)]
        for emotion in emotions:
            settings = (emotion, options.intensity, options.head_motion)
            out = pipe(picture, (sound, SAMPLING_RATE), *settings, generator=0, face=face, size=256)
            columns.append([out.frames[min(len(out.frames) - 1, round(s * out.fps))] for s in options.seconds])
        for n, second in enumerate(options.seconds):
            label = name if len(options.seconds) == 1 else f"{name}, {second:g} s"
            rows[label] = [column[n] for column in columns]
    return draw_sheet(rows, ["portrait", *emotions], options.size)


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(SheetOptions, "sheet", argv)
    sheet = make_sheet(options)
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.output, optimize=True, quality=90)


if __name__ == "__main__":
    run_script(main)
