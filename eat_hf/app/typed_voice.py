"""Typed text as a voice, in the voices that the page offers."""

import numpy as np

from ..errors import UserError
from ..media import espeak
from ..media.espeak import is_installed as is_installed

VOICES = {"Woman": "en-us+f2", "Man": "en-us+m3"}
RATE_OF_SPEECH = 165  # words a minute


def speak(text: str, voice: str = "Woman") -> tuple[int, np.ndarray]:
    """Say an English text.

    Returns:
        Sampling rate, (N,) int16 samples.

    Raises:
        UserError: there is nothing to say, or no such voice.
    """
    if not text.strip():
        raise UserError("Type what shall be said.")
    if voice not in VOICES:
        raise UserError(f"There is no voice {voice!r}, only {', '.join(VOICES)}.")
    spoken = espeak.speak(text, VOICES[voice], rate=RATE_OF_SPEECH)
    return spoken.sampling_rate, spoken.samples
