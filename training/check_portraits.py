"""Does a checkpoint work on portraits that it was never trained on?

    python -m training.check_portraits --portraits FOLDER astronaut --audio voice.wav --output outputs/portraits

Every portrait with a face says the beginning of the recording in every emotion, with one head motion for all of them,
and the clips are measured. A portrait passes a check if

    a face in every frame   of all clips is found by dlib
    lips follow the voice   the neutral clip's mouth opening correlates with the loudness, at most 5 frames apart
    the border is still     the mean change of the picture's border from frame to frame, in the most restless clip
    the same person         cosine of dlib's descriptors of portrait and clip, in the clip least like it
    happy smiles most, ...  what an emotion changes on the neutral face is visible and goes the right way (`EXPECTED`)

dlib also cut the portrait out, so its landmarks are no second opinion; but they are read off the generated frames, and
the network did not learn from dlib. Its descriptors resemble each other even between strangers, so the most similar one
of the other portraits is told beside them (`nearest_stranger`).

Written to the output folder: portraits.json with every number, and portraits.png with a frame of every clip.
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from eat_hf import EATPipeline
from eat_hf.errors import UserError
from eat_hf.evaluation.identity import cosine_similarity, describe_faces
from eat_hf.evaluation.jitter import background_jitter
from eat_hf.evaluation.tracks import FaceTrack, track_faces
from eat_hf.faces import choose_face, detect_faces
from eat_hf.media import FPS, SAMPLING_RATE, read_audio, read_image

from .contact_sheet import column_order, draw_sheet, find_portraits
from .face_measures import MEASURES, change_between, follow_loudness, loudness, measure_face
from .options import parse_options

LANDMARKS = "dlib's frontal detector and 68 landmarks, on the generated frames (dlib also cut the portrait out)"
IDENTITY = "dlib_resnet"
DESCRIBED = 3  # frames a clip, for dlib's descriptors
LIPS, BORDER, SAME_PERSON = 0.4, 0.3, 0.8  # correlation, of 255, cosine
VISIBLE = 1 / 60  # distances between the eyes: one pixel of the 256 frame
SHORTEST = 5  # frames: what the pipeline asks of a recording
NEUTRAL = "neutral"
QUIET = 0.1  # of the loudest frame: the clip begins where the voice does

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

    portraits: list[str] = field(metadata={"help": "Files, folders of them, or astronaut (comes with scikit-image)."})
    audio: str = field(default="examples/speech.wav", metadata={"help": "Recording of a voice."})
    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder."})
    output: str = field(default="outputs/portraits", metadata={"help": "Folder of portraits.json and portraits.png."})
    frames: int = field(default=75, metadata={"help": "Of the neutral clip, 25 a second."})
    emotion_frames: int = field(default=25, metadata={"help": "Of the clip of each other emotion."})
    head_motion: str = field(default="natural", metadata={"help": "natural or still."})
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


@dataclass
class Clip:
    """A generated clip and what was found in it.

    Attributes:
        frames: (T, 256, 256, 3) uint8.
        track: the face.
        measures: see `measure_face`.
        similarity: (n,) of a few frames to the portrait; empty where no face was found.
    """

    frames: np.ndarray
    track: FaceTrack
    measures: dict[str, np.ndarray]
    similarity: np.ndarray

    def numbers(self) -> dict[str, float]:
        """What is told of it; NaN where it could not be measured."""
        return {
            "frames": len(self.frames),
            "frames_without_face": int((~self.track.found).sum()),
            "border": background_jitter(self.frames),
            "identity": float(self.similarity.mean()) if len(self.similarity) else float("nan"),
        }


@dataclass
class PortraitResult:
    """What was measured on one portrait.

    Attributes:
        checks: the expectations.
        clips: by emotion, the numbers of its clip.
        changes: by emotion, the mean change of every measure from neutral, in distances between the eyes.
        pictures: for the sheet: the portrait and a frame of every clip.
        descriptor: (1, 128), whose face it is.
    """

    name: str
    checks: list[Check]
    clips: dict[str, dict[str, float]]
    changes: dict[str, dict[str, float]]
    pictures: list[np.ndarray]
    descriptor: np.ndarray


@dataclass(frozen=True)
class Unusable:
    """A portrait that was left out, and why."""

    name: str
    reason: str


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
    hop = SAMPLING_RATE // FPS
    loud = loudness(waveform, math.ceil(len(waveform) / hop))
    if not loud.any():
        raise UserError("The recording is silent; lips can only follow a voice.")
    start = int(np.argmax(loud >= QUIET * loud.max())) * hop
    return waveform[start : start + frames * hop]


def check_portrait(
    name: str, source: Path | np.ndarray, sound: np.ndarray, options: PortraitOptions
) -> PortraitResult | Unusable:
    """Generate and measure the clips of one portrait that says `sound`, (N,) at 16 kHz."""
    try:
        picture = read_image(source)
        face = choose_face(detect_faces(picture))
    except UserError as error:
        return Unusable(name, str(error))
    pipe = load_pipeline(options.model)
    portrait = pipe.prepare_portrait(picture, face)
    # landmarks as the pipeline found them: a painting's may be beyond the detector that looks at videos
    landmarks = face.landmarks @ portrait.matrix[:, :2].T + portrait.matrix[:, 2]
    descriptor = describe_faces(portrait.crop[None], landmarks[None])
    # the first frames of one motion for all clips, or else poses would be taken for expressions
    loud = loudness(sound, math.ceil(len(sound) * FPS / SAMPLING_RATE))
    generator = torch.Generator().manual_seed(options.seed)
    motion = pipe.prepare_motion(options.head_motion, len(loud), torch.from_numpy(loud).float(), generator)
    clips = {}
    for emotion in column_order(pipe.emotions):
        heard = sound if emotion == NEUTRAL else sound[: options.emotion_frames * SAMPLING_RATE // FPS]
        out = pipe(picture, (heard, SAMPLING_RATE), emotion, 1.0, motion, options.seed, face=face)
        clips[emotion] = look_at(out.frames, descriptor)
    neutral = clips[NEUTRAL].measures
    changes = {emotion: change_between(clip.measures, neutral) for emotion, clip in clips.items() if emotion != NEUTRAL}
    shown = min(len(clip.frames) for clip in clips.values()) // 2
    return PortraitResult(
        name,
        checks=[*check_clips(clips, loud), *check_emotions(changes)],
        clips={emotion: clip.numbers() for emotion, clip in clips.items()},
        changes=changes,
        pictures=[portrait.crop, *(clip.frames[shown] for clip in clips.values())],
        descriptor=descriptor,
    )


def look_at(frames: np.ndarray, descriptor: np.ndarray) -> Clip:
    """Find the face in generated frames (T, 256, 256, 3) and compare it with the portrait's descriptor (1, 128)."""
    track = track_faces(frames)
    found = np.flatnonzero(track.found)
    similarity = np.zeros(0)
    if len(found):
        some = found[np.linspace(0, len(found) - 1, min(DESCRIBED, len(found))).round().astype(int)]
        similarity = cosine_similarity(describe_faces(frames[some], track.landmarks[some]), descriptor)
    return Clip(frames, track, measure_face(track.landmarks), similarity)


