"""Render a synthetic talking-head corpus.

    python -m training.corpus.build --output corpus --identities 100 --speech-clips 6 --latent-clips 20 --seed 0

One layout for all data, a Hugging Face dataset folder:

    metadata.jsonl   a line per clip: file_name (clips/ID.mp4, null without pictures), wav (null without sound),
                     portrait (null but for rendered speech), labels (clips/ID.npz), kind, identity, split, emotion,
                     level, text, voice, frames, seed
    corpus.json      seed, sizes, versions, command, names of keypoints, landmarks and ARKit units
    clips/ID.mp4     H.264, 256x256, 25 fps;  clips/ID.wav  16 kHz mono;  clips/ID.npz  labels, see ``Clip.labels``
    clips/idNNNN_surface.npz  with --dense-labels: what masks by part and flow are computed from (``dense``)
    clips/ID.png     the person before the first frame: same place and pose, but neutral and silent

Kinds: "range_of_motion", unrelated frames of every identity, and "speech", rendered or (``--latent-clips``) labels
and sound only. Train, validation and test share no identity, no sentence and no voice. ``--judge`` makes a corpus of
another kind, all of one split "judge", for the networks that score results: its sentences are in no other split, and
with another seed its people are others, too. ``--splits test`` makes only the people of the test split. ``--expression
wince`` makes clips of an expression that is none of the eight, strongest level, to learn an adapter from;
``--expression wishes`` clips and frames of expressions that sentences ask for (``captions``), each another: its parts
are in the line's ``wish``, of a range-of-motion clip one wish a frame. The seed
decides everything: every clip has a seed of its own, so neither the number of workers nor an interruption changes the
result; running the same command again makes only what is missing.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from eat_hf.constants import EMOTIONS, FPS, SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.media.files import explained_writing, whole_file, write_atomically
from training.corpus import heads
from training.corpus.animation import animate
from training.corpus.captions import Wish, sample_wish
from training.corpus.emotions import HELD_OUT, EmotionStyle, sample_style
from training.corpus.facekit_heads import FaceKit, find_facekit
from training.corpus.heads import FRAME, Motion, clip_labels
from training.corpus.looks import sample_scene, undegraded
from training.corpus.people import sample_identity
from training.corpus.sentences import sentences
from training.corpus.speech import VOICES, Prosody, Speech, prosody_of, recorded, room_tone, say
from training.data.dataset import Clip, Corpus
from training.data.files import (
    package_versions,
    read_metadata,
    remove_leftovers,
    write_labels,
    write_picture,
    write_video,
    write_wav,
)
from training.loop.command_line import read_options, run_script

if TYPE_CHECKING:
    from training.corpus.figure import Figure

__all__ = ["Plan", "build_corpus", "split_of_identities"]

WISHES = "wishes"
NEUTRAL_SHARE = 3  # of every 10 speech clips; each of the 7 emotions has one
VOICES_SHARE = 0.6  # of the clips without pictures, where there is a corpus of voices
SILENT_SHARE = 0.04  # of the speech clips contain no speech
# of the speech clips sound like some other emotion than the face shows, or else a network would read the emotion off
# the voice and turn a deaf ear to the one it is asked for
MIXED_PROSODY = 0.6

PACKAGES = ("numpy", "scipy", "soxr", "numba", "espeakng-loader", "av")

# Independent streams of random numbers under one seed.
_IDENTITY, _STYLE, _SPLIT, _RANGE, _SPEECH, _LATENT, _DECK, _VOICE = range(8)


@dataclass(frozen=True)
class Plan:
    """What to make."""

    output: Path = field(metadata={"help": "Folder of the corpus."})
    identities: int = field(default=100, metadata={"help": "Number of people."})
    speech_clips: int = field(default=6, metadata={"help": "Rendered speech clips per identity."})
    latent_clips: int = field(default=20, metadata={"help": "Speech clips without pictures per identity."})
    seed: int = field(default=0, metadata={"help": "Decides everything in the corpus."})
    frames_per_clip: int = field(default=75, metadata={"help": "Longest rendered speech clip, in frames."})
    range_frames: int = field(default=32, metadata={"help": "Unrelated frames per identity, 0 for none."})
    judge: bool = field(default=False, metadata={"help": "A corpus to train judges on, all of one split."})
    size: int = field(default=FRAME, metadata={"help": "Side of the pictures, 256 or more."})
    ict_facekit: str = field(
        default="",
        metadata={"help": "ICT FaceKit's npz file or its folder: half of the people are of that second family."},
    )
    dense_labels: bool = field(
        default=False, metadata={"help": "Keep what masks by part and dense flow are computed from, see dense.py."}
    )
    undegraded: bool = field(
        default=False, metadata={"help": "In focus, without noise and compression: for networks that draw."}
    )
    splits: tuple[Literal["train", "validation", "test"], ...] = field(
        default=(), metadata={"help": "Make only the identities of these splits; all by default."}
    )
    expression: str = field(
        default="", metadata={"help": "What all speech clips show: one that is none of the eight, or wishes."}
    )

    voices: str = field(
        default="",
        metadata={"help": "A corpus of voices (training.corpus.voices), which 6 in 10 clips without pictures take."},
    )

    @property
    def families(self) -> list[str]:
        """Of heads."""
        return ["makehuman"] + ["facekit"] * bool(self.ict_facekit)

    def rng(self, *stream: int) -> np.random.Generator:
        """Random numbers of one purpose, e.g. (_SPEECH, identity, clip); the same on every machine."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *stream]))


