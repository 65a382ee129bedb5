"""Recordings of real people with their texts, aligned phone by phone.

pocketsphinx (the extra ``recordings``, BSD licence, carries its American English model and dictionary) finds when
which phone of a text is spoken, to 10 ms. Words that its dictionary lacks are pronounced as espeak-ng does.

A folder of recordings is one of LJ Speech, LibriTTS or Common Voice as they are unpacked, or any folder of sound files
with their texts: a file ``transcripts.csv`` (columns id or path, and text), or a ``NAME.txt`` beside ``NAME.wav``.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_opening, uniform_filter1d

from eat_hf.constants import SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.media.recordings import read_audio
from training.corpus.speech import synthesize
from training.corpus.visemes import SILENCE, from_arpabet, to_arpabet

__all__ = ["Aligner", "Reading", "find_readings"]

SOUND = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".opus")
HOP = SAMPLING_RATE // 100
# the aligner's windows are 25.6 ms long and begin every 10 ms: what it calls the start of a phone is later in the sound
SHIFT = 0.0128 - 0.005
# hundredths of a second around the voice: where it cannot be aligned in one place, it often can a little aside
MARGINS = (5, 8, 12, 20, 40)
MOST_SECONDS = 40.0  # of a sentence; longer ones are seldom what their text says
# lists of texts: name of the file, separator, whether it begins with names of columns
_LISTS = (("transcripts.csv", ",", True), ("metadata.csv", "|", False), ("validated.tsv", "\t", True))
_NAMED = {"id": ("id", "path", "file", "file_name"), "text": ("normalized_text", "text", "sentence", "transcript")}


@dataclass(frozen=True)
class Reading:
    """A sentence that somebody read: the sound file, what is said, and a name of the reader."""

    path: Path
    text: str
    reader: str


def find_readings(folder: str | Path) -> list[Reading]:
    """The readings of a folder, in the order of their paths.

    Raises UserError if it is no folder, or none of its sound files has a text.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder of recordings {folder}.")
    found = list(_listed(folder)) or list(_beside(folder))
    if not found:
        raise UserError(
            f"{folder} has no recordings with texts: put a transcripts.csv (id,text) into it, or a NAME.txt beside "
            "every NAME.wav."
        )
    return sorted(found, key=lambda reading: reading.path)


def _listed(folder: Path) -> Iterator[Reading]:
    """Of LJ Speech and Common Voice, whose texts are in one list."""
    sounds = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SOUND}
    for name, separator, named in _LISTS:
        if not (folder / name).is_file():
            continue
        quoting: Any = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
        with (folder / name).open(encoding="utf8", newline="") as file:
            rows = csv.reader(file, delimiter=separator, quoting=quoting)
            columns = [each.strip().lower() for each in next(rows, [])] if named else []
            places = [next((columns.index(n) for n in _NAMED[k] if n in columns), None) for k in ("id", "text")]
            readers = columns.index("client_id") if "client_id" in columns else None
            for row in rows:
                identity, text = (0, len(row) - 1) if not named else places
                if identity is None or text is None or len(row) <= max(identity, text):
                    continue
                path = sounds.get(Path(row[identity]).stem) or sounds.get(row[identity])
                if path and row[text].strip():
                    yield Reading(path, row[text], folder.name if readers is None else row[readers])


