"""Speech from text by espeak-ng, where the package espeakng-loader is installed: small, offline, plainly a machine.

espeak-ng is GPLv3, so it is never a requirement of this package. It keeps global state (noise generator, flutter and
wave phases run on from one utterance into the next), so each utterance is spoken by a freshly loaded copy of the
library, about 10 ms, which makes the same request give the same samples whatever was said before.
"""

import _ctypes
import ctypes
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

# constants and structures of espeak-ng's public header speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS, _INITIALIZE_PHONEME_IPA, _INITIALIZE_DONT_EXIT = 0x1, 0x2, 0x8000
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "pitch_range": 4}
_CHARS_UTF8 = 1
_EVENT_LIST_TERMINATED, _EVENT_PHONEME = 0, 7


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_speaking = threading.Lock()


@dataclass(frozen=True)
class Utterance:
    """Attributes:
    samples: (N,) int16; sampling_rate: Hz.
    phonemes: names in IPA, and the sample where each begins.
    """

    samples: np.ndarray
    sampling_rate: int
    phonemes: list[tuple[str, int]]


def is_installed() -> bool:
    return importlib.util.find_spec("espeakng_loader") is not None


def speak(text: str, voice: str, *, seed: int = 0, **parameters: float) -> Utterance:
    """Say a text.

    Args:
        voice: as espeak-ng calls it: an accent, "+" and a variant, such as "en-us+f2".
        seed: of its random numbers.
        parameters: rate in words a minute; volume in percent; pitch and pitch_range from 0 to 99. Default: espeak's.

    Raises:
        UserError: espeakng-loader is not installed, espeak-ng has no such voice, or there is nothing to say.
    """
    if not is_installed():
        raise UserError("Speaking needs espeak-ng: run `pip install espeakng-loader` and try again.")
    import espeakng_loader

    heard: list[np.ndarray] = []
    phonemes: list[tuple[str, int]] = []

    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while events[number].type != _EVENT_LIST_TERMINATED:
            if events[number].type == _EVENT_PHONEME:
                # the field holds 8 bytes at most and may cut a character: the broken end is dropped
                name = bytes(events[number].id.string).split(b"\0")[0].decode("utf8", "ignore")
                phonemes.append((name, events[number].sample))
            number += 1
        return 0

    callback = _Callback(collect)
    with _speaking:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            data = str(Path(espeakng_loader.get_data_path()).parent).encode()
            options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_PHONEME_IPA | _INITIALIZE_DONT_EXIT
            rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, options)
            if rate <= 0:
                raise RuntimeError("espeak-ng did not start; install espeakng-loader again.")
            library.espeak_SetSynthCallback(callback)
            if library.espeak_SetVoiceByName(voice.encode()):
                raise UserError(f"espeak-ng has no voice named {voice!r}.")
            if hasattr(library, "espeak_ng_SetRandSeed"):
                library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
            for name, value in parameters.items():
                library.espeak_SetParameter(_PARAMETERS[name], round(value), 0)
            encoded = text.replace("\0", " ").encode()
            library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, _CHARS_UTF8, None, None)
            library.espeak_Synchronize()
            library.espeak_Terminate()
        finally:
            # unloading forgets the global state, so the next utterance starts from the same point as this one
            getattr(_ctypes, "dlclose", getattr(_ctypes, "FreeLibrary", None))(library._handle)
    samples = np.concatenate(heard) if heard else np.zeros(0, np.int16)
    if not samples.any():
        raise UserError(f"There is nothing to say in {text!r}; type words.")
    return Utterance(samples, int(rate), phonemes)
