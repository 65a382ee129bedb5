"""Two pictures that show what a corpus is made of, to look at before rendering one: many people, and close-ups.

    python -m training.experiments.corpus_sheets --output sheets --ict_facekit ict_facekit.npz

people.jpg: people with neutral faces, each in a scene of their own. expressions.jpg: eyes and mouths of a few people,
who show every emotion at its strongest and say some sounds.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from eat_hf.constants import EMOTIONS
from eat_hf.errors import UserError
from eat_hf.media.files import explained_writing

from ..corpus.emotions import emotion_motion, sample_style
from ..corpus.facekit_heads import FaceKit, find_facekit
from ..corpus.heads import Identity, Motion, clip_labels, to_pixels
from ..corpus.people import sample_identity
from ..corpus.render import ClipRenderer
from ..corpus.visemes import mouth_motion
from ..loop.command_line import read_options, run_script
from .contact_sheet import column_order, draw_sheet

SOUNDS = {"m": "m", "f": "f", "th": "θ", "l": "l", "sh": "ʃ", "ah": "ɑ", "ee": "i", "oo": "u"}
COLUMNS = 8  # people in a row
SHARPNESS = 512  # side of the pictures that close-ups are cut from


@dataclass
class CorpusSheetOptions:
    """Options."""

    output: str = field(default="sheets", metadata={"help": "Folder for the two pictures."})
    ict_facekit: str = field(default="", metadata={"help": "The second family of heads, as for training.corpus.build."})
    people: int = field(default=48, metadata={"help": "On the first picture."})
    closeups: int = field(default=6, metadata={"help": "People on the second."})
    size: int = field(default=192, metadata={"help": "Side of a tile in pixels."})
    seed: int = field(default=0, metadata={"help": "Decides who they are."})


def sample_people(count: int, seed: int, facekit: FaceKit | None) -> list[Identity]:
    """The first `count` people of a seed."""
    return [sample_identity(np.random.default_rng((seed, number)), facekit) for number in range(count)]


def neutral_portrait(person: Identity, size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB, in the person's own scene."""
    still = _held(np.zeros((1, len(person.basis)), np.float32), np.zeros(1, np.float32))
    return ClipRenderer(person, size=max(size, 256)).portrait(still)


def close_ups(person: Identity, seed: int, size: int) -> list[np.ndarray]:
    """Eyes above, mouth below, (size, size, 3) uint8 RGB: of every emotion in `column_order`, then of `SOUNDS`."""
    rng = np.random.default_rng(seed)
    style, loudness = sample_style(rng), np.full(25, 0.5)
    poses, tongues = [], []
    for emotion in column_order(EMOTIONS):
        poses.append(emotion_motion(emotion, 0 if emotion == "neutral" else 3, style, loudness, rng)[12])
        tongues.append(0.0)
    for sound in SOUNDS.values():
        said = mouth_motion(["_", sound, "_"], np.array([[0, 0.4], [0.4, 0.6], [0.6, 1.0]]), loudness)
        poses.append(said.arkit[12])
        tongues.append(said.tongue[12])
    motion = _held(np.stack(poses).astype(np.float32), np.array(tongues, np.float32))
    scene = replace(person.scene, noise=0.0, jpeg=0, blur=0.0, video=0, filter="none")
    pictures = ClipRenderer(person, scene, SHARPNESS).clip(motion)
    landmarks = to_pixels(clip_labels(person, **vars(motion), distance=scene.distance)["landmarks"])
    tiles = []
    for picture, points in zip(pictures, landmarks * (SHARPNESS / 256), strict=True):
        crops = []
        for part in (slice(17, 48), slice(48, 68)):
            (left, top), (right, bottom) = points[part].min(0), points[part].max(0)
            half = 0.62 * max(right - left, 2 * (bottom - top))
            x, y = (left + right) / 2, (top + bottom) / 2
            if part.start == 17:  # from the brows down to below the eyes, not the nose
                y = points[36:48, 1].mean() - 0.08 * half
            place = np.array([[half * 2 / size, 0, x - half], [0, half * 2 / size, y - half / 2]])
            how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
            crops.append(cv2.warpAffine(picture, place, (size, size // 2), **how))
        tiles.append(np.concatenate(crops))
    return tiles


def _held(arkit: np.ndarray, tongue: np.ndarray) -> Motion:
    """Poses (T, 52) of a head that looks straight ahead, its tongue raised as far (T,)."""
    still = np.zeros(len(arkit), np.float32)
    return Motion(arkit, still, still, still, np.zeros((len(arkit), 3), np.float32), tongue)


def main(argv: list[str] | None = None) -> None:
    options = read_options(CorpusSheetOptions, argv)
    if options.people < 1 or options.closeups < 1 or options.size < 32:
        raise UserError("sheets need at least one person, and tiles of 32 pixels or more")
    facekit = FaceKit.load(find_facekit(options.ict_facekit)) if options.ict_facekit else None
    people = sample_people(max(options.people, options.closeups), options.seed, facekit)
    folder = Path(options.output)
    with explained_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        portraits = [neutral_portrait(person, options.size) for person in people[: options.people]]
        rows = {str(first): portraits[first : first + COLUMNS] for first in range(0, len(portraits), COLUMNS)}
        sheet = draw_sheet(rows, [f"+{column}" for column in range(COLUMNS)], options.size)
        sheet.save(folder / "people.jpg", quality=92)
        chosen = people[: options.closeups]
        rows = {f"{i} {p.family}": close_ups(p, options.seed + i, options.size) for i, p in enumerate(chosen)}
        draw_sheet(rows, [*column_order(EMOTIONS), *SOUNDS], options.size).save(folder / "expressions.jpg", quality=92)


if __name__ == "__main__":
    run_script(main)
