"""English speech of flite's voices, which were made from recordings of people, with the times of its phones.

flite is a program of its own (Debian and Ubuntu: ``apt-get install flite``). The phones it prints are the ones whose
sound it joins or generates, so their times are exact.
"""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from eat_hf.constants import SAMPLING_RATE
from eat_hf.errors import UserError
from training.corpus.visemes import SILENCE, from_arpabet

__all__ = ["VOICES", "say"]

VOICES: dict[str, tuple[str, ...]] = {"train": ("slt", "awb"), "test": ("rms",)}
"""Voices by split: slt and rms are Americans, awb is a Scot. kal's sound does not last as long as its phones."""

LONGEST = 60  # seconds that flite may take to speak


def say(text: str, voice: str, stretch: float = 1.0) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Speak ``text``.

    Args:
        stretch: of durations, 1.3 is slow.

    Returns:
        (N,) float32 at 16 kHz, and (IPA symbol, start s, end s) from 0 to its end, ``_`` for silence.

    Raises:
        UserError: flite is not installed, or does not speak.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        settings = ["-voice", voice, "--setf", f"duration_stretch={stretch}", "-psdur"]
        command = ["flite", *settings, "-t", text, "-o", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=True)
        except FileNotFoundError:
            raise UserError(
                "flite is not installed: apt-get install flite, or leave its voices out (--flite_clips 0)."
            ) from None
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise UserError(f"flite could not say {text!r} with its voice {voice}: {error}.") from error
        samples, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLING_RATE:
        samples = soxr.resample(samples, rate, SAMPLING_RATE).astype(np.float32)
    phones, start = [], 0.0
    for entry in done.stdout.split():
        name, _, end = entry.partition(":")
        phones.append((from_arpabet(name), start, float(end)))
        start = float(end)
    if start < len(samples) / SAMPLING_RATE:
        phones.append((SILENCE, start, len(samples) / SAMPLING_RATE))
    return samples, phones
