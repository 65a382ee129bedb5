"""Videos to make, as the command line has them: one, or a list of many that several processes share.

A manifest is a CSV file with a line for each video: columns `image`, `audio` and `output`, and any of `emotion`,
`timeline`, `emotion_text`, `intensity`, `head_motion`, `face`, `seed`, `paste_back` and `audio_track`, written as the
options of `eat-hf generate`. Paths are relative to the manifest.
"""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..media.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    from ..inputs.emotions import Emotion
    from ..media.recordings import Recording
    from ..pipeline.arguments import ClipOptions
    from ..pipeline.pipeline_eat import EATPipeline

NEEDED = ("image", "audio", "output")
YES, NO = ("true", "yes", "1"), ("false", "no", "0", "")


@dataclass(frozen=True)
class Job:
    """A video to make; texts are those of the command line.

    Attributes:
        image, audio, output: files.
        emotion, timeline, emotion_text: at most one of them.
    """

    image: Path
    audio: Path
    output: Path
    emotion: str | None = None
    timeline: str | None = None
    emotion_text: str | None = None
    intensity: str = "1"
    head_motion: str = "natural"
    face: int | None = None
    seed: int | None = None
    paste_back: bool = False
    audio_track: int | None = None


@dataclass(frozen=True)
class ReadyJob:
    """A job whose files are read.

    Attributes:
        options: how it shall talk, with the face that was chosen.
        says_emotion: whether the job says which emotion.
    """

    job: Job
    picture: "np.ndarray"
    recording: "Recording"
    options: "ClipOptions"
    says_emotion: bool


def prepare(job: Job) -> ReadyJob:
    """Read a job's files: everything that can be wrong and is seen without a model.

    Raises:
        UserError: about the first thing that is wrong.
    """
    from ..inputs.emotions import parse_emotion, parse_intensity, parse_timeline
    from ..inputs.faces import choose_face, detect_faces
    from ..media.pictures import read_image
    from ..media.recordings import read_audio
    from ..media.videos import check_video_target
    from ..pipeline.arguments import ClipOptions

    if sum(given is not None for given in (job.emotion, job.timeline, job.emotion_text)) > 1:
        raise UserError("Give one of --emotion, --timeline and --emotion-text.")
    emotion: Emotion = "neutral"
    if job.timeline is not None:
        emotion = parse_timeline(job.timeline)
    elif job.emotion:
        emotion = parse_emotion(job.emotion)
    intensity = parse_intensity(job.intensity)
    check_video_target(job.output)
    for given in (job.image, job.audio, Path(job.head_motion)):
        if given.resolve() == job.output.resolve():
            raise UserError(f"The video would overwrite {given}; choose another name for it.")
    if job.head_motion not in ("natural", "still") and not Path(job.head_motion).is_file():
        raise UserError(f"Head motion is natural, still, or a driving video; there is no file {job.head_motion!r}.")
    picture, recording = read_image(job.image), read_audio(job.audio, job.audio_track)
    options = ClipOptions(
        emotion,
        intensity,
        job.head_motion,
        job.seed,
        face=choose_face(detect_faces(picture), job.face),
        paste_back=job.paste_back,
        emotion_text=job.emotion_text,
    )
    says_emotion = bool(job.emotion or job.timeline is not None or job.emotion_text is not None)
    return ReadyJob(job, picture, recording, options, says_emotion)


def make_video(pipeline: "EATPipeline", ready: ReadyJob, default: str = "neutral", watermark: bool = True) -> None:
    """Write the job's video; it appears as a whole or not at all.

    Args:
        default: the emotion where the job says none.

    Raises:
        UserError: the model does not know what is asked for, or the disk is full.
    """
    from ..media.videos import VideoWriter

    options = ready.options if ready.says_emotion else replace(ready.options, emotion=default)
    chunks = pipeline.stream(ready.picture, ready.recording, options=options)
    with VideoWriter(ready.job.output, ready.recording, watermark=watermark) as video:
        for chunk in chunks:
            video.write(chunk)


# Many -----------------------------------------------------------------------------------------------------------------


