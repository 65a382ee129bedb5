"""Turn a folder of real talking videos into a corpus, in the layout that the synthetic one has.

    python -m training.real.prepare --input MEAD --layout mead --output corpus_mead --model checkpoints_card/eat-demo

What ``training.corpus.build`` writes, this writes, too (see there), so that one set of readers and scripts serves both:

    metadata.jsonl   a line per clip; beside the fields of every corpus, source (the video) and portrait_of (the clip
                     whose frame the portrait is). emotion and level are null where the data set says nothing
    corpus.json      layout, seed, model, versions, command, names of keypoints and landmarks, and what is missing
    rejected.jsonl   a line per video that was left out: file, clip, reason, detail
    clips/ID.mp4     H.264, 256x256, 25 fps, the square around the first frame's face;  clips/ID.wav  16 kHz mono
    clips/ID.npz     labels, see ``Clip.labels``;  clips/ID.png  a portrait

Labels of real clips are measured, not exact. Landmarks are dlib's, two-dimensional, so their depth is NaN; face_box is
the detector's, widened to hold them. Facial units (arkit) and phonemes are missing. Head pose, translation, keypoints
and expression come from the keypoint detector and motion estimator of ``--model``, and are missing without one. They
keep what readers take for granted, one canonical face a clip and Eq. 1 with the expression in the head's frame,
K = R (K_c + E) + t: canonical keypoints are the mean over the clip; where the detector sees posed ones, the expression
is what Eq. 1 leaves over.

The portrait is the frame with the lips most closed and the eyes as open as they mostly are: of a neutral clip of the
same person (drawn by the seed) where the clip shows an emotion, as in the paper's pairs, and of the clip itself where
it is neutral, its emotion is unknown or the person has no neutral clip.

Finished clips and rejected ones are kept, so running the same command again does only what is missing; delete
rejected.jsonl to try those again. The number of workers changes nothing in the corpus.
"""

import filecmp
import hashlib
import json
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from simple_parsing import choice
from tqdm import tqdm

from eat_hf.constants import EMOTIONS, FPS, SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.media.files import explained_writing, whole_file, write_atomically

from ..corpus.heads import KEYPOINT_NAMES, LANDMARK_NAMES
from ..data.files import package_versions, read_metadata, remove_leftovers
from ..loop.command_line import read_options, run_script
from .clips import Options, Outcome, metadata_of, prepare_in_worker
from .layouts import LAYOUTS, SPLITS, SourceClip, find_clips

PACKAGES = ("eat_hf", "torch", "numpy", "opencv-python-headless", "dlib-bin", "av")
ALWAYS_MISSING = ("depth of landmarks", "arkit", "arkit_names", "phonemes", "phoneme_times")
CACHES = ("frames", "latents", "faces")  # of `FrameBank`, `MotionData` and `FaceBank`
WITHOUT_MODEL = ("yaw", "pitch", "roll", "translation", "canonical", "expression", "keypoints")


def prepare_corpus(options: Options, workers: int = 1, progress: bool = True) -> None:
    """Make or complete a corpus out of a folder of videos.

    Raises:
        UserError: the folders, the layout or the model cannot be used.
        OSError: the disk is full.
    """
    if workers < 1:
        raise UserError(f"--workers must be 1 or more, not {workers}.")
    if options.output.resolve().is_relative_to(options.input.resolve()):
        raise UserError(f"The corpus would lie in {options.input}, among the videos it is made of; choose another.")
    options = replace(options, input=options.input.absolute())
    clips, others = find_clips(options.input, options.layout, options.seed)
    start_corpus(options)
    rejected = read_rejected(options.output / "rejected.jsonl")
    missing = [clip for clip in clips if clip.name not in rejected and not finished(options.output, clip.name)]

    started, made, frames = time.perf_counter(), 0, 0
    write_rejected(options.output, rejected)
    with (options.output / "rejected.jsonl").open("a", encoding="utf8") as log:
        bar = tqdm(run(missing, options, workers), "prepare", len(missing), unit="clip", disable=not progress)
        for outcome in bar:
            made, frames = made + (not outcome.reason), frames + outcome.frames
            if outcome.reason:
                rejected[outcome.clip.name] = line = {
                    "file": outcome.clip.video.relative_to(options.input).as_posix(),
                    "clip": outcome.clip.name,
                    "reason": outcome.reason,
                    "detail": outcome.detail,
                }
                log.write(json.dumps(line, ensure_ascii=False) + "\n")
                log.flush()
                bar.set_postfix(rejected=len(rejected), refresh=False)
    seconds = time.perf_counter() - started

    write_rejected(options.output, rejected)
    lines = write_index(options, clips)
    if progress:
        print(
            f"{options.output}: {made} clips made, {len(lines) - made} already there, in {seconds:.0f} s "
            f"({frames / max(seconds, 1e-9):.0f} frames/s, {frames / FPS / max(seconds, 1e-9):.1f} x real time)"
        )
        print(summary(lines, rejected, others))
        stale = [name for name in CACHES if made and (options.output / name).is_dir()]
        if stale:
            print(f"delete {', '.join(stale)} in {options.output}: training has cached what there was before")


