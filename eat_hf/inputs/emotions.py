"""Which emotion shows how strongly in every frame: names, mixtures, timelines and intensity.

Everything the user can say becomes one row of weights a frame. A row sums to 1; the network's outputs for the single
emotions are mixed with it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..constants import NEUTRAL, VOICE
from ..easing import smoothstep
from ..errors import UserError, shown

CROSS_FADE = 0.4  # seconds
MAX_INTENSITY = 1.5
MAX_WEIGHT = 1000.0  # of an emotion in a mixture; percentages and parts of 255 fit
MAX_SECONDS = 86400.0  # of a time in a timeline: a day
MAX_POINTS = 1000  # of a timeline; each costs a pass over all frames

Weights = Mapping[str, float]
Emotion = str | Weights | Sequence[tuple[float, "str | Weights"]]
Intensity = float | str | Sequence[tuple[float, float]]  # a text is VOICE


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
    def create(cls, emotion: Emotion, intensity: Intensity, emotions: Sequence[str] | None = None) -> "EmotionTrack":
        """Read what the pipeline is given.

        Args:
            emotion: a name; weights {name: weight}, from 0 to 1000, whose proportions count (strength is the
                intensity's business); or a timeline [(seconds, name or weights), ...] of up to 1000 entries in a day.
            intensity: 0 neutral, 1 as trained, up to 1.5; a number or a timeline [(seconds, value), ...].
            emotions: names the model knows; None while nobody knows them, and any will do.

        Raises:
            UserError: an unknown emotion, no positive weight, or a number that makes no sense.
        """
        if isinstance(emotion, str | Mapping):
            timeline: list[tuple[float, str | Weights]] = [(0.0, emotion)]
        else:
            timeline = _check_timeline(emotion, "emotion")
        keyframes = tuple((seconds, _normalised(value, emotions)) for seconds, value in timeline)
        over_time = isinstance(intensity, Sequence) and not isinstance(intensity, str)
        steps = _check_timeline(intensity, "intensity") if over_time else [(0.0, intensity)]
        track = cls(keyframes, tuple((seconds, _check_intensity(value)) for seconds, value in steps))
        return track._checked(emotions)

    @classmethod
    def check(cls, emotion: Emotion, intensity: Intensity, emotions: Sequence[str] | None = None) -> None:
        """Look at what the pipeline is given before the voice is heard, which either may follow; as `create`."""
        known = None if is_voice(emotion) else emotions
        cls.create([(0.0, NEUTRAL)] if is_voice(emotion) else emotion, 1.0 if is_voice(intensity) else intensity, known)

    def _checked(self, emotions: Sequence[str] | None) -> "EmotionTrack":
        at_once = all(value == 1 for _, value in self.intensity) and self.keyframes[0][0] <= 0
        if emotions is not None and NEUTRAL not in emotions and not at_once:
            raise UserError(f"This model does not know {NEUTRAL!r}, so the intensity must be 1 from the start.")
        return self

    def changed(
        self,
        seconds: float,
        emotion: str | Weights | None = None,
        intensity: float | None = None,
        emotions: Sequence[str] | None = None,
    ) -> "EmotionTrack":
        """The same until a moment, from which on another emotion or intensity fades in and stays.

        Args:
            seconds: the moment. At 0 they count from the very beginning.
            emotion, intensity: as for `create`, but no timelines; None goes on as it would.

        Raises:
            UserError: as of `create`.
        """
        keyframes, strength = self.keyframes, self.intensity
        if emotion is not None:
            before = (entry for entry in keyframes if entry[0] < seconds)
            keyframes = (*before, (max(seconds, 0.0), _normalised(emotion, emotions)))
        if intensity is not None:
            value = _check_intensity(intensity)
            moments, values = zip(*strength, strict=True)
            now = float(np.interp(seconds, moments, values))
            earlier = (entry for entry in strength if entry[0] < seconds)
            fade = (seconds, now), (seconds + CROSS_FADE, value)
            strength = (*earlier, *fade) if seconds > 0 else ((0.0, value),)
        return EmotionTrack(keyframes, strength)._checked(emotions)

    def since(self, seconds: float) -> "EmotionTrack":
        """The same from a moment on, without what no longer shows then."""
        faded = [number for number, (start, _) in enumerate(self.keyframes) if start + 2 * CROSS_FADE <= seconds]
        passed = [number for number, (start, _) in enumerate(self.intensity) if start <= seconds]
        keyframes = self.keyframes
        if faded:
            keyframes = ((0.0, keyframes[faded[-1]][1]), *keyframes[faded[-1] + 1 :])
        return EmotionTrack(keyframes, self.intensity[passed[-1] if passed else 0 :])

    @property
    def names(self) -> set[str]:
        """Of the emotions in it."""
        return {name for _, weights in self.keyframes for name in weights}

    def weights(self, frames: int, emotions: Sequence[str], fps: float = 25, start: int = 0) -> np.ndarray:
        """Of `frames` frames from the one of number `start` on: (frames, len(emotions)) float32, each row summing to 1;
        above intensity 1 neutral's weight is negative."""
        times = np.arange(start, start + frames) / fps
        first = self.keyframes[0]
        rows = np.tile(_vector(first[1] if first[0] <= 0 else {NEUTRAL: 1.0}, emotions), (frames, 1))
        for seconds, weights in self.keyframes[first[0] <= 0 :]:
            fade = smoothstep(((times - seconds) / CROSS_FADE).clip(0, 1))[:, None]
            rows = (1 - fade) * rows + fade * _vector(weights, emotions)
        moments, values = zip(*self.intensity, strict=True)
        strength = np.interp(times, moments, values)[:, None]
        if (strength != 1).any():
            rows = strength * rows + (1 - strength) * _vector({NEUTRAL: 1.0}, emotions)
        return rows.astype(np.float32)


def is_voice(value: Any) -> bool:
    """Whether an emotion or an intensity is the voice's own."""
    return isinstance(value, str) and value == VOICE


def _vector(weights: Weights, emotions: Sequence[str]) -> np.ndarray:
    return np.array([weights.get(name, 0.0) for name in emotions])


def _normalised(value: str | Weights, emotions: Sequence[str] | None) -> dict[str, float]:
    if isinstance(value, str):
        value = {value: 1.0}
    if not isinstance(value, Mapping):
        raise UserError(f"An emotion is a name or a mapping of names to weights, not {shown(value)}.")
    for name, weight in value.items():
        if emotions is not None and name not in emotions:
            raise UserError(f"Unknown emotion {shown(name)}; this model knows {', '.join(emotions)}.")
        if not (_is_number(weight) and 0 <= weight <= MAX_WEIGHT):
            raise UserError(f"The weight of {name} must be a number from 0 to {MAX_WEIGHT:g}, not {shown(weight)}.")
    total = sum(value.values())
    if total <= 0:
        raise UserError("At least one emotion needs a weight above 0.")
    if not math.isfinite(total):
        raise UserError("The weights are too large to add up; only their proportions count.")
    return {name: weight / total for name, weight in value.items()}


def _check_timeline(value: Any, what: str) -> list[tuple[float, Any]]:
    try:
        timeline = [(seconds, item) for seconds, item in islice(value, MAX_POINTS + 1)]
    except (TypeError, ValueError):
        raise UserError(f"A timeline of {what} is a list of (seconds, value) pairs, not {shown(value)}.") from None
    if len(timeline) > MAX_POINTS:
        raise UserError(f"The timeline of {what} has more than {MAX_POINTS} entries, which are the most.")
    if not timeline:
        raise UserError(f"The timeline of {what} is empty.")
    for seconds, _ in timeline:
        if not (_is_number(seconds) and 0 <= seconds <= MAX_SECONDS):
            raise UserError(
                f"A time in the timeline of {what} must be a number of seconds from 0 up to "
                f"{MAX_SECONDS:g}, not {shown(seconds)}."
            )
    times = [seconds for seconds, _ in timeline]
    if len(set(times)) < len(times):
        raise UserError(f"The timeline of {what} has two entries at the same time.")
    return sorted(timeline, key=lambda item: item[0])


def _check_intensity(value) -> float:
    if not (_is_number(value) and 0 <= value <= MAX_INTENSITY):
        raise UserError(f"The intensity must be between 0 and {MAX_INTENSITY}, or {VOICE!r}, not {shown(value)}.")
    return float(value)


def _is_number(value) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


# Text, as typed on a command line, and written for one ---------------------------------------------------------------


def parse_emotion(text: str) -> str | dict[str, float]:
    """ "happy" -> "happy"; "happy=0.7,surprised=0.3" -> {"happy": 0.7, "surprised": 0.3}."""
    if "=" not in text:
        if not text.strip():
            raise UserError("An emotion is a name, or a mixture like happy=0.7,surprised=0.3; none was given.")
        return text.strip()
    weights: dict[str, float] = {}
    for part in text.replace("+", ",").split(","):
        name, equals, weight = (piece.strip() for piece in part.partition("="))
        if not name or not equals:
            raise UserError(f"A mixture is written like happy=0.7,surprised=0.3, not {shown(text.strip())}.")
        if name in weights:
            raise UserError(f"The emotion {shown(name)} stands twice in {shown(text.strip())}.")
        weights[name] = _number(weight, f"the weight of {shown(name)}")
    return weights


def parse_timeline(text: str) -> list[tuple[float, str | dict[str, float]]]:
    """ "0:neutral,1.5:happy" -> [(0.0, "neutral"), (1.5, "happy")]. Mixtures are written 2:happy=0.7+surprised=0.3."""
    timeline = []
    for part in _parts(text, "emotion"):
        seconds, colon, emotion = part.partition(":")
        if not colon:
            raise UserError(f"A timeline is written like 0:neutral,1.5:happy; {shown(part.strip())} has no colon.")
        timeline.append((_number(seconds, f"the time in {shown(part.strip())}"), parse_emotion(emotion)))
    return timeline


def parse_intensity(text: str) -> float | str | list[tuple[float, float]]:
    """ "0.8" -> 0.8; "0:0,2:1.2" -> [(0.0, 0.0), (2.0, 1.2)]; "voice" -> "voice"."""
    if text.strip() == VOICE:
        return VOICE
    if ":" not in text:
        return _number(text, "the intensity")
    timeline = []
    for part in _parts(text, "intensity"):
        seconds, _, value = part.partition(":")
        where = f"in {shown(part.strip())}"
        timeline.append((_number(seconds, f"the time {where}"), _number(value, f"the intensity {where}")))
    return timeline


def write_timeline(timeline: Sequence[tuple[float, str | Weights]]) -> str:
    """What `parse_timeline` reads."""
    return ", ".join(f"{seconds:g}:{_written(emotion)}" for seconds, emotion in timeline)


def _written(emotion: str | Weights) -> str:
    if isinstance(emotion, str):
        return emotion
    if len(emotion) == 1:
        return next(iter(emotion))
    return "+".join(f"{name}={weight:g}" for name, weight in emotion.items())


def write_intensity(timeline: Sequence[tuple[float, float]]) -> str:
    """What `parse_intensity` reads."""
    return ", ".join(f"{seconds:g}:{value:g}" for seconds, value in timeline)


def _parts(text: str, what: str) -> list[str]:
    parts = text.split(",")
    if len(parts) > MAX_POINTS:
        raise UserError(f"The timeline of {what} has more than {MAX_POINTS} entries, which are the most.")
    return parts


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"Expected a number for {what}, not {shown(text.strip())}.") from None
