"""From timed phonemes to mouth movement in ARKit units, with coarticulation, and to classes for the speech encoder.

Every phoneme is split into atoms (diphthongs into their two vowels) and every atom has a target mouth shape. A target
reaches beyond its own segment, forwards and backwards, with a strength that differs for jaw and lips, and the mouth at
a time is the mean of all targets weighted so: Cohen and Massaro's dominance functions (1993). Lip rounding, for
instance, is dominant in "oo" and almost absent in "k", so that the lips of "coo" are round before the k ends.

A mean never quite closes the lips, and p, b, m are read from the closure alone. Closures (and the contact of the
lower lip with the teeth in f, v) are therefore gates of their own, which override whatever else the mouth does.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np

from eat_hf.constants import FPS
from training.corpus.heads import ARKIT_INDEX, ARKIT_NAMES

__all__ = ["FPS", "LIP_SHAPES", "PHONEME_CLASSES", "SILENCE", "MouthMotion", "atoms", "class_of", "close_lips",
           "frame_classes", "frame_times", "from_arpabet", "mouth_motion", "shape_of_class", "to_arpabet",
           "viseme_of"]  # fmt: skip

SILENCE = "_"

# --- phonemes ---------------------------------------------------------------------------------------------------------
PHONEME_CLASSES: tuple[str, ...] = (
    "silence", "p b", "m", "f v", "θ ð", "t d ɾ", "n", "s z", "ʃ ʒ", "tʃ dʒ", "k ɡ x", "ŋ", "l", "ɹ", "w", "j", "h ʔ",
    "i", "ɪ", "e", "ɛ", "æ a", "ʌ ə", "ɜ", "ɑ ɒ", "ɔ", "o", "u ʊ", "blank",
)  # fmt: skip
"""The 29 classes of the speech encoder: 28 groups of phonemes, silence first, and last a spare one that none has."""

_CLASS = {symbol: index for index, group in enumerate(PHONEME_CLASSES[1:-1], start=1) for symbol in group.split()}
_CLASS[SILENCE] = 0
# Symbols that one accent or another uses for a sound that is already in the table.
_SAME = {
    "g": "ɡ",
    "r": "ɹ",
    "ɚ": "ɜ",
    "ɝ": "ɜ",
    "ɐ": "ʌ",
    "ʍ": "w",
    "ᵻ": "ɪ",
    "ɨ": "ɪ",
    "ʉ": "u",
    "ɫ": "l",
    "ɬ": "l",
    "ç": "h",
    "ɣ": "ɡ",
    "y": "i",
    "ø": "ɜ",
    "œ": "ɜ",
    "ɵ": "ə",
    "ɘ": "ə",
    "ɲ": "n",
    "c": "k",
}
# What dictionaries and other voices write, in the symbols above.
_ARPABET = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɜ", "ay": "aɪ", "b": "b", "ch": "tʃ",
    "d": "d", "dh": "ð", "dx": "ɾ", "eh": "ɛ", "el": "l", "em": "m", "en": "n", "er": "ɜ", "ey": "eɪ", "f": "f",
    "g": "ɡ", "hh": "h", "hv": "h", "ih": "ɪ", "ix": "ɪ", "iy": "i", "jh": "dʒ", "k": "k", "l": "l", "m": "m",
    "n": "n", "ng": "ŋ", "nx": "n", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t",
    "th": "θ", "uh": "ʊ", "uw": "u", "ux": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ", "pau": SILENCE,
    "sil": SILENCE, "h#": SILENCE, "+spn+": SILENCE, "+nsn+": SILENCE,
}  # fmt: skip
_AFFRICATES = ("tʃ", "dʒ")
# dictionaries have these thirty-nine alone, and no first half of a diphthong by itself
_IN_ARPABET = {
    _ARPABET[name]: name.upper()
    for name in "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
    .split()
}  # fmt: skip
_NEAREST = {"a": "æ", "ə": "ʌ", "ɒ": "ɑ", "e": "ɛ", "o": "ɔ", "ɾ": "d", "x": "k", "ʔ": "t"}
_VOWELS = set("iɪeɛæaʌəɜɑɒɔouʊ")


def atoms(phoneme: str) -> tuple[str, ...]:
    """The simple sounds in an espeak-ng phoneme: "ˈaɪ" -> ("a", "ɪ"), "ˈɔːɹ" -> ("ɔ", "ɹ"), "tʃ" -> ("tʃ",).

    Stress and length marks are dropped, accents' symbols replaced by the nearest of the table. Raises ValueError for
    a symbol that is no English sound.
    """
    if phoneme == "ʲ":  # a glide of its own in the Scottish voice
        return ("j",)
    text = "".join(c for c in phoneme if c not in "ˈˌːˑ:ʲ̃ʰˤʷ" and not unicodedata.combining(c)).strip()
    if text in ("", SILENCE):
        return (SILENCE,)
    found: list[str] = []
    i = 0
    while i < len(text):
        step = 2 if text[i : i + 2] in _AFFRICATES else 1
        symbol = _SAME.get(text[i : i + step], text[i : i + step])
        if symbol not in _CLASS:
            raise ValueError(f"no class for the phoneme {phoneme!r} (symbol {symbol!r})")
        if not found or found[-1] != symbol:
            found.append(symbol)
        i += step
    return tuple(found)


def from_arpabet(phone: str) -> str:
    """The IPA of a phone of ARPAbet, in any case, with or without a digit of stress: "AY1" -> "aɪ", "pau" -> "_".

    Raises ValueError for a name that is none.
    """
    name = phone.lower().rstrip("012")
    if name not in _ARPABET:
        raise ValueError(f"ARPAbet has no phone {phone!r}")
    return _ARPABET[name]


def to_arpabet(phoneme: str) -> list[str]:
    """The phones of ARPAbet of an espeak-ng phoneme, in capitals: "ˈaɪ" -> ["AY"], "ɔːɹ" -> ["AO", "R"], silence none.

    Raises ValueError for a symbol that is no English sound.
    """
    parts, phones = list(atoms(phoneme)), []
    while parts and parts != [SILENCE]:
        length = 2 if "".join(parts[:2]) in _IN_ARPABET else 1
        sound = "".join(parts[:length])
        phones.append(_IN_ARPABET[_NEAREST.get(sound, sound)])
        parts = parts[length:]
    return phones


def class_of(phoneme: str) -> int:
    """Class 0-27 of a phoneme; of a diphthong its first vowel's (``frame_classes`` gives both in turn)."""
    return _CLASS[atoms(phoneme)[0]]


