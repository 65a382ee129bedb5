"""Pairing the clips of two folders, and knowing which emotion each was meant to show."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..constants import EMOTIONS
from ..errors import UnscorableClip, UserError
from ..media.recordings import read_audio
from ..media.videos import read_video
from .report.results import RejectedClip

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
LABELS = "labels.csv"  # in either folder: columns clip, emotion
SHORTEST_CLIP = 7  # frames: what a window of SyncNet and a second difference need
LARGEST_CLIP = 4 << 30  # bytes of decoded frames
# MEAD writes the first three letters, others the whole word or a relative of it
EMOTION_WORDS = {
    "ang": "angry",
    "anger": "angry",
    "con": "contempt",
    "contemptuous": "contempt",
    "dis": "disgusted",
    "disgust": "disgusted",
    "fea": "fear",
    "fearful": "fear",
    "hap": "happy",
    "happiness": "happy",
    "neu": "neutral",
    "sadness": "sad",
    "sur": "surprised",
    "surprise": "surprised",
}


@dataclass(frozen=True)
class ClipPair:
    """Attributes:
    name: path within the folder, without suffix.
    generated, reference: the two videos.
    emotion: what the clip should show; None if nobody said.
    """

    name: str
    generated: Path
    reference: Path
    emotion: str | None = None


def find_clips(folder: Path) -> dict[str, Path]:
    """Videos below a folder by name without suffix, sorted.

    Raises:
        UserError: the folder is missing or holds no video, or two of one name.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{found[name].name} and {path.name} in {folder} have the same name; rename one of them.")
        found[name] = path
    if not found:
        raise UserError(f"There is no video in {folder} (looked for {', '.join(VIDEO_SUFFIXES)}).")
    return found


def pair_clips(generated: Path, reference: Path) -> tuple[list[ClipPair], list[RejectedClip]]:
    """Pair the videos of two folders by name; whatever has no partner is rejected with the reason.

    Raises:
        UserError: a folder is missing or empty, nothing pairs, or a label is not an emotion.
    """
    mine, real = find_clips(generated), find_clips(reference)
    labels = read_labels(reference) | read_labels(generated)
    pairs = [
        ClipPair(name, mine[name], real[name], labels.get(name) or emotion_in(name)) for name in mine if name in real
    ]
    if not pairs:
        raise UserError(
            f"No video in {generated} has the name of one in {reference} (for example {next(iter(mine))} and "
            f"{next(iter(real))}); give both the same names."
        )
    rejected = [RejectedClip(name, f"no video of this name in {reference}") for name in mine if name not in real]
    rejected += [RejectedClip(name, f"no video of this name in {generated}") for name in real if name not in mine]
    return pairs, rejected


def read_labels(folder: Path) -> dict[str, str]:
    """Emotions by clip name from labels.csv, if the folder has one.

    Raises:
        UserError: the file has other columns, or an unknown emotion.
    """
    path = folder / LABELS
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    if rows and not {"clip", "emotion"} <= set(rows[0]):
        raise UserError(f"{path} needs the columns clip and emotion; it has {', '.join(map(str, rows[0]))}.")
    labels = {}
    for row in rows:
        word = (row["emotion"] or "").strip().lower()
        emotion = EMOTION_WORDS.get(word, word)
        if emotion not in EMOTIONS:
            raise UserError(f"{path}: {row['emotion']!r} of {row['clip']} is none of {', '.join(EMOTIONS)}.")
        labels[Path(row["clip"]).with_suffix("").as_posix()] = emotion
    return labels


def emotion_in(name: str) -> str | None:
    """The emotion that a name such as M003_hap_3_001 or id0012_surprised_04 contains, if it contains exactly one."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {EMOTION_WORDS.get(word, word) for word in words} & set(EMOTIONS)
    return found.pop() if len(found) == 1 else None


def read_frames(path: Path) -> np.ndarray:
    """(T, H, W, 3) uint8 at 25 frames a second.

    Raises:
        UnscorableClip: it cannot be read, is too short, or not one picture size.
    """
    try:
        frames, size = [], 0
        for frame in read_video(path):
            frames.append(frame)
            size += frame.nbytes
            if size > LARGEST_CLIP:
                limit = f"{LARGEST_CLIP >> 30} GB decoded, the most that is scored"
                raise UnscorableClip(f"{path.name} is larger than {limit}; cut it or scale it down")
    except UserError as error:
        raise UnscorableClip(f"unreadable: {str(error).rstrip('.')}") from error
    if len(frames) < SHORTEST_CLIP:
        raise UnscorableClip(f"{path.name} has {len(frames)} frames; at least {SHORTEST_CLIP} are needed")
    return np.stack(frames)


def read_sound(*paths: Path) -> np.ndarray:
    """(N,) waveform at 16 kHz of the first of the videos, or of a .wav file beside it, that has sound.

    Raises:
        UnscorableClip: none has.
    """
    for path in paths:
        for candidate in (path, path.with_suffix(".wav")):
            try:
                return read_audio(candidate).waveform
            except UserError:
                continue
    raise UnscorableClip("no sound in the video or in a .wav file beside it")