def _beside(folder: Path) -> Iterator[Reading]:
    """Of LibriTTS, READER/CHAPTER/NAME.wav with NAME.normalized.txt, and of folders with NAME.txt."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SOUND:
            continue
        for name in (f"{path.stem}.normalized.txt", f"{path.stem}.txt"):
            beside = path.with_name(name)
            if beside.is_file():
                parts = path.relative_to(folder).parts
                yield Reading(
                    path, beside.read_text(encoding="utf8").strip(), parts[0] if len(parts) > 1 else folder.name
                )
                break


class Aligner:
    """Finds the phones of recordings. Keeps its model in memory: make one a process.

    Raises:
        UserError: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise UserError(
                "Recordings are aligned by pocketsphinx: pip install 'eat_hf[recordings]', or leave --recordings out."
            ) from None
        # a silence between two words costs nothing
        self._decoder: Any = Decoder(lm=None, loglevel="FATAL", samprate=float(SAMPLING_RATE), silprob=1.0, cmn="batch")

    def words(self, text: str) -> list[str]:
        """The words of a text as the dictionary knows them; unknown ones are added to it."""
        found = []
        for word in re.findall(r"[\w']+", text.lower().replace("’", "'")):
            word = word.strip("'_")
            if word and self._decoder.lookup_word(word) is None:
                _, _, phonemes = synthesize(word, "en-us")
                phones = [phone for name, _, _ in phonemes for phone in to_arpabet(name)]
                word = word if phones else ""
                if word:
                    self._decoder.add_word(word, " ".join(phones))
            if word:
                found.append(word)
        return found

    def align(self, waveform: np.ndarray, text: str) -> list[tuple[str, float, float]] | None:
        """(N,) float32 at 16 kHz and what is said in it -> (IPA symbol, start s, end s) from 0 to its end, ``_`` for
        silence; None where the text cannot be found in the sound."""
        words, quiet = self.words(text), _quiet(waveform)
        if not words or quiet.all():
            return None
        first, last = np.flatnonzero(~quiet)[[0, -1]]
        for margin in MARGINS:
            begin, end = max(0, first - margin) * HOP, min(len(quiet), last + 1 + margin) * HOP
            phones = self._phones(waveform[begin:end], " ".join(words))
            if phones is not None:
                names = [SILENCE, *(from_arpabet(name) for name, _ in phones), SILENCE]
                starts = [begin / SAMPLING_RATE + start * 0.01 + SHIFT for _, start in phones]
                edges = np.array([0.0, *starts, end / SAMPLING_RATE, len(waveform) / SAMPLING_RATE])
                return _with_pauses(names, edges, quiet)
        return None

    def _phones(self, waveform: np.ndarray, words: str) -> list[tuple[str, int]] | None:
        """ARPAbet's name and the first hundredth of a second of every phone, or None."""
        samples = np.clip(np.round(waveform * 32767), -32768, 32767).astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(words)
            self._hear(samples)
            if self._decoder.hyp() is None:
                return None
            self._decoder.set_alignment()  # of the phones, inside the words that were found
            self._hear(samples)
            alignment = self._decoder.get_alignment()
        except RuntimeError:  # no way through the text fits the sound
            return None
        return alignment and [(phone.name, phone.start) for word in alignment for phone in word]

    def _hear(self, samples: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(samples, full_utt=True)
        self._decoder.end_utt()


def _quiet(waveform: np.ndarray) -> np.ndarray:
    """Which 10 ms of a recording are part of a pause: at least a tenth of a second far below the voice, in which no
    stop is held."""
    power = np.square(waveform[: len(waveform) // HOP * HOP], dtype=np.float64).reshape(-1, HOP).mean(1)
    level = 10 * np.log10(uniform_filter1d(power, 3) + 1e-12)
    if not len(level):
        return np.ones(0, bool)
    voice, floor = np.percentile(level, (95, 3))
    quiet = level < np.clip(floor + 6, voice - 40, voice - 22)
    return binary_opening(np.pad(quiet, 10, constant_values=True), np.ones(10))[10:-10]


def _with_pauses(names: list[str], edges: np.ndarray, quiet: np.ndarray) -> list[tuple[str, float, float]]:
    """Phones between edges (P + 1,), which the aligner stretches over pauses that it does not notice, without them."""
    places = (np.arange(len(quiet)) + 0.5) * HOP / SAMPLING_RATE
    phone = np.searchsorted(edges, places, "right") - 1
    symbols = [SILENCE if silent else names[min(p, len(names) - 1)] for p, silent in zip(phone, quiet, strict=True)]
    found: list[tuple[str, float, float]] = []
    for k, (symbol, own) in enumerate(zip(symbols, phone, strict=True)):
        same = k > 0 and symbol == symbols[k - 1] and (symbol == SILENCE or own == phone[k - 1])
        start, end = k * HOP / SAMPLING_RATE, (k + 1) * HOP / SAMPLING_RATE
        if same:
            found[-1] = (symbol, found[-1][1], end)
        else:
            found.append((symbol, start, end))
    if found:
        found[-1] = (*found[-1][:2], float(edges[-1]))
    return found


def read_aloud(reading: Reading, aligner: Aligner) -> tuple[np.ndarray, list[tuple[str, float, float]]] | None:
    """The sound of a reading (N,) at 16 kHz and its phones; None where it is too long or its text is not in it."""
    recording = read_audio(reading.path)
    if recording.seconds > MOST_SECONDS:
        return None
    waveform = recording.waveform
    phones = aligner.align(waveform, reading.text)
    return None if phones is None else (waveform, phones)