@dataclass(frozen=True)
class _Atom:
    symbol: str
    start: float
    end: float
    stress: int  # 2 primary, 1 secondary, 0 none


def _expand(phonemes: list[str], times: np.ndarray) -> list[_Atom]:
    """Timed atoms; of two parts the first lasts 60 %, as the nucleus of a diphthong does."""
    found = []
    for phoneme, (start, end) in zip(phonemes, np.asarray(times, float), strict=True):
        parts = atoms(phoneme)
        shares = (0.6, 0.4) if len(parts) == 2 else (1 / len(parts),) * len(parts)
        edges = start + (end - start) * np.concatenate([[0.0], np.cumsum(shares)])
        stress = 2 if "ˈ" in phoneme else 1 if "ˌ" in phoneme else 0
        found += [_Atom(p, a, b, stress) for p, a, b in zip(parts, edges[:-1], edges[1:], strict=True)]
    return found


def frame_times(frames: int, rate: float = FPS) -> np.ndarray:
    """Instants of frames in seconds: frame k shows time k / rate, the centre of its window of audio features."""
    return np.arange(frames) / rate


def frame_classes(phonemes: list[str], times: np.ndarray, frames: int, rate: float = 50.0) -> np.ndarray:
    """Class (int64, 0-27) of the sound at each of ``frames`` instants, ``rate`` a second; silence outside the times."""
    classes = np.zeros(frames, np.int64)
    instants = frame_times(frames, rate)
    for atom in _expand(phonemes, times):
        classes[(instants >= atom.start) & (instants < atom.end)] = _CLASS[atom.symbol]
    return classes


LIP_SHAPES: tuple[str, ...] = ("silence", "closed", "lip to teeth", "rounded", "open", "spread", "other")
"""What of a class of phonemes is read from lips: p b m are closed, f v touch the teeth; sounds of the tongue that leave
the lips to their neighbours are "other"."""
_SHAPE_OF_CLASS = np.array([
    {"silence": 0, "p b": 1, "m": 1, "f v": 2, "w": 3, "ʃ ʒ": 3, "tʃ dʒ": 3, "ɹ": 3, "ɔ": 3, "o": 3, "u ʊ": 3, "ɜ": 3,
     "ɛ": 4, "æ a": 4, "ʌ ə": 4, "ɑ ɒ": 4, "i": 5, "ɪ": 5, "e": 5, "j": 5}.get(name, 6)
    for name in PHONEME_CLASSES
])  # fmt: skip


