"""What a voice feels, of what a classifier hears: labels become emotions, and their probabilities a timeline."""

import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..constants import NEUTRAL, SAMPLING_RATE
from ..errors import InputWarning, UserError, shown
from .emotions import CROSS_FADE, MAX_POINTS

LABELS = {
    "angry": ("angry", "anger", "ang", "annoyed", "frustrated", "frustration", "fru", "hot_anger", "mad", "rage"),
    "contempt": ("contempt", "contemptuous", "con", "scornful"),
    "disgusted": ("disgusted", "disgust", "dis", "disgusting"),
    "fear": ("fear", "fearful", "fea", "afraid", "anxiety", "anxious", "scared", "terror"),
    "happy": ("happy", "happiness", "hap", "joy", "joyful", "excited", "excitement", "exc", "amused", "amusement",
              "laughter", "elated", "cheerful", "positive"),
    "neutral": ("neutral", "neu", "calm", "bored", "boredom", "no emotion", "none", "other", "others", "oth", "unknown",
                "unk", "relaxed"),
    "sad": ("sad", "sadness", "sorrow", "grief", "depressed", "disappointed", "disappointment"),
    "surprised": ("surprised", "surprise", "sur", "pleasant surprise", "pleasant surprised", "ps", "amazed"),
}  # fmt: skip
"""How models that hear emotions call them, by the emotion. Letters' case and all that is no letter say nothing."""

WINDOW, HOP = 2.0, 0.5  # seconds of sound that are classified at a time, and from one to the next
BELOW = 30.0  # decibels below the loudest window, where nobody speaks
FLOOR = 1e-4  # root mean square below which there is no voice at all
BELL = 1.0  # windows: deviation of the bell that smooths probabilities
SHORTEST = 1.5  # seconds that an emotion lasts, at least: windows are no finer
LEAST = 0.1  # weight of an emotion in a mixture


def label_emotions(
    labels: Sequence[str], emotions: Sequence[str], table: Mapping[str, str] | None = None
) -> list[str | None]:
    """The emotion that each label of a classifier means, of those that a model shows.

    A label that is none of them counts as neutral, with a warning; as nothing (None) where there is no neutral.

    Args:
        table: emotions by label, which come before those that are known by `LABELS`.

    Raises:
        UserError: the table names a label or an emotion that is not there, or no label but neutral is known.
    """
    table = dict(table or {})
    for label, emotion in table.items():
        if label not in labels:
            raise UserError(f"The model that hears emotions has no label {shown(label)}, only {_listed(labels)}.")
        if emotion not in emotions:
            raise UserError(f"Unknown emotion {shown(emotion)} of the label {shown(label)}; this model knows "
                            f"{', '.join(emotions)}.")  # fmt: skip
    known = {name: emotion for emotion, names in LABELS.items() if emotion in emotions for name in names}
    known |= {_letters(emotion): emotion for emotion in emotions}
    found = [table.get(label) or _known(label, known) for label in labels]
    if all(emotion in (None, NEUTRAL) for emotion in found):
        raise UserError(
            f"The labels of the model that hears emotions are {_listed(labels)}, of which none is known; say what they "
            "mean, as in voice_labels={'LABEL_0': 'happy'} (--voice-labels LABEL_0=happy)."
        )
    strange = [label for label, emotion in zip(labels, found, strict=True) if emotion is None]
    if strange:
        meaning = NEUTRAL if NEUTRAL in emotions else "nothing"
        warnings.warn(
            f"Labels of the model that hears emotions count as {meaning}: {_listed(strange)}. voice_labels "
            "(--voice-labels) may say what they mean.",
            InputWarning,
            2,
        )
    return [emotion or (NEUTRAL if NEUTRAL in emotions else None) for emotion in found]


def _known(label: str, known: Mapping[str, str]) -> str | None:
    """By the whole label, or by the only emotion that one of its words means, as in female_happy."""
    whole = _letters(label)
    if whole in known:
        return known[whole]
    words = {known[word] for word in whole.split() if word in known}
    return words.pop() if len(words) == 1 else None


def _letters(label: str) -> str:
    return " ".join(re.findall(r"[^\W\d_]+", label.lower()))


def _listed(labels: Sequence[str]) -> str:
    few = ", ".join(map(shown, labels[:20]))
    return few if len(labels) <= 20 else f"{few} and {len(labels) - 20} more"