# Checking ------------------------------------------------------------------------------------------------------------


def check_clips(clips: dict[str, Clip], loud: np.ndarray) -> Iterator[Check]:
    """What does not depend on the emotion. `loud`: (T,) loudness of the neutral clip's frames."""
    numbers = {emotion: clip.numbers() for emotion, clip in clips.items()}
    lost = {emotion: n["frames_without_face"] for emotion, n in numbers.items() if n["frames_without_face"]}
    total = sum(n["frames"] for n in numbers.values())
    detail = ", ".join(f"{emotion}: none in {count}" for emotion, count in lost.items())
    yield Check("a face in every frame", 1 - sum(lost.values()) / total, 1.0, detail=detail)
    correlation, lag = follow_loudness(clips[NEUTRAL].measures["mouth_opening"], loud)
    yield Check("lips follow the voice", correlation, LIPS, detail=f"lips {lag} frames late")
    restless = max(numbers, key=lambda emotion: numbers[emotion]["border"])
    yield Check("the border is still", numbers[restless]["border"], BORDER, below=True, detail=restless)
    # a clip without a face is least like the portrait
    stranger = min(numbers, key=lambda emotion: _known(numbers[emotion]["identity"]))
    yield Check("the same person", numbers[stranger]["identity"], SAME_PERSON, detail=stranger)