def shape_of_class(classes: np.ndarray) -> np.ndarray:
    """Indices into ``LIP_SHAPES`` of indices into ``PHONEME_CLASSES``."""
    return _SHAPE_OF_CLASS[classes]


# --- mouth shapes -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Viseme:
    """Target weights, and how strongly the sound insists on them: jaw height, and the shape of the lips."""

    jaw: float
    jaw_strength: float
    lips_strength: float
    lips: dict[str, float]  # ARKit units without side, see _SIDED
    tongue: float = 0.0  # how far its tip is raised, 1 at the ridge behind the upper teeth


# Opening 0.35-0.7 of jawOpen for open vowels; consonants made with the tongue leave the lips to their neighbours.
_VISEMES: dict[str, _Viseme] = {
    "rest": _Viseme(0.0, 1.0, 1.0, {}),
    "bilabial": _Viseme(0.06, 0.7, 0.05, {}),
    "labiodental": _Viseme(0.08, 1.0, 0.6, {"mouthUpperUp": 0.2}),
    "dental": _Viseme(0.19, 0.9, 0.35, {"mouthLowerDown": 0.25, "mouthUpperUp": 0.1, "tongueOut": 0.35}, tongue=1.0),
    "alveolar": _Viseme(0.13, 0.6, 0.2, {"mouthLowerDown": 0.18, "mouthUpperUp": 0.08}, tongue=1.0),
    "lateral": _Viseme(0.2, 0.6, 0.25, {"mouthLowerDown": 0.18, "mouthUpperUp": 0.08}, tongue=1.0),
    "sibilant": _Viseme(
        0.06, 1.0, 0.45, {"mouthStretch": 0.22, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2}, tongue=0.6
    ),
    "postalveolar": _Viseme(
        0.07, 1.0, 0.8, {"mouthFunnel": 0.6, "mouthPucker": 0.2, "mouthLowerDown": 0.2}, tongue=0.5
    ),
    "velar": _Viseme(0.17, 0.4, 0.12, {"mouthLowerDown": 0.1}),
    "glottal": _Viseme(0.22, 0.1, 0.03, {}),
    "rhotic": _Viseme(0.13, 0.5, 0.6, {"mouthFunnel": 0.3, "mouthPucker": 0.35}, tongue=0.35),
    "w": _Viseme(0.08, 0.8, 1.0, {"mouthPucker": 0.95, "mouthFunnel": 0.1}),
    "palatal": _Viseme(0.1, 0.5, 0.35, {"mouthStretch": 0.2, "mouthSmile": 0.1}),
    "i": _Viseme(
        0.14, 0.7, 0.6, {"mouthStretch": 0.35, "mouthSmile": 0.28, "mouthLowerDown": 0.3, "mouthUpperUp": 0.15}
    ),
    "ɪ": _Viseme(0.22, 0.6, 0.4, {"mouthStretch": 0.2, "mouthSmile": 0.1, "mouthLowerDown": 0.25, "mouthUpperUp": 0.1}),
    "e": _Viseme(0.3, 0.7, 0.5, {"mouthStretch": 0.3, "mouthSmile": 0.18, "mouthLowerDown": 0.3, "mouthUpperUp": 0.15}),
    "ɛ": _Viseme(0.38, 0.8, 0.45, {"mouthStretch": 0.25, "mouthLowerDown": 0.28, "mouthUpperUp": 0.15}),
    "æ": _Viseme(0.56, 1.0, 0.5, {"mouthStretch": 0.25, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2}),
    "ʌ": _Viseme(0.38, 0.7, 0.3, {"mouthLowerDown": 0.18, "mouthUpperUp": 0.05}),
    "ə": _Viseme(0.22, 0.4, 0.15, {"mouthLowerDown": 0.12}),
    "ɜ": _Viseme(0.26, 0.7, 0.5, {"mouthFunnel": 0.25, "mouthPucker": 0.15, "mouthLowerDown": 0.1}),
    "ɑ": _Viseme(0.66, 1.0, 0.4, {"mouthLowerDown": 0.15, "mouthFunnel": 0.08}),
    "ɔ": _Viseme(0.46, 0.9, 0.8, {"mouthFunnel": 0.5, "mouthPucker": 0.25}),
    "o": _Viseme(0.34, 0.8, 0.9, {"mouthFunnel": 0.45, "mouthPucker": 0.5}),
    "u": _Viseme(0.15, 0.8, 1.0, {"mouthPucker": 0.85, "mouthFunnel": 0.25}),
    "ʊ": _Viseme(0.24, 0.6, 0.7, {"mouthPucker": 0.5, "mouthFunnel": 0.2}),
}
_GROUPS = {
    "rest": "_", "bilabial": "pbm", "labiodental": "fv", "dental": "θð", "alveolar": "tdnɾ", "lateral": "l",
    "sibilant": "sz", "postalveolar": "ʃʒ", "velar": "kɡŋx", "glottal": "hʔ", "rhotic": "ɹ", "w": "w",
    "palatal": "j", "i": "i", "ɪ": "ɪ", "e": "e", "ɛ": "ɛ", "æ": "æa", "ʌ": "ʌ", "ə": "ə", "ɜ": "ɜ", "ɑ": "ɑɒ",
    "ɔ": "ɔ", "o": "o", "u": "u", "ʊ": "ʊ",
}  # fmt: skip
_VISEME_OF = {symbol: viseme for viseme, symbols in _GROUPS.items() for symbol in symbols}
_VISEME_OF |= {"tʃ": "postalveolar", "dʒ": "postalveolar"}