def start_corpus(options: Options) -> None:
    """Write corpus.json, or check that the folder's may be continued."""
    described = {"layout": options.layout, "seed": options.seed, **describe_model(options.model, options.device)}
    existing = options.output / "corpus.json"
    if existing.is_file():
        was = json.loads(existing.read_text(encoding="utf8"))
        if "layout" not in was:
            raise UserError(f"{options.output} is a rendered corpus; use another --output.")
        for name in ("layout", "seed", "model_fingerprint"):
            if was[name] != described[name]:
                this, that = (f"{d['model']} ({d[name]})" if "model" in name else d[name] for d in (was, described))
                raise UserError(
                    f"{options.output} was made with {name.removesuffix('_fingerprint')} {this}, not {that}: use "
                    "another --output, or the same value to continue it."
                )
    clips = options.output / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    if not existing.is_file() and any(clips.iterdir()):
        raise UserError(f"{options.output} has clips but no corpus.json; use an empty --output.")
    remove_leftovers(clips)
    model = f" --model {shlex.quote(options.model)}" if options.model else ""
    command = (
        f"python -m training.real.prepare --input DIR --layout {options.layout} --output DIR --seed {options.seed}"
    )
    described |= {
        "fps": FPS,
        "sampling_rate": SAMPLING_RATE,
        "versions": package_versions(*PACKAGES),
        "command": command + model,
        "arkit_names": [],
        "emotions": EMOTIONS,
        "missing": [*ALWAYS_MISSING, *(() if options.model else WITHOUT_MODEL)],
    }
    write_atomically(existing, json.dumps(described, indent=2) + "\n")


def describe_model(model: str | None, device: str) -> dict[str, Any]:
    """What corpus.json says of the networks that labelled the clips."""
    described: dict[str, Any] = {
        "model": model,
        "model_fingerprint": None,
        "keypoint_names": [],
        "landmark_names": LANDMARK_NAMES,
    }
    if model is not None:
        from .latents import fingerprint, load_networks

        networks = load_networks(model, device)
        count = networks.detector.config.keypoints
        # posed keypoints are learnt from the synthetic corpus and have its names; those of the paper have none
        named = networks.keypoint_space == "posed" and count == len(KEYPOINT_NAMES)
        described |= {
            "model_fingerprint": fingerprint(networks),
            "keypoint_names": KEYPOINT_NAMES if named else [f"keypoint_{number:02d}" for number in range(count)],
        }
    return described


def run(clips: list[SourceClip], options: Options, workers: int) -> Iterator[Outcome]:
    """Outcomes as they come in, from worker processes if there are several."""
    jobs = (delayed(prepare_in_worker)(clip, options) for clip in clips)
    return Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)


def finished(output: Path, name: str) -> bool:
    return all((output / "clips" / f"{name}.{suffix}").is_file() for suffix in ("npz", "mp4", "wav", "png"))


def read_rejected(path: Path) -> dict[str, dict[str, str]]:
    """Lines of rejected.jsonl by clip. A run that was interrupted may have left half a line."""
    lines = {}
    if path.is_file():
        for text in path.read_text(encoding="utf8").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            lines[line["clip"]] = line
    return lines


def write_rejected(output: Path, rejected: dict[str, dict[str, str]]) -> None:
    write_lines(output / "rejected.jsonl", (rejected[name] for name in sorted(rejected)))


def write_index(options: Options, clips: list[SourceClip]) -> list[dict[str, Any]]:
    """Choose portraits, and write metadata.jsonl in the order of names. Returns its lines.

    Clips whose videos are no longer in the input folder stay in the corpus; of the others, what the data set says now
    counts.
    """
    folder = options.output / "clips"
    known = {clip.name: clip for clip in clips}
    lines = []
    for name in sorted(path.stem for path in folder.glob("*.npz") if finished(options.output, path.stem)):
        line = read_metadata(folder / f"{name}.npz")
        lines.append(metadata_of(known[name], line["frames"], options) if name in known else line)
    neutral: dict[str, list[str]] = {}
    for line in lines:
        if line["emotion"] == "neutral":
            neutral.setdefault(line["identity"], []).append(Path(line["labels"]).stem)
    for line in lines:
        name = Path(line["labels"]).stem
        if line["emotion"] not in (None, "neutral") and line["identity"] in neutral:
            # more neutral clips may come: they change the choice of few others
            line["portrait_of"] = min(neutral[line["identity"]], key=lambda other: draw(options.seed, name, other))
            copy_portrait(folder / f"{line['portrait_of']}.png", folder / f"{name}.png")
    write_lines(options.output / "metadata.jsonl", lines)
    return lines


def draw(seed: int, *names: str) -> str:
    """Something like a random number, the same for the same names."""
    return hashlib.sha256("/".join([str(seed), *names]).encode()).hexdigest()


def copy_portrait(source: Path, target: Path) -> None:
    if not filecmp.cmp(source, target, shallow=False):
        with whole_file(target) as part:
            shutil.copyfile(source, part)


def write_lines(path: Path, lines: Iterable[dict]) -> None:
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def summary(lines: list[dict[str, Any]], rejected: dict[str, dict[str, str]], others: int) -> str:
    """For the terminal: clips and people by split, and what was left out for which reason."""
    people = {split: {line["identity"] for line in lines if line["split"] == split} for split in SPLITS}
    clips = Counter(line["split"] for line in lines)
    text = ["; ".join(f"{split}: {clips[split]} clips of {len(people[split])} people" for split in SPLITS)]
    reasons = Counter(line["reason"] for line in rejected.values())
    if reasons:
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        text.append(f"{len(rejected)} videos rejected ({counts}); see rejected.jsonl")
    if others:
        text.append(f"{others} other videos in the folder are not part of the layout and were not read")
    return "\n".join(text)


@dataclass(frozen=True)
class PrepareOptions(Options):
    """Options."""

    layout: str = choice(*LAYOUTS, "folder", help="How the data set is laid out.")
    workers: int = field(default=2, metadata={"help": "Processes."})


def main(argv: list[str] | None = None) -> None:
    options = read_options(PrepareOptions, argv)
    with explained_writing(options.output):
        prepare_corpus(options, options.workers)


if __name__ == "__main__":
    run_script(main)
