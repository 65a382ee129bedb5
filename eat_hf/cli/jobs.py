"""Videos to make, as the command line has them: one, or a list of many that several processes share.

A manifest is a CSV file with a line for each video: columns `image`, `audio` and `output`, and any of `emotion`,
`timeline`, `emotion_text`, `intensity`, `head_motion`, `face`, `seed`, `paste_back`, `audio_track`, `size`,
`head_amount`, `blinks`, `gaze`, `voice_emotion` and `voice_labels`, written as the options of `eat-hf generate`.
Paths are relative to the manifest, which is read as `spreadsheet` says.
"""

import functools
import json
import os
import stat
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, shown
from ..inputs.numbers import AMOUNTS, FACES, SEEDS, check_number, check_whole_number, parse_size
from ..media.files import existing_file, explained_writing, remove_unfinished, write_atomically
from .messages import say, show
from .spreadsheet import Row, read_table

if TYPE_CHECKING:
    import numpy as np

    from ..inputs.emotions import Emotion, Intensity
    from ..media.recordings import Recording
    from ..pipeline.arguments import ClipOptions
    from ..pipeline.pipeline_eat import EATPipeline

NEEDED = ("image", "audio", "output")
MOTION_AMOUNTS = ("head_amount", "blinks", "gaze")
YES, NO = ("true", "yes", "1"), ("false", "no", "0", "")
TOLD = 20  # failures that are listed at the end; all of them are in the file beside the manifest