_SIDED = ("mouthLowerDown", "mouthUpperUp", "mouthStretch", "mouthSmile")
_ROUND = ("mouthPucker", "mouthFunnel")

# Time constants in seconds of a target's reach before its start and after its end. Lips anticipate further than the
# jaw (Perkell and Matthies 1992 measure up to a few hundred milliseconds for rounding).
_JAW_REACH = (0.045, 0.055)
_LIPS_REACH = (0.070, 0.055)
_ROUND_REACH = (0.110, 0.070)


def viseme_of(phoneme: str) -> str:
    """Name of the mouth shape of a phoneme (of a diphthong's first vowel)."""
    return _VISEME_OF[atoms(phoneme)[0]]


@dataclass
class MouthMotion:
    """Mouth of one clip without emotion. arkit (T, 52); closure (T,) in [0, 1], 1 where the lips must touch;
    contact (T,), the same for lower lip to upper teeth; activity (T,), 0 at rest and 1 while speaking; tongue (T,), how
    far its tip is raised."""

    arkit: np.ndarray
    closure: np.ndarray
    contact: np.ndarray
    activity: np.ndarray
    tongue: np.ndarray


def _reach(atom: _Atom, t: np.ndarray, before: float, after: float) -> np.ndarray:
    """Dominance over time: 1 inside the segment, falling exponentially outside."""
    distance = np.maximum(atom.start - t, 0) / before + np.maximum(t - atom.end, 0) / after
    return np.exp(-distance)


def _gate(atom: _Atom, t: np.ndarray, lead: float, shortest: float, ramp: float) -> np.ndarray:
    """1 during the contact, which starts ``lead`` before the sound and lasts at least ``shortest``; smooth ramps."""
    start, end = atom.start - lead, atom.end
    if end - start < shortest:
        middle = (start + end) / 2
        start, end = middle - shortest / 2, middle + shortest / 2
    outside = np.clip(np.maximum(start - t, t - end) / ramp, 0, 1)
    return 0.5 * (1 + np.cos(np.pi * outside))


