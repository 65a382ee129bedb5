"""Does a checkpoint work on portraits that it was never trained on?

    python -m training.experiments.portraits --portraits FOLDER astronaut --audio voice.wav --output outputs/portraits

Every portrait with a face says the beginning of the recording in every emotion, with one head motion for all of them,
and the clips are measured. A portrait passes a check if

    a face in every frame   of all clips is found by dlib
    lips follow the voice   the neutral clip's mouth opening correlates with the loudness, at most 5 frames apart
    the mouth moves         standard deviation of the neutral clip's mouth opening, in distances between the eyes; in
                            published showcases 0.072 in the median
    the border is still     the mean change of the picture's border from frame to frame, in the most restless clip
    the same person         cosine, and distance, of dlib's descriptors of portrait and clip, in the clip least like it
    happy smiles most, ...  what an emotion changes on the neutral face is visible and goes the right way (`EXPECTED`)

What cannot be measured fails. dlib also cut the portrait out, so its landmarks are no second opinion; but they are read
off the generated frames, and the network did not learn from dlib. The cosine of its descriptors forgives nearly all:
six faces of different people, compared two by two, reach 0.77 to 0.90. The distance of 0.6 is what dlib's network was
trained to tell people apart by; theirs is 0.61 to 0.95.

Written to the output folder: portraits.json with every number, and portraits.png with a frame of every clip.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from eat_hf import EATPipeline
from eat_hf.constants import FPS, NEUTRAL, SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.evaluation.metrics.identity import cosine_similarity, describe_faces
from eat_hf.evaluation.metrics.jitter import background_jitter
from eat_hf.evaluation.tracks import track_faces
from eat_hf.inputs.audio import loudness
from eat_hf.inputs.faces import choose_face, detect_faces
from eat_hf.media.files import write_atomically
from eat_hf.media.pictures import read_image
from eat_hf.media.recordings import read_audio

from ..loop.command_line import parse_options, run_script
from .contact_sheet import column_order, draw_sheet, find_portraits
from .face_measures import MEASURES, change_between, follow_loudness, measure_face

HOP = SAMPLING_RATE // FPS  # samples a frame
QUIET = 0.1  # of the loudest frame: the clip begins where the voice does
DESCRIBED = 3  # frames a clip, for dlib's descriptors, which take a tenth of a second each
LIPS, MOVES, BORDER, COSINE, DISTANCE = 0.4, 0.04, 0.3, 0.8, 0.6  # BORDER is of 255
VISIBLE = 1 / 60  # distances between the eyes: one pixel of the 256 frame

# emotion, what it should do, and the changes that show it: one of them, upwards or downwards, is enough
EXPECTED: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("surprised", "raises the brows", {"brow": 1}),
    ("surprised", "opens the mouth or lowers the jaw", {"mouth_opening": 1, "jaw": 1}),
    ("angry", "lowers the brows", {"brow": -1}),
    ("sad", "lowers the mouth's corners or raises the inner brows", {"corner_height": -1, "inner_brow": 1}),
    ("disgusted", "raises the upper lip or lowers the brows", {"upper_lip": 1, "brow": -1}),
    ("fear", "raises the brows", {"brow": 1}),
    ("contempt", "lifts one corner of the mouth", {"one_corner": 1}),
)


@dataclass
class PortraitOptions:
    """Options."""

    portraits: list[str] = field(metadata={"help": "Files, folders of them, astronaut, grace_hopper."})
    audio: str = field(default="examples/speech.wav", metadata={"help": "Recording of a voice."})
    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder."})
    output: str = field(default="outputs/portraits", metadata={"help": "Folder of portraits.json and portraits.png."})
    frames: int = field(default=100, metadata={"help": "Of the neutral clip, 25 a second."})
    emotion_frames: int = field(default=12, metadata={"help": "Of the clip of each other emotion."})
    # with a still head a still border is no achievement; natural motion is the pipeline's default, what people see
    head_motion: str = field(default="natural", metadata={"help": "natural, still, or a driving video."})
    seed: int = field(default=0, metadata={"help": "Of the prompts and the head motion."})
    workers: int = field(default=2, metadata={"help": "Processes, which share the portraits out."})
    size: int = field(default=160, metadata={"help": "Side of a picture in portraits.png."})


@dataclass(frozen=True)
class Check:
    """Attributes:
    name: what is expected.
    value: what was measured; NaN where that was impossible, and then the check fails.
    limit: that the value must reach, or stay below where `below`.
    detail: more about the value, or "".
    """

    name: str
    value: float
    limit: float
    below: bool = False
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.value < self.limit if self.below else self.value >= self.limit


@dataclass(frozen=True)
class Clip:
    """What was found in a generated clip of T frames.

    Attributes:
        measures: (T,) each, see `measure_face`; NaN where no face was found.
        numbers: `frames`, `frames_without_face`, `border` (its mean change from frame to frame, of 255), `cosine` and
            `distance` (of dlib's descriptors of the portrait and some frames, their mean; NaN without a face).
        picture: (256, 256, 3) uint8, one of the frames.
    """

    measures: dict[str, np.ndarray]
    numbers: dict[str, float]
    picture: np.ndarray


@dataclass(frozen=True)
class PortraitResult:
    """What was measured on one portrait.

    Attributes:
        crop: (256, 256, 3) uint8, the portrait as the network sees it.
        clips: by emotion.
        changes: by emotion, the mean change of every measure from neutral, in distances between the eyes.
        seconds: that generating and measuring took.
    """

    name: str
    crop: np.ndarray
    checks: list[Check]
    clips: dict[str, Clip]
    changes: dict[str, dict[str, float]]
    seconds: float


# Measuring -----------------------------------------------------------------------------------------------------------


@cache
def load_pipeline(model: str) -> EATPipeline:
    pipe = EATPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def spoken_part(waveform: np.ndarray, frames: int) -> np.ndarray:
    """At most so many frames of a recording (N,) at 16 kHz, from where the voice begins.

    Raises:
        UserError: it is silent.
    """
    loud = loudness(torch.from_numpy(waveform), math.ceil(len(waveform) / HOP)).numpy()
    if not loud.any():
        raise UserError("The recording is silent; lips can only follow a voice.")
    start = int(np.argmax(loud >= QUIET * loud.max())) * HOP
    return waveform[start : start + frames * HOP]


def check_portrait(
    name: str, source: Path | np.ndarray, sound: np.ndarray, options: PortraitOptions
) -> PortraitResult | str:
    """Let one portrait say `sound`, (N,) at 16 kHz, and measure the clips. A sentence if it cannot be used."""
    pipe = load_pipeline(options.model)
    start = time.perf_counter()
    try:
        picture = read_image(source)
        face = choose_face(detect_faces(picture))
    except UserError as error:
        return str(error)
    portrait = pipe.prepare_portrait(picture, face).aligned
    # landmarks as the pipeline found them: a painting's may be beyond the detector that looks at videos
    landmarks = face.landmarks @ portrait.matrix[:, :2].T + portrait.matrix[:, 2]
    descriptor = describe_faces(portrait.crop[None], landmarks[None])
    # the first frames of one motion for all clips, or else poses would be taken for expressions
    loud = loudness(torch.from_numpy(sound), math.ceil(len(sound) / HOP))
    generator = torch.Generator().manual_seed(options.seed)
    motion = pipe.prepare_motion(options.head_motion, len(loud), loud, generator)
    clips = {}
    for emotion in column_order(pipe.emotions):
        heard = sound if emotion == NEUTRAL else sound[: options.emotion_frames * HOP]
        out = pipe(picture, (heard, SAMPLING_RATE), emotion, 1.0, motion, options.seed, face=face, size=256)
        clips[emotion] = look_at(np.asarray(out.frames), descriptor, options.emotion_frames // 2)
    neutral = clips[NEUTRAL].measures
    changes = {emotion: change_between(clip.measures, neutral) for emotion, clip in clips.items() if emotion != NEUTRAL}
    checks = [*check_clips(clips, loud.numpy()), *check_emotions(changes)]
    return PortraitResult(name, portrait.crop, checks, clips, changes, time.perf_counter() - start)


def look_at(frames: np.ndarray, descriptor: np.ndarray, shown: int) -> Clip:
    """Find the face in generated frames (T, 256, 256, 3) and compare it with the portrait's descriptor (1, 128)."""
    track = track_faces(frames)
    found = np.flatnonzero(track.found)
    cosine = distance = float("nan")
    if len(found):
        some = found[np.linspace(0, len(found) - 1, min(DESCRIBED, len(found))).round().astype(int)]
        described = describe_faces(frames[some], track.landmarks[some])
        cosine = float(cosine_similarity(described, descriptor).mean())
        distance = float(np.linalg.norm(described - descriptor, axis=1).mean())
    numbers = {
        "frames": len(frames),
        "frames_without_face": len(frames) - len(found),
        "border": background_jitter(frames),
        "cosine": cosine,
        "distance": distance,
    }
    return Clip(measure_face(track.landmarks), numbers, frames[min(shown, len(frames) - 1)])


# Checking ------------------------------------------------------------------------------------------------------------


def check_clips(clips: dict[str, Clip], loud: np.ndarray) -> Iterator[Check]:
    """What does not depend on the emotion. `loud`: (T,) loudness of the neutral clip's frames."""
    of = {name: {emotion: clip.numbers[name] for emotion, clip in clips.items()} for name in clips[NEUTRAL].numbers}
    lost = sum(of["frames_without_face"].values())
    detail = ", ".join(emotion for emotion, count in of["frames_without_face"].items() if count)
    yield Check("a face in every frame", 1 - lost / sum(of["frames"].values()), 1.0, detail=detail)
    correlation, lag = follow_loudness(clips[NEUTRAL].measures["mouth_opening"], loud)
    yield Check("lips follow the voice", correlation, LIPS, detail=f"lips {lag} frames late")
    yield Check("the mouth moves", float(np.nanstd(clips[NEUTRAL].measures["mouth_opening"])), MOVES)
    restless, border = _first(np.argmax, of["border"])
    yield Check("the border is still", border, BORDER, True, restless)
    stranger, cosine = _first(np.argmin, of["cosine"])
    yield Check("the same person, cosine", cosine, COSINE, detail=stranger)
    stranger, distance = _first(np.argmax, of["distance"])
    yield Check("the same person, distance", distance, DISTANCE, True, stranger)


def check_emotions(changes: dict[str, dict[str, float]]) -> Iterator[Check]:
    """Whether emotions do what they should; `changes` by emotion and measure, in distances between the eyes."""
    if "happy" in changes:
        smiles = {NEUTRAL: 0.0} | {emotion: change["smile"] for emotion, change in changes.items()}
        happy = smiles.pop("happy")
        rival, smile = _first(np.argmax, smiles)
        yield Check("happy smiles most", happy - smile, VISIBLE, detail=f"{happy:+.3f}; {rival} comes next")
    for emotion, expectation, signs in EXPECTED:
        if emotion in changes:
            toward = {measure: sign * changes[emotion][measure] for measure, sign in signs.items()}
            measure, value = _first(np.argmax, toward)
            yield Check(f"{emotion} {expectation}", value, VISIBLE, detail=measure)


def _first(choose: Callable, values: dict[str, float]) -> tuple[str, float]:
    """The one that np.argmax or np.argmin chooses: for both, the first NaN if there is one, which no check passes."""
    return list(values.items())[choose(list(values.values()))]


def check_portraits(options: PortraitOptions) -> tuple[list[PortraitResult], dict[str, str]]:
    """Check all portraits, in worker processes if there are several.

    Returns:
        The results, and why portraits without one were left out.

    Raises:
        UserError: portraits, recording or numbers cannot be used.
    """
    if options.workers < 1:
        raise UserError(f"--workers must be 1 or more, not {options.workers}.")
    portraits = find_portraits(options.portraits)
    sound = spoken_part(read_audio(options.audio).waveform, options.frames)
    tasks = (portraits.keys(), portraits.values(), repeat(sound), repeat(options))
    results, left_out = [], {}
    with ExitStack() as stack:
        if min(options.workers, len(portraits)) > 1:
            pool = ProcessPoolExecutor(min(options.workers, len(portraits)), get_context("spawn"))
            outcomes = stack.enter_context(pool).map(check_portrait, *tasks)
        else:
            outcomes = map(check_portrait, *tasks)
        for name, outcome in zip(portraits, tqdm(outcomes, "portraits", len(portraits)), strict=True):
            if isinstance(outcome, str):
                left_out[name] = outcome
            else:
                results.append(outcome)
    return results, left_out


# Reporting -----------------------------------------------------------------------------------------------------------


def print_table(results: list[PortraitResult], left_out: dict[str, str]) -> None:
    """One row an expectation, one column a portrait; ✗ is what fails."""
    console = Console()
    table = Table(title="Emotions in distances between the eyes, against neutral", title_justify="left")
    table.add_column("")
    table.add_column("limit", justify="right")
    for result in results:
        table.add_column(Text(Path(result.name).stem), justify="right", overflow="fold")
    table.add_column("passed", justify="right")
    for checks in zip(*(result.checks for result in results), strict=True):
        limit = f"{'<' if checks[0].below else '≥'} {checks[0].limit:.3f}"
        cells = [
            Text(f"{check.value:.3f} {'✓' if check.passed else '✗'}", style="green" if check.passed else "red")
            for check in checks
        ]
        table.add_row(checks[0].name, limit, *cells, f"{sum(check.passed for check in checks)}/{len(checks)}")
    table.add_row("seconds", "", *(f"{result.seconds:.0f}" for result in results))
    if results:
        console.print(table)
    for name, reason in left_out.items():
        console.print(Text(f"left out: {name}: {reason}", style="yellow"))


def main(argv: list[str] | None = None) -> int:
    """0 if any portrait could be measured, whatever failed then; 2 if none could."""
    options, _ = parse_options(PortraitOptions, "portraits", argv)
    results, left_out = check_portraits(options)
    print_table(results, left_out)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    report = {
        "options": asdict(options),
        "measures": MEASURES,
        "portraits": [
            {
                "name": result.name,
                "seconds": result.seconds,
                "checks": [asdict(check) | {"passed": check.passed} for check in result.checks],
                "clips": {emotion: clip.numbers for emotion, clip in result.clips.items()},
                "changes": result.changes,
            }
            for result in results
        ],
        "left_out": left_out,
    }
    report = json.loads(json.dumps(report), parse_constant=lambda nan: None)  # what could not be measured is null
    write_atomically(output / "portraits.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if not results:
        return 2
    rows = {result.name: [result.crop, *(clip.picture for clip in result.clips.values())] for result in results}
    sheet = draw_sheet(rows, ["portrait", *results[0].clips], options.size)
    sheet.save(output / "portraits.png", optimize=True)
    return 0


if __name__ == "__main__":
    run_script(main)
