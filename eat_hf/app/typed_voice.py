"""Typed text, spoken by espeak-ng where the package espeakng-loader is installed: small, offline, plainly a machine.

espeak-ng is GPLv3, so it is never a requirement of this package.
"""

import ctypes
import importlib.util
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import UserError

VOICES = {"Woman": "en-us+f2", "Man": "en-us+m3"}
RATE_OF_SPEECH = 165  # words a minute

# speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS, _DONT_EXIT, _CHARS_UTF8, _PARAMETER_RATE = 2, 0x8000, 1, 1
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_speaking = threading.Lock()  # the library has one state for all


def is_installed() -> bool:
    return importlib.util.find_spec("espeakng_loader") is not None


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
    parts: list[np.ndarray] = []

    def collect(samples, count, events):
        if samples and count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _Callback(collect)
    with _speaking:
        library, rate = _library()
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(VOICES[voice].encode()):
            raise RuntimeError(f"espeak-ng has no voice {VOICES[voice]}.")
        library.espeak_SetParameter(_PARAMETER_RATE, RATE_OF_SPEECH, 0)
        spoken = text.replace("\0", " ").encode()
        library.espeak_Synth(spoken, ctypes.c_size_t(len(spoken) + 1), 0, 1, 0, _CHARS_UTF8, None, None)
        library.espeak_Synchronize()
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    if not samples.any():
        raise UserError("There is nothing to say in this text; type words.")
    return rate, samples


@lru_cache
def _library() -> tuple[ctypes.CDLL, int]:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = str(Path(espeakng_loader.get_data_path()).parent).encode()
    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, _DONT_EXIT)
    if rate <= 0:
        raise RuntimeError("espeak-ng did not start; install espeakng-loader again.")
    return library, rate