def mouth_motion(phonemes: list[str], times: np.ndarray, energy: np.ndarray, strength: float = 1.0) -> MouthMotion:
    """Mouth shapes that go with timed phonemes.

    phonemes, times (P, 2) in seconds: as in ``Speech``; energy (T,) in [0, 1]: loudness per frame, which together
    with stress scales the opening; strength: how clearly the person articulates (0.7 mumbles, 1.3 declaims).
    Returns T = len(energy) frames.
    """
    t = frame_times(len(energy))
    sounds = _expand(phonemes, times)
    numerator = {unit: np.zeros(len(t)) for unit in ("jawOpen", "tongueOut", *_SIDED, *_ROUND)}
    total = {unit: np.full(len(t), 1e-6) for unit in numerator}  # at rest far from every sound
    closure, contact, activity, tongue = (np.zeros(len(t)) for _ in range(4))
    for atom in sounds:
        name = _VISEME_OF[atom.symbol]
        viseme = _VISEMES[name]
        scale = strength
        if atom.symbol in _VOWELS:
            loud = float(np.interp((atom.start + atom.end) / 2, t, energy))
            scale *= (0.82, 0.95, 1.08)[atom.stress] * (0.75 + 0.35 * loud)
            # A short vowel does not reach its target (undershoot, Lindblom 1963).
            scale *= 0.6 + 0.4 * min(1.0, (atom.end - atom.start) / 0.09)
        jaw = viseme.jaw_strength * _reach(atom, t, *_JAW_REACH)
        lips = viseme.lips_strength * _reach(atom, t, *_LIPS_REACH)
        rounding = viseme.lips_strength * _reach(atom, t, *_ROUND_REACH)
        for unit in numerator:
            weight = jaw if unit == "jawOpen" else rounding if unit in _ROUND else lips
            target = viseme.jaw if unit == "jawOpen" else viseme.lips.get(unit, 0.0)
            numerator[unit] += weight * target * scale
            total[unit] += weight
        if name == "bilabial":
            closure = np.maximum(closure, _gate(atom, t, lead=0.015, shortest=0.065, ramp=0.055))
        elif name == "labiodental":
            contact = np.maximum(contact, _gate(atom, t, lead=0.01, shortest=0.06, ramp=0.05))
        if viseme.tongue > 0:  # the tip is quick, and touches however short the sound
            tongue = np.maximum(tongue, viseme.tongue * _gate(atom, t, lead=0.015, shortest=0.06, ramp=0.06))
        if name != "rest":
            activity = np.maximum(activity, _gate(atom, t, lead=0.0, shortest=0.0, ramp=0.12))

    arkit = np.zeros((len(t), len(ARKIT_NAMES)), np.float32)
    for unit in numerator:
        # Nothing moves once the voice has been silent for a while: the tails of exponentials are cut by the activity.
        value = np.clip(numerator[unit] / total[unit], 0, 1) * activity
        for side in ("Left", "Right") if unit in _SIDED else ("",):
            arkit[:, ARKIT_INDEX[unit + side]] = value
    return MouthMotion(close_lips(arkit, closure, contact), closure, contact, activity, tongue)


_OPENING = [ARKIT_INDEX[n] for n in ("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
                                     "mouthUpperUpRight", "mouthFunnel", "tongueOut", "mouthShrugUpper")]  # fmt: skip


def close_lips(arkit: np.ndarray, closure: np.ndarray, contact: np.ndarray) -> np.ndarray:
    """Make the lips touch where ``closure`` (T,) is 1, and lower lip and teeth where ``contact`` (T,) is 1.

    Applied to the final weights (T, 52), emotion included: the closure is what makes p, b, m and f, v readable.
    """
    out = arkit.copy()
    jaw, i = ARKIT_INDEX["jawOpen"], ARKIT_INDEX
    out[:, _OPENING] *= (1 - closure)[:, None]
    out[:, jaw] *= 1 - 0.8 * closure
    # mouthClose undoes the parting of the lips by the same amount of jawOpen.
    out[:, i["mouthClose"]] = np.maximum(out[:, i["mouthClose"]], closure * out[:, jaw])
    for name, share in (("mouthPressLeft", 0.14), ("mouthPressRight", 0.14), ("mouthRollLower", 0.12),
                        ("mouthRollUpper", 0.1)):  # fmt: skip
        out[:, i[name]] = np.maximum(out[:, i[name]], share * closure)
    free = 1 - contact
    for name in ("mouthLowerDownLeft", "mouthLowerDownRight", "mouthFunnel", "mouthPucker"):
        out[:, i[name]] *= free if name != "mouthPucker" else 0.5 + 0.5 * free
    out[:, jaw] = np.where(contact > 0, out[:, jaw] * free + contact * np.minimum(out[:, jaw], 0.08), out[:, jaw])
    out[:, i["mouthRollLower"]] = np.maximum(out[:, i["mouthRollLower"]], 0.5 * contact)
    for name in ("mouthUpperUpLeft", "mouthUpperUpRight"):
        out[:, i[name]] = np.maximum(out[:, i[name]], 0.2 * contact * (1 - closure))
    return np.clip(out, 0, 1)