def split_of_identities(plan: Plan) -> list[str]:
    """Split of every identity: 8 % test and 8 % validation, at least 8 test identities out of 64 or more, and at least
    one of each from 8 identities on; or all "judge"."""
    n = plan.identities
    if plan.judge:
        return ["judge"] * n
    test = max(round(0.08 * n), min(8, n // 8))
    validation = max(round(0.08 * n), min(4, n // 8))
    order = plan.rng(_SPLIT).permutation(n)
    split = ["train"] * n
    for rank, identity in enumerate(order):
        split[identity] = "test" if rank < test else "validation" if rank < test + validation else "train"
    return split


def _emotion_of(plan: Plan, stream: int, identity: int, clip: int) -> tuple[str, int]:
    """Emotion and level of an identity's clip: decks of ten, 3 neutral and one of each other, levels in turn; or the
    plan's one expression."""
    if plan.expression:
        return plan.expression, 3
    others = [e for e in EMOTIONS if e != "neutral"]
    deck, place = divmod(clip, len(others) + NEUTRAL_SHARE)
    emotion = plan.rng(_DECK, stream, identity, deck).permutation(others + ["neutral"] * NEUTRAL_SHARE)[place]
    if emotion == "neutral":
        return "neutral", 0
    first = int(plan.rng(_DECK, stream, identity, 10_000 + others.index(emotion)).integers(3))
    return str(emotion), (first + deck) % 3 + 1


def _speech_for(plan: Plan, split: str, gender: str, identity: int, emotion: str, level: int, own_voice: bool,
                rng: np.random.Generator) -> Speech:  # fmt: skip
    """An utterance of the split's sentences and voices, sometimes only silence. Rendered clips (``own_voice``: the
    person has one voice in all of them) last ``frames_per_clip`` frames at most, the others as long as they take."""
    if rng.random() < SILENT_SHARE:
        return room_tone(rng.uniform(1.2, 2.6), rng)
    voices = VOICES[split][gender]
    voice = voices[int((plan.rng(_VOICE, identity) if own_voice else rng).integers(len(voices)))]
    sounds_like = (emotion, level) if emotion in EMOTIONS else ("neutral", 0)
    others = _voices_of(plan.voices, split) if plan.voices and not own_voice else []
    if others and rng.random() < VOICES_SHARE:
        clip = others[rng.integers(len(others))]
        labels = clip.labels("phonemes", "phoneme_times")
        speech = recorded(clip.waveform(), labels["phonemes"].tolist(), labels["phoneme_times"], rng)
        return replace(speech, text=clip.metadata["text"], voice=str(clip.identity))
    if rng.random() < MIXED_PROSODY:
        sounds_like = str(rng.choice(EMOTIONS)), int(rng.integers(1, 4))
    prosody, candidates = prosody_of(*sounds_like, rng), rng.permutation(sentences(split))
    if not own_voice:
        return say(str(candidates[0]), voice, prosody, rng)
    # About 0.065 s a letter at 168 words a minute, and silence around: prefer a sentence that need not be cut.
    letters = (plan.frames_per_clip / FPS - 0.6) / (0.065 * 168 / prosody.rate)
    text = next((str(text) for text in candidates if len(text) <= letters), str(min(candidates, key=len)))
    return say(text, voice, prosody, rng).cut(plan.frames_per_clip)


@functools.cache
def _voices_of(folder: str, split: str) -> list[Clip]:
    """Clips of a corpus of voices in which somebody speaks."""
    return [clip for clip in Corpus(folder).clips(split=split, kind="speech") if clip.metadata["text"]]


# --- clips ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _ClipJob:
    name: str
    kind: str
    stream: int
    index: int

    @property
    def rendered(self) -> bool:
        return self.stream != _LATENT


def _jobs(plan: Plan, identity: int) -> list[_ClipJob]:
    prefix = f"id{identity:04d}"
    jobs = [_ClipJob(f"{prefix}_range", "range_of_motion", _RANGE, 0)] if plan.range_frames else []
    jobs += [_ClipJob(f"{prefix}_speech_{i:04d}", "speech", _SPEECH, i) for i in range(plan.speech_clips)]
    jobs += [_ClipJob(f"{prefix}_latent_{i:04d}", "speech", _LATENT, i) for i in range(plan.latent_clips)]
    return jobs


def _finished(plan: Plan, identity: int, job: _ClipJob) -> bool:
    clips = plan.output / "clips"
    speech = job.kind == "speech"
    if plan.dense_labels and job.rendered and not (clips / _surface_name(identity)).is_file():
        return False
    needed = [".npz"] + [".mp4"] * job.rendered + [".wav"] * speech + [".png"] * (job.rendered and speech)
    return all((clips / (job.name + suffix)).is_file() for suffix in needed)


def _make_clip(plan: Plan, job: _ClipJob, identity: int, person: heads.Identity, figure: Figure | None,
               style: EmotionStyle, split: str) -> int:  # fmt: skip
    """Make one clip and write its files; the person's figure is for pictures only. Returns its number of frames."""
    rng = plan.rng(job.stream, identity, job.index)
    speech, emotion, level = None, "neutral", 0
    wishes: list[Wish] = []

    def draw_wish(rng: np.random.Generator) -> np.ndarray:
        wishes.append(sample_wish(rng))
        return wishes[-1].arkit

    wished = plan.expression == WISHES
    if job.kind == "range_of_motion":
        drawn = draw_wish if wished else heads.random_expression
        motion = heads.range_of_motion(person, rng, plan.range_frames, drawn)
    else:
        emotion, level = _emotion_of(plan, job.stream, identity, job.index)
        gender = "female" if person.attributes["female"] > 0.5 else "male"
        speech = _speech_for(plan, split, gender, identity, emotion, level, job.stream == _SPEECH, rng)
        a = animate(speech, "neutral" if wished else emotion, level, style, rng, draw_wish(rng) if wished else None)
        motion = Motion(a.arkit, a.yaw, a.pitch, a.roll, a.translation, a.tongue)

    # The first clip of a person has the person's own scene, the others a new one.
    scene = person.scene if job.stream == _RANGE or not job.rendered else sample_scene(rng)
    if plan.undegraded:
        scene = undegraded(scene)
    labels = clip_labels(person, **vars(motion), distance=scene.distance if job.rendered else None)
    labels["phonemes"] = np.array(speech.phonemes if speech else [], dtype=np.str_)
    labels["phoneme_times"] = speech.times.astype(np.float32) if speech else np.zeros((0, 2), np.float32)
    clips = plan.output / "clips"
    if job.rendered:
        from training.corpus.render import ClipRenderer

        renderer = ClipRenderer(person, scene, plan.size, figure)
        frames = renderer.clip(motion)
        # Unrelated frames cannot lean on their neighbours and get more bits.
        write_video(clips / f"{job.name}.mp4", frames, 11 if job.kind == "range_of_motion" else 13, "ultrafast")
        if plan.dense_labels:
            labels["clothes"] = np.packbits(renderer.clothes, axis=1)
        if speech:
            write_picture(clips / f"{job.name}.png", renderer.portrait(motion))
    if speech:
        write_wav(clips / f"{job.name}.wav", speech.waveform)
    write_labels(clips / f"{job.name}.npz", labels, {
        "file_name": f"clips/{job.name}.mp4" if job.rendered else None,
        "wav": f"clips/{job.name}.wav" if speech else None,
        "portrait": f"clips/{job.name}.png" if job.rendered and speech else None,
        "labels": f"clips/{job.name}.npz",
        "kind": job.kind,
        "identity": identity,
        "family": person.family,
        "split": split,
        "emotion": emotion,
        "level": level,
        "text": speech.text if speech else "",
        "voice": speech.voice if speech else "",
        "frames": len(motion.yaw),
        "seed": plan.seed,
        **({"surface": f"clips/{_surface_name(identity)}"} if plan.dense_labels and job.rendered else {}),
        **({"wish": [wish.parts for wish in wishes]} if wished else {}),
    })  # fmt: skip
    return len(motion.yaw)


def _surface_name(identity: int) -> str:
    return f"id{identity:04d}_surface.npz"


def _write_surface(path: Path, figure: Figure) -> None:
    from training.corpus.dense import surface_arrays

    if not path.is_file():
        with whole_file(path) as part:
            np.savez_compressed(part, **surface_arrays(figure.surface, figure.solid))  # type: ignore[arg-type]


@threadpool_limits.wrap(limits=1)  # matrix products round differently on more threads
def person_of(plan: Plan, identity: int) -> heads.Identity:
    """Who an identity of a corpus is: the same person whenever it is asked for."""
    facekit = FaceKit.load(find_facekit(plan.ict_facekit)) if plan.ict_facekit else None
    return sample_identity(plan.rng(_IDENTITY, identity), facekit)


def _make_identity(task: tuple[Plan, int, str]) -> tuple[int, int, int, int]:
    """Make an identity's missing clips. Returns clips made, clips found, frames rendered, frames with labels only."""
    plan, identity, split = task
    missing = [job for job in _jobs(plan, identity) if not _finished(plan, identity, job)]
    found = len(_jobs(plan, identity)) - len(missing)
    rendered = labelled = 0
    if missing:
        person = person_of(plan, identity)
        style = sample_style(plan.rng(_STYLE, identity))
        figure = None
        if any(job.rendered for job in missing):
            from training.corpus.figure import Figure  # numba compiles on import: only when pictures are wanted

            figure = Figure(person)
            if plan.dense_labels:
                _write_surface(plan.output / "clips" / _surface_name(identity), figure)
        for job in missing:
            frames = _make_clip(plan, job, identity, person, figure, style, split)
            rendered, labelled = (rendered + frames, labelled) if job.rendered else (rendered, labelled + frames)
    return len(missing), found, rendered, labelled


# --- corpus -----------------------------------------------------------------------------------------------------------
_WITHOUT = {"families": ["makehuman"]}  # what corpora were before it was written down


def _check_resumable(plan: Plan) -> None:
    """A folder is continued only with what decides its content; more clips may be added."""
    existing = plan.output / "corpus.json"
    if existing.is_file():
        was = json.loads(existing.read_text(encoding="utf8"))
        for name in (
            "seed",
            "identities",
            "frames_per_clip",
            "range_frames",
            "size",
            "families",
            "judge",
            "expression",
            "dense_labels",
            "undegraded",
        ):
            if was.get(name, _WITHOUT.get(name, getattr(Plan, name, None))) != getattr(plan, name):
                raise UserError(f"{plan.output} was made with {name} {was[name]}, not {getattr(plan, name)}: "
                                 "use another --output, or the same value to continue it")  # fmt: skip
    elif (plan.output / "clips").is_dir() and any((plan.output / "clips").iterdir()):
        raise UserError(f"{plan.output} has clips but no corpus.json: use an empty --output")


def build_corpus(plan: Plan, workers: int = 1, progress: bool = True) -> None:
    """Make (or complete) the corpus. Raises ValueError for sizes below zero, or an output folder of another corpus;
    ImportError without espeak-ng."""
    if plan.identities < 1 or plan.speech_clips < 0 or plan.latent_clips < 0:
        raise UserError("a corpus needs at least 1 identity and 0 or more clips")
    if not FRAME <= plan.size <= 1024:
        raise UserError(f"pictures must have a side of {FRAME} to 1024 pixels, not {plan.size}")
    if plan.ict_facekit:
        FaceKit.load(find_facekit(plan.ict_facekit))  # fails here, in one process, where it is missing
    if plan.frames_per_clip < 10 or plan.range_frames < 0:
        raise UserError("speech clips need at least 10 frames, range-of-motion clips 0 (none) or more")
    if plan.expression not in ("", *HELD_OUT, WISHES):
        raise UserError(f"the expression must be one of {', '.join((*HELD_OUT, WISHES))}, not {plan.expression!r}")
    if plan.speech_clips or plan.latent_clips:
        from training.corpus.speech import synthesize

        synthesize("Ready.", prosody=Prosody())  # fails here, in one process, where espeak-ng is missing
    _check_resumable(plan)
    (plan.output / "clips").mkdir(parents=True, exist_ok=True)
    remove_leftovers(plan.output / "clips")
    write_atomically(plan.output / "corpus.json", json.dumps({
        "seed": plan.seed, "identities": plan.identities, "speech_clips": plan.speech_clips,
        "latent_clips": plan.latent_clips, "frames_per_clip": plan.frames_per_clip, "range_frames": plan.range_frames,
        "size": plan.size, "families": plan.families, "judge": plan.judge, "splits": list(plan.splits),
        "expression": plan.expression, "dense_labels": plan.dense_labels, "undegraded": plan.undegraded,
        "fps": FPS, "sampling_rate": SAMPLING_RATE, "versions": package_versions(*PACKAGES),
        "command": f"python -m training.corpus.build --output DIR --identities {plan.identities} --speech-clips "
        f"{plan.speech_clips} --latent-clips {plan.latent_clips} --seed {plan.seed} --frames-per-clip "
        f"{plan.frames_per_clip} --range-frames {plan.range_frames} --size {plan.size}" + " --judge" * plan.judge
        + " --dense-labels" * plan.dense_labels + " --undegraded" * plan.undegraded
        + " --ict-facekit ict_facekit.npz" * bool(plan.ict_facekit)
        + " ".join(["", "--splits", *plan.splits] if plan.splits else [])
        + f" --expression {plan.expression}" * bool(plan.expression) + " --voices VOICES" * bool(plan.voices),
        "keypoint_names": list(heads.KEYPOINT_NAMES), "landmark_names": list(heads.LANDMARK_NAMES),
        "arkit_names": list(heads.ARKIT_NAMES), "emotions": list(EMOTIONS),
    }, indent=2) + "\n")  # fmt: skip

    tasks = [(plan, identity, split) for identity, split in enumerate(split_of_identities(plan))
             if not plan.splits or split in plan.splits]  # fmt: skip
    started, made, found, rendered, labelled = time.perf_counter(), 0, 0, 0, 0
    for result in _progress(_run(tasks, workers), len(tasks), progress):
        made, found = made + result[0], found + result[1]
        rendered, labelled = rendered + result[2], labelled + result[3]
    seconds = time.perf_counter() - started

    names = [job.name for _, identity, _ in tasks for job in _jobs(plan, identity)]
    lines = [json.dumps(read_metadata(plan.output / "clips" / f"{n}.npz"), ensure_ascii=False) for n in names]
    write_atomically(plan.output / "metadata.jsonl", "\n".join(lines) + "\n")
    if progress:
        size = sum(f.stat().st_size for f in (plan.output / "clips").iterdir()) / 1e6
        print(f"{plan.output}: {made} clips made, {found} already there, in {seconds:.0f} s "
              f"({(rendered + labelled) / max(seconds, 1e-9):.0f} frames/s; {rendered} rendered, {labelled} with "
              f"labels and sound only); {size:.0f} MB")  # fmt: skip


def _run(tasks, workers: int):
    if workers <= 1:
        yield from map(_make_identity, tasks)
        return
    # spawn: espeak-ng and numba hold state that does not survive a fork. Each worker computes on one thread.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks))) as pool:
        yield from pool.imap_unordered(_make_identity, tasks)


def _progress(results, total: int, show: bool):
    if not show:
        return results
    from tqdm import tqdm

    return tqdm(results, total=total, unit="identity", desc="corpus")


@dataclass(frozen=True)
class BuildOptions(Plan):
    """Options."""

    workers: int = field(default=2, metadata={"help": "Processes."})


def main(argv: list[str] | None = None) -> None:
    options = read_options(BuildOptions, argv)
    with explained_writing(options.output):
        build_corpus(options, options.workers)


if __name__ == "__main__":
    run_script(main)