@dataclass(frozen=True)
class Job:
    """A video to make; texts are those of the command line.

    Attributes:
        image, audio, output: files.
        emotion, timeline, emotion_text: at most one of them.
        head_amount, blinks, gaze: None is as usual.
        voice_emotion, voice_labels: the model that hears emotions, and what its labels mean, of the emotion "voice".
        line: of the manifest, if it is of one.
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
    size: str | None = None
    head_amount: float | None = None
    blinks: float | None = None
    gaze: float | None = None
    voice_emotion: str | None = None
    voice_labels: str | None = None
    line: int = 0


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


def check(job: Job, emotions: Sequence[str] | None = None) -> tuple["Emotion", "Intensity"]:
    """Look for whatever can be wrong and is quick to see: without a model, and without reading files.

    Args:
        emotions: that there are; None while nobody knows.

    Returns:
        what is to be felt, and how strongly.

    Raises:
        UserError: about the first thing that is wrong.
    """
    from ..inputs.emotions import is_voice
    from ..media.videos import check_video_target

    known = None if emotions is None else tuple(emotions)
    found = _read_emotion(job.emotion, job.timeline, job.emotion_text, job.intensity, known)
    _labels(job)
    if is_voice(found[0]):
        from ..pipeline.voice import find_voice_emotion

        find_voice_emotion(job.voice_emotion)
    for value, name, limits in ((job.seed, "The seed", SEEDS), (job.face, "face", FACES)):
        if value is not None:
            check_whole_number(value, name, limits)
    for name, amount in _amounts(job).items():
        check_number(amount, name, AMOUNTS)
    parse_size(job.size)
    check_video_target(job.output)
    for path, kind in ((job.image, "picture"), (job.audio, "recording")):
        _check_file(path, kind)
    if job.head_motion not in ("natural", "still") and not os.path.isfile(job.head_motion):
        raise UserError(f"Head motion is natural, still, or a driving video; there is no file {job.head_motion!r}.")
    if job.output.exists():
        for given in (job.image, job.audio, Path(job.head_motion)):
            if given.exists() and job.output.samefile(given):
                raise UserError(f"The video would overwrite {given}; choose another name for it.")
    return found


def _amounts(job: Job) -> dict[str, Any]:
    """Those of motion that the job says."""
    said = {name: getattr(job, name) for name in MOTION_AMOUNTS}
    return {name: amount for name, amount in said.items() if amount is not None}


def _labels(job: Job) -> dict[str, str] | None:
    from ..inputs.voice_emotion import parse_labels

    return None if job.voice_labels is None else parse_labels(job.voice_labels)


@functools.lru_cache(1000)  # most lines of a manifest say the same
def _read_emotion(
    emotion: str | None, timeline: str | None, text: str | None, intensity: str, emotions: tuple[str, ...] | None
) -> tuple["Emotion", "Intensity"]:
    from ..inputs.emotions import EmotionTrack, parse_emotion, parse_intensity, parse_timeline

    if sum(given is not None for given in (emotion, timeline, text)) > 1:
        raise UserError("Give one of --emotion, --timeline and --emotion-text.")
    felt: Emotion = "neutral"
    if timeline is not None:
        felt = parse_timeline(timeline)
    elif emotion is not None:
        felt = parse_emotion(emotion)
    strength = parse_intensity(intensity)
    EmotionTrack.check(felt, strength, None if emotion is timeline is None else emotions)
    return felt, strength


def _check_file(path: Path, kind: str) -> None:
    """`existing_file`, which opens it, only if it looks odd: there may be thousands."""
    try:
        found = os.stat(path)
        odd = not (stat.S_ISREG(found.st_mode) and found.st_size)
    except (OSError, ValueError):
        odd = True
    if odd:
        existing_file(path, kind)


def prepare(job: Job, emotions: Sequence[str] | None = None) -> ReadyJob:
    """Read a job's files: everything that can be wrong and is seen without a model.

    Args:
        emotions: that there are; None while nobody knows.

    Raises:
        UserError: about the first thing that is wrong.
    """
    emotion, intensity = check(job, emotions)
    from ..inputs.faces import choose_face, detect_faces
    from ..media.pictures import read_image
    from ..media.recordings import read_audio
    from ..pipeline.arguments import ClipOptions

    picture, recording = read_image(job.image), read_audio(job.audio, job.audio_track)
    options = ClipOptions(
        emotion,
        intensity,
        job.head_motion,
        job.seed,
        face=choose_face(detect_faces(picture), job.face),
        paste_back=job.paste_back,
        emotion_text=job.emotion_text,
        size=parse_size(job.size),
        voice_emotion=job.voice_emotion,
        voice_labels=_labels(job),
        **_amounts(job),
    )
    says_emotion = any(given is not None for given in (job.emotion, job.timeline, job.emotion_text))
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
    # closing ends the line of the progress bar, whatever happens
    with (
        closing(pipeline.stream(ready.picture, ready.recording, options=options)) as chunks,
        VideoWriter(ready.job.output, ready.recording, watermark=watermark) as video,
    ):
        for chunk in chunks:
            video.write(chunk)


# Many -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FailedJob:
    """A video that could not be made.

    Attributes:
        output: its file.
        error: the reason, in one sentence.
        line: of the manifest.
        traceback: of an error that is the program's own, not the input's.
    """

    output: str
    error: str
    line: int
    traceback: str = ""

    def __str__(self) -> str:
        return f"line {self.line}, {self.output or 'no output'}: {self.error}"


def read_manifest(path: Path) -> list[Job | FailedJob]:
    """The jobs of a CSV file, see above, and the lines that are none.

    Raises:
        UserError: it cannot be read, a column is missing or unknown, or no line is a job.
    """
    table = read_table(path)
    known = [field.name for field in fields(Job) if field.name != "line"]
    missing = [name for name in NEEDED if name not in table.columns]
    unknown = [name for name in table.columns if name not in known]
    if missing or unknown:
        names = ", ".join(missing) if missing else ", ".join(map(shown, unknown))
        kind = "column" if len(missing or unknown) == 1 else "columns"
        wrong = f"lacks the {kind} {names}" if missing else f"has {'a ' * (len(unknown) == 1)}{kind} {names}"
        raise UserError(f"The manifest {path} {wrong}; columns are {', '.join(sorted(known))}.")
    if not table.rows:
        raise UserError(f"The manifest {path} lists no jobs.")
    lines = [_job(path, row, table.decimal_comma) for row in table.rows]
    places: dict[str, list[int]] = {}
    folders: dict[str, str] = {}
    for number, job in enumerate(lines):
        if isinstance(job, Job):
            folder, name = os.path.split(job.output)
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            places.setdefault(os.path.join(folders[folder], name), []).append(number)
    for place, numbers in places.items():
        if len(numbers) > 1:
            at = ", ".join(str(table.rows[number].line) for number in numbers[:5])
            wrong = f"writes {os.path.basename(place)} more than once (lines {at})"
            error = f"The manifest {path} {wrong}; give every job an output of its own."
            for number in numbers:
                lines[number] = FailedJob(place, error, table.rows[number].line)
    if all(isinstance(line, FailedJob) for line in lines):
        first = lines[0]
        assert isinstance(first, FailedJob)
        raise UserError(first.error)
    return lines


def _job(manifest: Path, row: Row, decimal_comma: bool) -> Job | FailedJob:
    values = row.values
    where = f"Line {row.line} of {manifest}"
    parsed: dict[str, object] = {**values, "line": row.line}
    try:
        missing = [name for name in NEEDED if name not in values]
        if missing or row.surplus:
            raise UserError(f"{where} has {f'no {missing[0]}' if missing else 'more values than columns'}.")
        for name in NEEDED:
            parsed[name] = _path(manifest, values[name], where)
        if values.get("head_motion", "still") not in ("natural", "still"):
            parsed["head_motion"] = str(_path(manifest, values["head_motion"], where))
        if "voice_emotion" in values and "\0" not in values["voice_emotion"]:
            beside = manifest.parent / values["voice_emotion"]  # or else the name of a repository
            parsed["voice_emotion"] = str(beside) if beside.exists() else values["voice_emotion"]
        for name in ("face", "seed", "audio_track"):
            if name in values:
                parsed[name] = _whole(values[name], where)
        if "paste_back" in values:
            if values["paste_back"].lower() not in YES + NO:
                raise UserError(f"{where}: paste_back is true or false.")
            parsed["paste_back"] = values["paste_back"].lower() in YES
        if decimal_comma and "intensity" in values and ":" not in values["intensity"]:
            parsed["intensity"] = values["intensity"].replace(",", ".")
        for name in MOTION_AMOUNTS:
            if name in values:
                text = values[name].replace(",", ".") if decimal_comma else values[name]
                parsed[name] = _number(text, f"{where}: {name}")
    except UserError as error:
        return FailedJob(values.get("output", ""), str(error), row.line)
    return Job(**parsed)  # type: ignore[arg-type]


def _path(manifest: Path, text: str, where: str) -> Path:
    if "\0" in text:
        raise UserError(f"{where}: {shown(text)} is no name of a file.")
    return manifest.parent / text


def _whole(text: str, where: str) -> int:
    """A whole number; spreadsheets write some as 1.0."""
    whole, _, rest = text.partition(".")
    try:
        if not rest.strip("0"):
            return int(whole)
    except ValueError:
        pass
    raise UserError(f"{where}: face, seed and audio_track are whole numbers, not {shown(text)}.")


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{what} is a number, not {shown(text)}.") from None


def run_manifest(
    path: Path,
    load: Callable[[str], "EATPipeline"],
    default: Callable[["EATPipeline"], str],
    watermark: bool = True,
    emotions: Sequence[str] | None = None,
) -> tuple[list[Path], list[FailedJob]]:
    """Make all videos of a manifest that are not there yet; under `accelerate launch` every process makes a share.

    Any number of runs, on any machines that share the folders, may work on one manifest: whoever makes a video has its
    lock, which ends with the process, however that ends. What can be wrong and is quick to see is told first. A job
    that fails does not stop the others. Failures are written beside the manifest, in NAME.failed.jsonl.

    Args:
        load: the pipeline, for a device's name.
        default: of a pipeline, the emotion of jobs that say none.
        emotions: that there are; None while nobody knows.

    Returns:
        the videos that were made, and the jobs that failed, of all processes.

    Raises:
        UserError: the manifest cannot be used, or no pipeline be loaded.
    """
    failed: list[FailedJob] = []

    def fail(job: Job | FailedJob, error: Exception | None = None) -> None:
        if isinstance(job, Job):
            told = isinstance(error, UserError)
            reason = str(error) if told else f"{type(error).__name__}: {' '.join(str(error).split())}"
            trace = "" if told else "".join(traceback.format_exception(error))
            job = FailedJob(str(job.output), reason, job.line, trace)
        failed.append(job)
        say(str(job))

    missing = []
    for line in read_manifest(path):
        if isinstance(line, FailedJob):
            fail(line)
        elif line.output.exists():
            with suppress(OSError):
                _lock_of(line.output).unlink(missing_ok=True)  # of a run that was killed right after it
        else:
            try:
                check(line, emotions)
            except UserError as error:
                fail(line, error)
            else:
                missing.append(line)
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState()
    share = missing[state.process_index :: state.num_processes]  # not in blocks: neighbours take about as long
    if not state.is_main_process:
        failed.clear()  # the main one has seen the same
    made: list[Path] = []
    report = path.with_suffix(".failed.jsonl")
    try:
        pipeline = load(str(state.device)) if share else None
        while share and pipeline is not None:
            claimed_by_others = []
            for job in share:
                try:
                    with claim(job.output) as mine:
                        if not mine:
                            claimed_by_others.append(job)
                        if not mine or job.output.exists():
                            continue
                        make_video(pipeline, prepare(job, emotions), default(pipeline), watermark)
                except Exception as error:  # whatever it is, the other videos do not depend on it
                    fail(job, error)
                else:
                    show(job.output)
                    made.append(job.output)
            if len(claimed_by_others) == len(share):
                say(f"{len(share)} videos are being made by another run.")
                break
            share = claimed_by_others
    except BaseException:
        if state.is_main_process:
            _report(report, failed)
        raise
    made, failed = gather_object(made), gather_object(failed)
    if state.is_main_process:
        _report(report, failed)
        for failure in failed[:TOLD]:
            say(f"not made: {failure}")
        if len(failed) > TOLD:
            say(f"... and {len(failed) - TOLD} more, see {report}")
    return made, failed


@contextmanager
def claim(output: Path) -> Iterator[bool]:
    """Whether this process alone may make a file; the system takes the claim of a process that was killed away.

    Raises:
        UserError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    place = _lock_of(output)
    lock = FileLock(place)
    killed = place.exists()
    with explained_writing(output):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
    try:
        if killed:  # who had the lock before could not remove anything
            remove_unfinished(output)
        yield True
    finally:
        # whoever has it open already finds the video, or tries in vain what failed here
        place.unlink(missing_ok=True)
        lock.release()


def _lock_of(output: Path) -> Path:
    return output.with_name(f".eat_hf-{zlib.crc32(os.fsencode(output.name)):08x}.lock")


def _report(path: Path, failed: Sequence[FailedJob]) -> None:
    """One line a failure; no file without any. Those of other runs stay until somebody tries again or has made them."""
    entries = {each.output: {key: value for key, value in asdict(each).items() if value} for each in failed}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            old = json.loads(line)
            if not Path(old["output"]).exists():
                entries.setdefault(old["output"], old)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there was none, or it is somebody else's
    if entries:
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in entries.values())
        # a name that is no UTF-8 has lone surrogates, which JSON writes as escapes
        write_atomically(path, text.encode("utf-8", "backslashreplace").decode())
    else:
        path.unlink(missing_ok=True)
