"""Which emotion shows how strongly in every frame: names, mixtures, timelines and intensity.

Everything the user can say becomes one row of weights a frame. A row sums to 1; the network's outputs for the single
emotions are mixed with it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..constants import NEUTRAL
from ..easing import smoothstep
from ..errors import UserError
from ..names import shortened

CROSS_FADE = 0.4  # seconds
MAX_INTENSITY = 1.5

Weights = Mapping[str, float]
Emotion = str | Weights | Sequence[tuple[float, "str | Weights"]]
Intensity = float | Sequence[tuple[float, float]]


@dataclass(frozen=True)
class EmotionTrack:
    """What is felt, and how strongly, over time.

    Attributes:
        keyframes: (seconds, weights that sum to 1), in order of time. Each fades in over 0.4 s from its time on; the
            first one counts from the very beginning if its time is 0, otherwise the face is neutral until then.
        intensity: (seconds, value), in order; linear in between, constant before the first and after the last.
    """

    keyframes: tuple[tuple[float, dict[str, float]], ...]
    intensity: tuple[tuple[float, float], ...]

    @classmethod
    def create(cls, emotion: Emotion, intensity: Intensity, emotions: Sequence[str]) -> "EmotionTrack":
        """Read what the pipeline is given.

        Args:
            emotion: a name; weights {name: weight}, whose proportions count (strength is the intensity's business);
                or a timeline [(seconds, name or weights), ...].
            intensity: 0 neutral, 1 as trained, up to 1.5; a number or a timeline [(seconds, value), ...].
            emotions: names the model knows.

        Raises:
            UserError: an unknown emotion, no positive weight, or a number that makes no sense.
        """
        if isinstance(emotion, str | Mapping):
            timeline: list[tuple[float, str | Weights]] = [(0.0, emotion)]
        else:
            timeline = _check_timeline(emotion, "emotion")
        keyframes = tuple((seconds, _normalised(value, emotions)) for seconds, value in timeline)
        steps = _check_timeline(intensity, "intensity") if isinstance(intensity, Sequence) else [(0.0, intensity)]
        track = cls(keyframes, tuple((seconds, _check_intensity(value)) for seconds, value in steps))
        if NEUTRAL not in emotions and (track.intensity != ((0.0, 1.0),) or keyframes[0][0] > 0):
            raise UserError(f"This model does not know {NEUTRAL!r}, so the intensity must be 1 from the start.")
        return track

    def weights(self, frames: int, emotions: Sequence[str], fps: float = 25) -> np.ndarray:
        """(frames, len(emotions)) float32, each row summing to 1; above intensity 1 neutral's weight is negative."""
        times = np.arange(frames) / fps
        start = self.keyframes[0]
        rows = np.tile(_vector(start[1] if start[0] <= 0 else {NEUTRAL: 1.0}, emotions), (frames, 1))
        for seconds, weights in self.keyframes[start[0] <= 0 :]:
            fade = smoothstep(((times - seconds) / CROSS_FADE).clip(0, 1))[:, None]
            rows = (1 - fade) * rows + fade * _vector(weights, emotions)
        moments, values = zip(*self.intensity, strict=True)
        strength = np.interp(times, moments, values)[:, None]
        if (strength != 1).any():
            rows = strength * rows + (1 - strength) * _vector({NEUTRAL: 1.0}, emotions)
        return rows.astype(np.float32)


def _vector(weights: Weights, emotions: Sequence[str]) -> np.ndarray:
    return np.array([weights.get(name, 0.0) for name in emotions])


def _normalised(value: str | Weights, emotions: Sequence[str]) -> dict[str, float]:
    if isinstance(value, str):
        value = {value: 1.0}
    if not isinstance(value, Mapping):
        raise UserError(f"An emotion is a name or a mapping of names to weights, not {shortened(value)}.")
    for name, weight in value.items():
        if name not in emotions:
            raise UserError(f"Unknown emotion {shortened(name)}; this model knows {', '.join(emotions)}.")
        if not (_is_number(weight) and weight >= 0):
            raise UserError(f"The weight of {name} must be a number from 0 up, not {shortened(weight)}.")
    total = sum(value.values())
    if total <= 0:
        raise UserError("At least one emotion needs a weight above 0.")
    if not math.isfinite(total):
        raise UserError("The weights are too large to add up; only their proportions count.")
    return {name: weight / total for name, weight in value.items()}


def _check_timeline(value: Any, what: str) -> list[tuple[float, Any]]:
    try:
        timeline = [(seconds, item) for seconds, item in value]
    except (TypeError, ValueError):
        raise UserError(f"A timeline of {what} is a list of (seconds, value) pairs, not {shortened(value)}.") from None
    if not timeline:
        raise UserError(f"The timeline of {what} is empty.")
    for seconds, _ in timeline:
        if not (_is_number(seconds) and seconds >= 0):
            raise UserError(
                f"A time in the timeline of {what} must be a number of seconds from 0 up, not {shortened(seconds)}."
            )
    times = [seconds for seconds, _ in timeline]
    if len(set(times)) < len(times):
        raise UserError(f"The timeline of {what} has two entries at the same time.")
    return sorted(timeline, key=lambda item: item[0])


def _check_intensity(value) -> float:
    if not (_is_number(value) and 0 <= value <= MAX_INTENSITY):
        raise UserError(f"The intensity must be between 0 and {MAX_INTENSITY}, not {shortened(value)}.")
    return float(value)


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


# Text, as typed on a command line ------------------------------------------------------------------------------------


def parse_emotion(text: str) -> str | dict[str, float]:
    """ "happy" -> "happy"; "happy=0.7,surprised=0.3" -> {"happy": 0.7, "surprised": 0.3}."""
    if "=" not in text:
        return text.strip()
    weights = {}
    for part in text.replace("+", ",").split(","):
        name, _, weight = part.partition("=")
        weights[name.strip()] = _number(weight, f"the weight of {shortened(name.strip())} in {shortened(text)}")
    return weights


def parse_timeline(text: str) -> list[tuple[float, str | dict[str, float]]]:
    """ "0:neutral,1.5:happy" -> [(0.0, "neutral"), (1.5, "happy")]. Mixtures are written 2:happy=0.7+surprised=0.3."""
    timeline = []
    for part in text.split(","):
        seconds, colon, emotion = part.partition(":")
        if not colon:
            raise UserError(f"A timeline is written like 0:neutral,1.5:happy; {shortened(part.strip())} has no colon.")
        timeline.append((_number(seconds, f"the time in {shortened(part.strip())}"), parse_emotion(emotion)))
    return timeline


def parse_intensity(text: str) -> float | list[tuple[float, float]]:
    """ "0.8" -> 0.8; "0:0,2:1.2" -> [(0.0, 0.0), (2.0, 1.2)]."""
    if ":" not in text:
        return _number(text, "the intensity")
    pairs = (part.partition(":") for part in text.split(","))
    return [
        (_number(s, f"the time in {shortened(text)}"), _number(v, f"the intensity in {shortened(text)}"))
        for s, _, v in pairs
    ]


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"Expected a number for {what}, not {shortened(text.strip())}.") from None