def parse_labels(text: str) -> dict[str, str]:
    """ "LABEL_0=happy,LABEL_1=sad" -> {"LABEL_0": "happy", "LABEL_1": "sad"}.

    Raises:
        UserError: it is not written so.
    """
    table = {}
    for part in text.split(","):
        label, equals, emotion = (piece.strip() for piece in part.rpartition("="))
        if not label or not emotion:
            raise UserError(f"Labels are written like hap=happy,neu=neutral, not {shown(text.strip())}.")
        if label in table:
            raise UserError(f"The label {shown(label)} stands twice in {shown(text.strip())}.")
        table[label] = emotion
    return table


def window_starts(samples: int) -> np.ndarray:
    """First samples of windows that are heard one by one, of sound of a length; none reaches past its end."""
    last = max(0, samples - round(WINDOW * SAMPLING_RATE))
    return np.linspace(0, last, 1 + -(-last // round(HOP * SAMPLING_RATE))).round().astype(int)


def heard_windows(waveform: np.ndarray) -> np.ndarray:
    """Whether there is a voice in each of the windows: (windows,) of (N,) samples at 16 kHz."""
    size = round(WINDOW * SAMPLING_RATE)
    power = np.array([np.mean(waveform[start : start + size] ** 2) for start in window_starts(len(waveform))])
    return power > max(power.max() * 10 ** (-BELOW / 10), FLOOR**2)


def emotion_timeline(
    probabilities: np.ndarray, heard: np.ndarray, samples: int, meanings: Sequence[str | None]
) -> list[tuple[float, dict[str, float]]]:
    """A timeline of emotions, as `EATPipeline` takes it: one mixture for as long as the same emotion is the strongest.

    Args:
        probabilities: (windows, labels), what a classifier says of the windows that `window_starts` gives.
        heard: (windows,), those with a voice in them. What it says of the others does not count.
        samples: of the sound, at 16 kHz.
        meanings: the emotion of each label; None does not count.

    Returns:
        (seconds, weights that sum to about 1), the first at 0; up to 1,000 of them, neutral if nobody is heard.
    """
    names = sorted({name for name in meanings if name is not None})
    if not heard.any() or not names:
        return [(0.0, {NEUTRAL: 1.0})]
    share = np.stack([probabilities[:, [m == name for m in meanings]].sum(1) for name in names], 1)
    share /= np.maximum(share.sum(1, keepdims=True), 1e-9)
    # where nobody speaks, the feeling is what it was and what it will be
    places, there = np.arange(len(share)), np.flatnonzero(heard)
    share = np.stack([np.interp(places, there, track[there]) for track in share.T], 1)
    share = gaussian_filter1d(share, BELL, 0, mode="nearest")
    centres = (window_starts(samples) + min(samples, WINDOW * SAMPLING_RATE) / 2) / SAMPLING_RATE
    timeline = []
    for first, last in _stretches(share):
        start = (centres[first - 1] + centres[first] - CROSS_FADE) / 2 if first else 0.0
        timeline.append((round(float(start), 2), _mixture(share[first:last].mean(0), names)))
    return timeline


def _stretches(share: np.ndarray) -> list[tuple[int, int]]:
    """(first, last + 1) of windows in which the same emotion is the strongest, none too short, and not too many: the
    shortest joins what comes before it, or after."""
    edges = np.arange(len(share) + 1)
    while True:
        strongest = np.add.reduceat(share, edges[:-1]).argmax(1)
        edges = edges[np.concatenate([[True], strongest[1:] != strongest[:-1], [True]])]
        lengths = np.diff(edges)
        least = int(lengths.argmin())
        if len(lengths) == 1 or (lengths[least] * HOP >= SHORTEST and len(lengths) <= MAX_POINTS):
            return [(int(first), int(last)) for first, last in zip(edges[:-1], edges[1:], strict=True)]
        edges = np.delete(edges, least or 1)


def _mixture(share: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """The emotions that count, the strongest first, in hundredths."""
    kept = {names[k]: share[k] for k in np.argsort(-share) if share[k] >= LEAST}
    total = sum(kept.values())
    return {name: round(float(weight / total), 2) for name, weight in kept.items()}