def read_manifest(path: Path) -> list[Job]:
    """The jobs of a CSV file, see above.

    Raises:
        UserError: it cannot be read, a column is missing or unknown, a value is none, or two jobs write one file.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The manifest {path} cannot be read ({error}).") from error
    if not lines:
        raise UserError(f"The manifest {path} lists no jobs.")
    known = {field.name for field in fields(Job)}
    columns = [column for column in lines[0] if column is not None]
    missing, unknown = sorted(set(NEEDED) - set(columns)), sorted(set(columns) - known)
    if missing or unknown:
        wrong = f"lacks the column {missing[0]}" if missing else f"has a column {unknown[0]!r}"
        raise UserError(f"The manifest {path} {wrong}; columns are {', '.join(sorted(known))}.")
    jobs = [_job(path, number, line) for number, line in enumerate(lines, 2)]
    outputs = [job.output.resolve() for job in jobs]
    twice = next((output for output in outputs if outputs.count(output) > 1), None)
    if twice is not None:
        raise UserError(f"The manifest {path} writes {twice.name} more than once; give every job an output of its own.")
    return jobs


def _job(manifest: Path, number: int, line: dict[str, str]) -> Job:
    """Line `number` of the file."""
    values = {name: text.strip() for name, text in line.items() if name and text and text.strip()}
    missing = [name for name in NEEDED if name not in values]
    if missing or None in line:
        wrong = f"has no {missing[0]}" if missing else "has more values than columns"
        raise UserError(f"Line {number} of {manifest} {wrong}.")
    parsed: dict[str, object] = dict(values)
    for name in NEEDED:
        parsed[name] = manifest.parent / values[name]
    if values.get("head_motion", "still") not in ("natural", "still"):
        parsed["head_motion"] = str(manifest.parent / values["head_motion"])
    try:
        parsed |= {name: int(values[name]) for name in ("face", "seed", "audio_track") if name in values}
    except ValueError:
        raise UserError(f"Line {number} of {manifest}: face, seed and audio_track are whole numbers.") from None
    if "paste_back" in values:
        if values["paste_back"].lower() not in YES + NO:
            raise UserError(f"Line {number} of {manifest}: paste_back is true or false.")
        parsed["paste_back"] = values["paste_back"].lower() in YES
    return Job(**parsed)  # type: ignore[arg-type]


def run_manifest(
    path: Path, load: Callable[[str], "EATPipeline"], default: Callable[["EATPipeline"], str], watermark: bool = True
) -> tuple[list[Path], list[dict[str, str]]]:
    """Make all videos of a manifest that are not there yet; under `accelerate launch` every process makes a share.

    A job that fails does not stop the others. Failures are written beside the manifest, in NAME.failed.jsonl.

    Args:
        load: the pipeline, for a device's name.
        default: of a pipeline, the emotion of jobs that say none.

    Returns:
        the videos that were made, and {output, error} of the jobs that failed, of all processes.

    Raises:
        UserError: the manifest cannot be used.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    jobs = read_manifest(path)
    state = PartialState()
    pipeline: EATPipeline | None = None
    made: list[Path] = []
    failed: list[dict[str, str]] = []
    # not in blocks: neighbours take about as long
    for job in [job for job in jobs[state.process_index :: state.num_processes] if not job.output.exists()]:
        try:
            ready = prepare(job)
            if pipeline is None:
                pipeline = load(str(state.device))
            make_video(pipeline, ready, default(pipeline), watermark)
        except UserError as error:
            print(f"{job.output}: {error}", file=sys.stderr)
            failed.append({"output": str(job.output), "error": str(error)})
        else:
            print(job.output)
            made.append(job.output)
    made, failed = gather_object(made), gather_object(failed)
    if state.is_main_process:
        _report(path.with_suffix(".failed.jsonl"), failed)
    return made, failed


def _report(path: Path, failed: Sequence[dict[str, str]]) -> None:
    """One line a failure; no file without any."""
    if failed:
        write_atomically(path, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in failed))
    else:
        path.unlink(missing_ok=True)
