"""A corpus of voices with the times of their phonemes, for the speech encoder: synthetic ones and real recordings.

    python -m training.corpus.voices --output voices --recordings LJSPEECH LIBRITTS --unheard OTHER_READER

espeak-ng speaks with many voices, flite with three that were made from recordings, and pocketsphinx aligns any folder
of recordings with texts, see ``training.corpus.recordings``. The layout is that of ``training.corpus.build``; a clip's
line says its ``source`` and, as ``identity``, its voice. Sound is clean: the stage that learns from it degrades it.

Splits: "train"; "validation", espeak's voices for that and sentences that readers of the training set were not heard
with; "test", espeak's and flite's voices for that, and all of the unheard readers.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr
from joblib import Parallel, delayed
from tqdm import tqdm

from eat_hf.constants import FPS, SAMPLING_RATE
from eat_hf.media.files import write_atomically
from training.corpus import flite
from training.corpus.conditions import music
from training.corpus.recordings import Aligner, Reading, find_readings, read_aloud
from training.corpus.sentences import sentences
from training.corpus.speech import VOICES, Prosody, room_tone, synthesize
from training.corpus.visemes import SILENCE
from training.data.files import package_versions, read_metadata, remove_leftovers, write_labels, write_wav
from training.loop.command_line import read_options, run_script

Phones = list[tuple[str, float, float]]
VALIDATION_SHARE = 0.12  # of the sentences of readers in training
NO_WORDS = ("room", "music", "breath")


@dataclass
class VoicesOptions:
    """Options of the corpus of voices."""

    output: str = field(metadata={"help": "Folder of the corpus."})
    espeak_clips: int = field(default=1500, metadata={"help": "Sentences of espeak-ng's training voices."})
    flite_clips: int = field(default=600, metadata={"help": "Sentences of flite's training voices; 0: without flite."})
    silent_clips: int = field(default=60, metadata={"help": "Clips without speech: rooms, music, breath."})
    held_out_clips: int = field(default=60, metadata={"help": "Of each synthesiser, for each other split."})
    recordings: tuple[str, ...] = field(
        default=(), metadata={"help": "Folders of recordings with texts to learn from."}
    )
    unheard: tuple[str, ...] = field(default=(), metadata={"help": "Folders of recordings with texts for tests alone."})
    seed: int = field(default=0, metadata={"help": "Decides texts, voices and prosody."})
    workers: int = field(default=1, metadata={"help": "Processes."})


@dataclass(frozen=True)
class Job:
    """A clip to make."""

    name: str
    source: str
    split: str
    voice: str
    text: str
    seed: int
    reading: Reading | None = None


def _words() -> list[str]:
    """All words that pocketsphinx pronounces, for sentences of sounds that no sentence of ours has; none without it."""
    try:
        import pocketsphinx
    except ImportError:
        return []
    lines = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf8").splitlines()
    return [word for word in (line.split()[0] for line in lines if line) if word.isalpha() and len(word) > 1]


def plan(options: VoicesOptions) -> list[Job]:
    """All clips, in order. Raises UserError for a folder that holds no recordings."""
    rng, words = np.random.default_rng(options.seed), _words()
    jobs: list[Job] = []

    def text(split: str) -> str:
        if words and rng.random() < 0.6:
            return " ".join(words[k] for k in rng.integers(len(words), size=rng.integers(4, 10))).capitalize() + "."
        return str(rng.choice(sentences(split)))

    def add(source: str, split: str, voice: str, text: str, reading: Reading | None = None) -> None:
        jobs.append(
            Job(f"{source}_{split}_{len(jobs):05d}", source, split, voice, text, int(rng.integers(2**31)), reading)
        )

    counts = {"train": options.espeak_clips, "validation": options.held_out_clips, "test": options.held_out_clips}
    for split, count in counts.items():
        voices = [voice for gender in VOICES[split].values() for voice in gender]
        for k in range(count):
            add("espeak", split, voices[k % len(voices)], text(split))
    if options.flite_clips:
        for split, count in (("train", options.flite_clips), ("test", options.held_out_clips)):
            for k in range(count):
                add("flite", split, flite.VOICES[split][k % len(flite.VOICES[split])], text(split))
    for folders, split in ((options.recordings, "train"), (options.unheard, "test")):
        for reading in (reading for folder in folders for reading in find_readings(folder)):
            # by name, so that a sentence stays where it is when others come
            held_out = zlib.crc32(reading.path.stem.encode()) % 1000 < 1000 * VALIDATION_SHARE
            own = "validation" if split == "train" and held_out else split
            add("recording", own, reading.reader, reading.text, reading)
    for split, count in (("train", options.silent_clips), ("test", options.silent_clips // 4)):
        for k in range(count):
            add("silence", split, NO_WORDS[k % len(NO_WORDS)], "")
    return jobs


def _silent(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, Phones]:
    samples = int(rng.uniform(2, 5) * FPS) * SAMPLING_RATE // FPS
    seconds = samples / SAMPLING_RATE
    if kind == "music":
        waveform = 0.1 * music(samples, rng)
    elif kind == "breath":  # air that comes and goes
        swell = np.sin(2 * np.pi * np.arange(samples) / SAMPLING_RATE / rng.uniform(1.2, 4)).clip(0) ** 2
        waveform = 0.03 * swell * soxr.resample(rng.standard_normal(samples), 1, 2)[:samples]
    else:
        waveform = room_tone(seconds, rng).waveform
    return np.pad(waveform, (0, samples))[:samples].astype(np.float32), [(SILENCE, 0.0, seconds)]


def _espeak(text: str, voice: str, rng: np.random.Generator) -> tuple[np.ndarray, Phones]:
    prosody = Prosody(rate=rng.uniform(125, 230), pitch=rng.uniform(25, 80), pitch_range=rng.uniform(20, 90))
    samples, rate, phones = synthesize(text, voice, prosody, seed=int(rng.integers(1, 2**31 - 1)))
    return soxr.resample(samples, rate, SAMPLING_RATE).astype(np.float32), phones


_aligner: list[Aligner] = []  # of this process


def make(job: Job, folder: Path) -> None:
    """Make a clip, unless it is there. One whose text is not found in its sound has no files."""
    labels_path = folder / f"{job.name}.npz"
    if labels_path.exists():
        return
    rng = np.random.default_rng(job.seed)
    made: tuple[np.ndarray, Phones] | None
    if job.reading is not None:
        if not _aligner:
            _aligner.append(Aligner())
        made = read_aloud(job.reading, _aligner[0])
    elif job.source == "flite":
        made = flite.say(job.text, job.voice, rng.uniform(0.8, 1.3))
    elif job.source == "espeak":
        made = _espeak(job.text, job.voice, rng)
    else:
        made = _silent(job.voice, rng)
    if made is None:
        return
    waveform, phones = made
    write_wav(folder / f"{job.name}.wav", waveform)
    labels = {
        "phonemes": np.array([name for name, _, _ in phones], dtype=np.str_),
        "phoneme_times": np.array([times for _, *times in phones], np.float32).reshape(-1, 2),
    }
    metadata = {
        "file_name": None, "wav": f"clips/{job.name}.wav", "labels": f"clips/{job.name}.npz", "kind": "speech",
        "identity": job.voice, "split": job.split, "emotion": None, "level": None, "text": job.text,
        "frames": int(len(waveform) * FPS / SAMPLING_RATE), "source": job.source,
    }  # fmt: skip
    write_labels(labels_path, labels, metadata)


def build(options: VoicesOptions) -> Path:
    """Make the corpus, or what an interrupted run left of it.

    Raises UserError for folders without recordings, and where a program or package is missing.
    """
    jobs, output = plan(options), Path(options.output)
    clips = output / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    remove_leftovers(clips)
    bar = tqdm(jobs, desc="voices", mininterval=10)
    Parallel(n_jobs=options.workers)(delayed(make)(job, clips) for job in bar)
    lines = [json.dumps(line, ensure_ascii=False) for line in _made(jobs, clips)]
    missing = len(jobs) - len(lines)
    write_atomically(output / "metadata.jsonl", "\n".join(lines) + "\n")
    versions = package_versions("espeakng-loader", "pocketsphinx", "numpy", "soxr")
    info = {"seed": options.seed, "versions": versions, "recordings": [Path(p).name for p in options.recordings]}
    write_atomically(output / "corpus.json", json.dumps(info, indent=2) + "\n")
    print(f"{len(lines)} clips in {output}; the text of {missing} recordings was not found in their sound.")
    return output


def _made(jobs: list[Job], clips: Path) -> Iterator[dict]:
    for job in jobs:
        if (clips / f"{job.name}.npz").exists():
            yield read_metadata(clips / f"{job.name}.npz")


def main(argv: list[str] | None = None) -> None:
    build(read_options(VoicesOptions, argv))


if __name__ == "__main__":
    run_script(main)