def check_emotions(changes: dict[str, dict[str, float]]) -> Iterator[Check]:
    """Whether emotions do what they should; `changes` by emotion and measure, in distances between the eyes."""
    if "happy" in changes:
        smiles = {emotion: change["smile"] for emotion, change in changes.items() if emotion != "happy"} | {
            NEUTRAL: 0.0
        }
        rival = max(smiles, key=lambda emotion: _known(smiles[emotion]))
        value = changes["happy"]["smile"]
        yield Check("happy smiles most", value - smiles[rival], VISIBLE, detail=f"{value:+.3f}; {rival} comes next")
    for emotion, expectation, signs in EXPECTED:
        if emotion in changes:
            values = {measure: sign * changes[emotion][measure] for measure, sign in signs.items()}
            best = max(values, key=lambda measure: _known(values[measure]))
            yield Check(f"{emotion} {expectation}", values[best], VISIBLE, detail=best)


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def check_portraits(options: PortraitOptions) -> tuple[list[PortraitResult], list[Unusable]]:
    """Check all portraits, in worker processes if there are several.

    Raises:
        UserError: portraits, recording or numbers cannot be used.
    """
    if options.workers < 1:
        raise UserError(f"--workers must be 1 or more, not {options.workers}.")
    if options.head_motion not in ("natural", "still"):
        raise UserError(f"--head_motion must be natural or still, not {options.head_motion}.")
    if not SHORTEST <= options.emotion_frames <= options.frames:
        raise UserError(f"--emotion_frames must be from {SHORTEST} to --frames ({options.frames}).")
    portraits = find_portraits(options.portraits)
    sound = spoken_part(read_audio(options.audio).waveform, options.frames)
    jobs = (delayed(check_portrait)(name, source, sound, options) for name, source in portraits.items())
    outcomes = Parallel(n_jobs=min(options.workers, len(portraits)), return_as="generator")(jobs)
    outcomes = list(tqdm(outcomes, "portraits", len(portraits)))
    return (
        [outcome for outcome in outcomes if isinstance(outcome, PortraitResult)],
        [outcome for outcome in outcomes if isinstance(outcome, Unusable)],
    )


# Reporting -----------------------------------------------------------------------------------------------------------


def describe(results: list[PortraitResult], unusable: list[Unusable], options: PortraitOptions) -> dict[str, Any]:
    """The contents of portraits.json."""
    similar = {
        result.name: {
            other.name: cosine_similarity(result.descriptor, other.descriptor).item()
            for other in results
            if other is not result
        }
        for result in results
    }
    return {
        "options": asdict(options),
        "landmarks": LANDMARKS,
        "identity": IDENTITY,
        "measures": MEASURES,
        "passed": {
            name: f"{sum(check.passed for check in checks)} of {len(checks)}"
            for name, checks in by_name(results).items()
        },
        "portraits": [
            {
                "name": result.name,
                "checks": [asdict(check) | {"passed": check.passed} for check in result.checks],
                "nearest_stranger": max(similar[result.name].values(), default=None),
                "clips": result.clips,
                "changes": result.changes,
            }
            for result in results
        ],
        "left_out": [asdict(portrait) for portrait in unusable],
    }


def plain(value: Any) -> Any:
    """For JSON: numbers to six digits, and null for those that could not be measured."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def by_name(results: list[PortraitResult]) -> dict[str, list[Check]]:
    """The checks of all portraits, one list an expectation."""
    names = dict.fromkeys(check.name for result in results for check in result.checks)
    return {name: [check for result in results for check in result.checks if check.name == name] for name in names}


def print_table(results: list[PortraitResult], unusable: list[Unusable]) -> None:
    """One row an expectation, one column a portrait; red is what fails."""
    console = Console()
    table = Table(title="What was measured; ✗ fails", title_justify="left")
    table.add_column("")
    table.add_column("limit", justify="right")
    for result in results:
        table.add_column(Text(Path(result.name).stem), justify="right", overflow="fold")
    table.add_column("passed", justify="right")
    for name, checks in by_name(results).items():
        limit = f"{'<' if checks[0].below else '≥'} {checks[0].limit:.3f}"
        cells = [
            Text(f"{check.value:.3f} {'✓' if check.passed else '✗'}", style="green" if check.passed else "red")
            for check in checks
        ]
        table.add_row(name, limit, *cells, f"{sum(check.passed for check in checks)}/{len(checks)}")
    if results:
        console.print(table)
        console.print(f"Emotions: in distances between the eyes, against neutral. Faces: {LANDMARKS}.")
    for portrait in unusable:
        console.print(Text(f"left out: {portrait.name}: {portrait.reason}", style="yellow"))


def main() -> int:
    options, _ = parse_options(PortraitOptions, "portraits")
    try:
        results, unusable = check_portraits(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    described = describe(results, unusable, options)
    (output / "portraits.json").write_text(json.dumps(plain(described), indent=1, allow_nan=False), encoding="utf8")
    print_table(results, unusable)
    if results:
        emotions = list(results[0].clips)
        sheet = draw_sheet({result.name: result.pictures for result in results}, ["portrait", *emotions], options.size)
        sheet.save(output / "portraits.png", optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
