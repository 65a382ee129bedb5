"""Where public data sets keep their clips: every layout as a list of videos with what their names say about them.

    mead        M003/video/front/angry/level_1/001.mp4, sound in M003/audio/angry/level_1/001.m4a; frontal camera only
    voxceleb2   dev/mp4/id00012/21Uxsk56VDQ/00001.mp4; sound in the video or in dev/aac/.../00001.m4a
    lrw         ABOUT/train/ABOUT_00001.mp4; nobody knows who speaks, so every clip is a person of its own
    crema-d     1001_DFA_ANG_XX.flv or .mp4; sound in the video or in AudioWAV/1001_DFA_ANG_XX.wav
    folder      any videos, listed in metadata.csv or metadata.jsonl with file, identity and, where known, emotion,
                level and split; sound in the video or in a .wav file beside it

Only the end of a path counts, so a data set may be given as a whole or in part. Where a data set is silent about an
emotion or its level, so is the clip (None): no emotion is not neutral.

Splits never share a person. MEAD has the paper's four test identities, LRW its own splits, VoxCeleb2 its own test
people. All others fall into test (8 %), validation (8 %) or train by a hash of the seed and their name, which knows
nothing of other people: more data never moves anybody to another split.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eat_hf.constants import EMOTIONS
from eat_hf.errors import UserError
from eat_hf.evaluation.clips import EMOTION_WORDS, VIDEO_SUFFIXES

SPLITS = ("train", "validation", "test")
MEAD_TEST = ("M003", "M030", "W009", "W015")
HELD_OUT = 0.08  # share of the people in test, and again in validation
TABLES = ("metadata.csv", "metadata.jsonl")
CREMA_LEVELS = {"LO": 1, "MD": 2, "HI": 3}
CREMA_SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}


@dataclass(frozen=True)
class SourceClip:
    """A video of a data set.

    Attributes:
        name: of the clip in the corpus.
        video: the file, an absolute path.
        sounds: files that may hold its sound, in the order they are tried; the video may be one of them.
        identity: who speaks.
        split: train, validation or test.
        emotion: one of the eight, None if nobody said.
        level: 1-3, 0 for neutral, None if nobody said.
        text: what is said, as far as the data set tells.
    """

    name: str
    video: Path
    sounds: tuple[Path, ...]
    identity: str
    split: str
    emotion: str | None = None
    level: int | None = None
    text: str = ""


def find_clips(folder: Path, layout: str, seed: int) -> tuple[list[SourceClip], int]:
    """The clips of a data set by name, and how many other videos lie in the folder.

    Raises:
        UserError: there is no such folder, nothing in it fits the layout, two videos are the same clip, or the table
            of layout "folder" has mistakes.
    """
    folder = folder.absolute()  # so that only the end of a path counts
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    if layout == "folder":
        clips, others = list(_read_table(folder, seed)), 0
    else:
        suffixes = (*VIDEO_SUFFIXES, ".flv")
        videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
        pattern, example, describe = LAYOUTS[layout]
        found = [(path, re.search(pattern, path.as_posix())) for path in videos]
        clips = [describe(path, match.groupdict(), seed) for path, match in found if match]
        others = len(videos) - len(clips)
        if not clips:
            raise UserError(f"None of the {len(videos)} videos in {folder} lies as in {layout}, {example}.")
    by_name: dict[str, SourceClip] = {}
    for clip in clips:
        other = by_name.setdefault(clip.name, clip)
        if other is not clip:
            raise UserError(f"{other.video} and {clip.video} are both clip {clip.name}; take one of them away.")
    return [by_name[name] for name in sorted(by_name)], others


def hashed_split(identity: str, seed: int) -> str:
    """The split of a person that no data set has put into one."""
    place = int.from_bytes(hashlib.sha256(f"{seed}/{identity}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < HELD_OUT else "validation" if place < 2 * HELD_OUT else "train"


# Data sets -----------------------------------------------------------------------------------------------------------


def _mead(path: Path, parts: dict[str, str], seed: int) -> SourceClip:
    identity, emotion, level, take = (parts[name] for name in ("identity", "emotion", "level", "take"))
    person = path.parents[4]
    sound = person / "audio" / emotion / f"level_{level}" / take
    hashed = hashed_split(identity, seed)
    return SourceClip(
        name=f"{identity}_{emotion}_{level}_{take}",
        video=path,
        sounds=(sound.with_suffix(".m4a"), sound.with_suffix(".wav"), path),
        identity=identity,
        split="test" if identity in MEAD_TEST else {"test": "train"}.get(hashed, hashed),
        emotion=emotion,
        level=0 if emotion == "neutral" else int(level),
    )


def _voxceleb2(path: Path, parts: dict[str, str], seed: int) -> SourceClip:
    identity, video, take = (parts[name] for name in ("identity", "video", "take"))
    part = path.parents[3]
    return SourceClip(
        name=f"{identity}_{video}_{take}",
        video=path,
        sounds=(path, part / "aac" / identity / video / f"{take}.m4a"),
        identity=identity,
        split="test" if parts["part"] == "test" else hashed_split(identity, seed),
    )


def _lrw(path: Path, parts: dict[str, str], seed: int) -> SourceClip:
    split = {"val": "validation"}.get(parts["split"], parts["split"])
    name = f"{split}_{path.stem}"  # numbers start again in every split
    return SourceClip(name, path, (path,), name, split, text=parts["word"].lower())


def _crema_d(path: Path, parts: dict[str, str], seed: int) -> SourceClip:
    emotion = EMOTION_WORDS.get(parts["emotion"].lower(), parts["emotion"].lower())
    return SourceClip(
        name=path.stem,
        video=path,
        sounds=(path, path.parents[1] / "AudioWAV" / f"{path.stem}.wav"),
        identity=parts["identity"],
        split=hashed_split(parts["identity"], seed),
        emotion=emotion,
        level=0 if emotion == "neutral" else CREMA_LEVELS.get(parts["level"]),
        text=CREMA_SENTENCES.get(parts["sentence"], ""),
    )


# layout: pattern of the end of a path, an example of it, and what it means
LAYOUTS: dict[str, tuple[str, str, Callable[[Path, dict[str, str], int], SourceClip]]] = {
    "mead": (
        rf"/(?P<identity>[MW]\d{{3}})/video/front/(?P<emotion>{'|'.join(EMOTIONS)})/level_(?P<level>[123])/"
        r"(?P<take>\d+)\.mp4$",
        "M003/video/front/angry/level_1/001.mp4",
        _mead,
    ),
    "voxceleb2": (
        r"/(?P<part>[^/]+)/mp4/(?P<identity>id\d+)/(?P<video>[^/]+)/(?P<take>\d+)\.mp4$",
        "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4",
        _voxceleb2,
    ),
    "lrw": (
        r"/(?P<word>[A-Z]+)/(?P<split>train|val|test)/(?P=word)_\d+\.mp4$",
        "ABOUT/train/ABOUT_00001.mp4",
        _lrw,
    ),
    "crema-d": (
        # one file of the data set ends in a single X
        r"/(?P<identity>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
        r"\.(mp4|flv)$",
        "1001_DFA_ANG_XX.flv",
        _crema_d,
    ),
}


# A folder with a table -----------------------------------------------------------------------------------------------


def _read_table(folder: Path, seed: int) -> Iterator[SourceClip]:
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(tables) != 1:
        found = "both" if tables else "neither"
        raise UserError(f"Layout folder needs metadata.csv or metadata.jsonl in {folder}; there is {found}.")
    rows = _read_rows(tables[0])
    if not rows:
        raise UserError(f"{tables[0]} lists no video.")
    splits: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        clip = _check_row(folder, row, f"{tables[0]}, entry {number}", seed)
        if splits.setdefault(clip.identity, clip.split) != clip.split:
            raise UserError(
                f"{tables[0]}, entry {number}: {clip.identity} is in {splits[clip.identity]} and in {clip.split}; "
                "splits must not share a person."
            )
        yield clip


def _read_rows(table: Path) -> list[dict[str, Any]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
        if table.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text)))
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise UserError(f"{table} cannot be read ({error}).") from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{table} needs one JSON object a line.")
    return rows


def _check_row(folder: Path, row: dict[str, Any], where: str, seed: int) -> SourceClip:
    file, identity, emotion, level, split = (
        "" if row.get(name) is None else str(row[name]).strip()
        for name in ("file", "identity", "emotion", "level", "split")
    )
    if not file or not identity:
        raise UserError(f"{where}: file and identity must be given; splits are made by identity.")
    if Path(file).is_absolute():
        raise UserError(f"{where}: give {file} as it is seen from {folder}.")
    video = folder / file
    known = EMOTION_WORDS.get(emotion.lower(), emotion.lower()) or None
    if known is not None and known not in EMOTIONS:
        raise UserError(f"{where}: {emotion!r} is none of {', '.join(EMOTIONS)}.")
    if level not in (("", "0") if known == "neutral" else ("", "1", "2", "3")):
        raise UserError(f"{where}: a level is 1, 2 or 3, and 0 for neutral alone, not {level!r}.")
    split = {"val": "validation"}.get(split, split)
    if split not in ("", *SPLITS):
        raise UserError(f"{where}: a split is one of {', '.join(SPLITS)}, not {split!r}.")
    return SourceClip(
        name=re.sub(r"[^\w.-]+", "_", Path(file).with_suffix("").as_posix()).strip("._"),
        video=video,
        sounds=(video, video.with_suffix(".wav")),
        identity=identity,
        split=split or hashed_split(identity, seed),
        emotion=known,
        level=0 if known == "neutral" else int(level) if known and level else None,
    )
