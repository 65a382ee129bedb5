"""Head motion, blinks and gaze over time: made up, taken from a video, or loaded from a file."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from torch import Tensor

from ..constants import FPS
from ..easing import smoothstep
from ..errors import UserError, shown
from ..media.files import one_line, whole_file
from .eye_movements import EyeMovements
from .numbers import AMOUNTS, check_number

EASE_IN = 0.8  # seconds until made-up motion is in full swing

# Natural motion: standard deviations in degrees of a slow drift and of quicker movements that go with the voice.
# A voice is at a third to half of its peak most of the time, so together they stay under 5, 3 and 2 degrees.
DRIFT = {"yaw": 3.4, "pitch": 1.7, "roll": 1.3}
SPEECH = {"yaw": 4.0, "pitch": 3.0, "roll": 1.8}
DRIFT_SECONDS, SPEECH_SECONDS = 0.9, 0.22  # sigma of the Gaussians that smooth them
REACH = 4.0  # where those Gaussians are cut off, in sigmas
SWAY = 0.008  # standard deviation of the shift, 1 pixel of the 256 frame
NOD = 3.0  # degrees that the head dips when the voice swells
SWELL_DELAY, ENVELOPE_DELAY = 0.2, 0.64  # seconds that smoothed loudness is late
POLES = 4  # of the filters that smooth it
HELD = 0.7  # of a turn of the head, what eyes that stay on the viewer make up for

# What counts as loud: the peak of the last while, for the voice to come is unknown
LOUD = 0.9  # of the peak
PEAK_HALVES = 20.0  # seconds in which a peak is half forgotten
FIRST_PEAK, LEAST_PEAK = 0.02, 0.003  # root mean squares, of full scale 1, before and without any voice

RATES = (1.0, 1000.0)  # frames a second that a motion may have
# The largest sizes of its values
REACHES = {"yaw": 360, "pitch": 360, "roll": 360, "translation": 100, "blink": 1, "gaze": 90}

TRACKS = ("yaw", "pitch", "roll", "translation", "blink", "gaze")
WIDTHS = {"translation": 3, "gaze": 2}  # of tracks of several numbers a frame


@dataclass
class HeadMotion:
    """The pose of the head in every frame, its blinks and its gaze.

    Attributes:
        yaw, pitch, roll: (F,) degrees. Positive yaw turns the nose to the picture's right, positive pitch lifts it,
            positive roll tilts the head clockwise; see `eat_hf.keypoints.rotation_from_degrees`.
        translation: (F, 3) in units of half the frame: x right, y down, z towards the viewer.
        relative: added to the portrait's own pose (True) or taken in its place (False).
        fps: frames a second, 1 to 1000.
        blink: (F,) how far the lids are closed, 0 (left to the expression) to 1 (shut); no blinks by default. It needs
            a model that knows shut eyes (`blink_deformation` in its configuration).
        gaze: (F, 2) degrees that the eyes are turned in the head, to the picture's right and up, from how they look in
            the portrait; 0 by default. It needs a model that knows turned eyes (`gaze_deformation`).
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor
    relative: bool = True
    fps: float = FPS
    blink: Tensor = field(default_factory=lambda: torch.zeros(0))
    gaze: Tensor = field(default_factory=lambda: torch.zeros(0, 2))

    def __post_init__(self):
        if not RATES[0] <= self.fps <= RATES[1]:
            raise UserError(f"fps must be a number from {RATES[0]:g} to {RATES[1]:g}, not {shown(self.fps)}.")
        frames = len(self.yaw)
        if not len(self.blink):
            self.blink = torch.zeros(frames)
        if not len(self.gaze):
            self.gaze = torch.zeros(frames, 2)
        for name in TRACKS:
            shape = (frames, WIDTHS[name]) if name in WIDTHS else (frames,)
            value = torch.as_tensor(getattr(self, name), dtype=torch.float32)
            if tuple(value.shape) != shape or frames == 0:
                raise ValueError(f"{name} must have shape {shape} with at least one frame, not {tuple(value.shape)}.")
            if not value.isfinite().all():
                raise ValueError(f"{name} contains NaN or infinite values.")
            if value.abs().max() > 1.001 * REACHES[name]:
                raise UserError(f"{name} must stay within {REACHES[name]} of 0, and reaches {value.abs().max():g}.")
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.yaw)

    @classmethod
    def still(cls, frames: int) -> "HeadMotion":
        """The portrait's own pose throughout."""
        yaw, pitch, roll = torch.zeros(3, frames)
        return cls(yaw, pitch, roll, torch.zeros(frames, 3))

    @classmethod
    def natural(
        cls,
        frames: int,
        energy: Tensor,
        generator: torch.Generator | None = None,
        amount: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
    ) -> "HeadMotion":
        """Motion of somebody talking: see `NaturalMotion`, of which this is all frames at once.

        Args:
            energy: (frames,) root mean square of every frame's samples, of full scale 1.
            generator: of the randomness; the same seed gives the same motion.
            amount, blinks, gaze: 0 to 2, how much the head moves, how often lids shut, how far eyes move.
        """
        if len(energy) != frames:
            raise ValueError(f"energy must be of {frames} frames, not {len(energy)}.")
        return NaturalMotion(generator, amount, blinks, gaze).push(energy)

    def scaled(self, amount: float = 1.0, blinks: float = 1.0, gaze: float = 1.0) -> "HeadMotion":
        """With so much of its movement, 0 to 2 each: of the head (from the portrait's own pose, or from the first
        frame's if it is not relative), of the lids and of the eyes.

        Raises:
            UserError: an amount is none.
        """
        check_amounts(amount, blinks, gaze)

        def scale(values: Tensor) -> Tensor:
            start = 0 if self.relative else values[:1]
            return start + amount * (values - start)

        moved: dict[str, Any] = {name: scale(getattr(self, name)) for name in ("yaw", "pitch", "roll", "translation")}
        return replace(self, **moved, blink=(blinks * self.blink).clamp(0, 1), gaze=gaze * self.gaze)

    def of(self, part: slice | Tensor) -> "HeadMotion":
        """That of some frames, one at least."""
        return self._map(lambda values: values[part])

    def followed_by(self, later: "HeadMotion") -> "HeadMotion":
        """This one and then another of the same kind."""
        both = {name: torch.cat([getattr(self, name), getattr(later, name)]) for name in TRACKS}
        return replace(self, **both)  # type: ignore[arg-type]

    def resampled(self, frames: int | None, fps: float = FPS) -> "HeadMotion":
        """`frames` frames at `fps`: interpolated to the rate, then played forwards and backwards as often as needed;
        None is once forwards and backwards, up to the frame that would be the first again."""
        length = max(1, round((len(self) - 1) / self.fps * fps) + 1)
        position = (torch.arange(length) * self.fps / fps).clamp(max=len(self) - 1)
        before = position.floor().long()
        after = (before + 1).clamp(max=len(self) - 1)
        share = position - before
        period = max(2 * (length - 1), 1)
        index = torch.arange(period if frames is None else frames) % period
        index = torch.where(index < length, index, period - index)

        def take(values: Tensor) -> Tensor:
            s = share.reshape(-1, *[1] * (values.dim() - 1))
            return torch.lerp(values[before], values[after], s)[index]

        return replace(self._map(take), fps=fps)

    def smoothed(self, seconds: float) -> "HeadMotion":
        """Without an estimator's tremble: a Gaussian of that sigma."""
        return self._map(lambda values: _smooth(values, seconds, self.fps))

    def relative_to_start(self) -> "HeadMotion":
        """The same movement from whatever pose the portrait has."""
        return replace(self._map(lambda v: v - v[:1]), relative=True, blink=self.blink, gaze=self.gaze)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "HeadMotion":
        tracks: dict[str, Any] = {name: function(getattr(self, name)) for name in TRACKS}
        return replace(self, **tracks)

    def save(self, path: str | os.PathLike) -> None:
        """Write a safetensors file.

        Raises:
            UserError: it cannot be written.
        """
        packed = self._map(lambda values: values.clone(memory_format=torch.contiguous_format))
        tensors = {name: getattr(packed, name) for name in TRACKS}
        metadata = {"format": "eat_hf head motion", "relative": str(self.relative), "fps": repr(float(self.fps))}
        with whole_file(path) as unfinished:
            try:
                save_file(tensors, unfinished, metadata)
            except SafetensorError as error:
                raise UserError(f"Cannot write {path} ({one_line(error)}).") from error

    @classmethod
    def load(cls, path: str | os.PathLike) -> "HeadMotion":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or something else.
        """
        if not Path(path).is_file():
            raise UserError(f"The head motion {path} does not exist.")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                added_since = {"gaze"} - set(file.keys())
                tracks = {name: file.get_tensor(name) for name in TRACKS if name not in added_since}
            return cls(**tracks, relative=metadata["relative"] == "True", fps=float(metadata["fps"]))
        except (SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path} is not a head motion saved by eat_hf ({error}).") from error


class NaturalMotion:
    """Motion of somebody talking, made as the voice comes in.

    A slow drift, livelier and nodding where the voice is loud; blinks; eyes that stay on the viewer while the head
    turns, with small saccades and now and then a glance aside. It starts from the portrait's own pose. Standard
    deviations of an amount of 1 are at most 5, 3 and 2 degrees.

    A frame's pose depends on the voice up to this frame alone. Pieces of any lengths give the same motion, and memory
    is constant however long it goes on.

    Args:
        generator: a seed is drawn from it, and nothing later.
        amount: how much the head moves, 0 to 2.
        blinks: how often lids shut, 0 to 2; 1 is every 2 to 5 seconds.
        gaze: how far eyes move, 0 to 2.

    Raises:
        UserError: an amount is none.
    """

    def __init__(
        self,
        generator: torch.Generator | None = None,
        amount: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
    ):
        check_amounts(amount, blinks, gaze)
        device = generator.device if generator is not None else "cpu"
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=device))
        head, eyes = np.random.default_rng(seed).spawn(2)
        self._amount, self._gaze = amount, gaze
        self._eyes = EyeMovements(eyes, blinks)
        self._drift = _SmoothNoise(6, DRIFT_SECONDS, *head.spawn(1))
        self._speech = _SmoothNoise(3, SPEECH_SECONDS, *head.spawn(1))
        self._swell, self._envelope = _Smoothing(SWELL_DELAY), _Smoothing(ENVELOPE_DELAY)
        self._frame = 0
        self._before, self._peak = 0.0, FIRST_PEAK

    def push(self, energy: Tensor) -> HeadMotion:
        """The motion of the next frames.

        Args:
            energy: (n,) of one frame at least: root mean square of its samples, of full scale 1.
        """
        loudness = self._loudness(torch.as_tensor(energy).double().cpu().numpy())
        frames = len(loudness)
        envelope = self._envelope(loudness)
        swell = self._swell(loudness) - envelope
        ease = smoothstep(((self._frame + np.arange(frames)) / FPS / EASE_IN).clip(0, 1))
        self._frame += frames
        drift, speech = self._drift(frames), self._speech(frames)
        tracks = {"translation": self._amount * ease[:, None] * SWAY * drift[:, 3:]}
        for n, name in enumerate(DRIFT):
            angle = DRIFT[name] * drift[:, n] + envelope * SPEECH[name] * speech[:, n]
            if name == "pitch":
                angle = angle - NOD * swell
            limit = 2.5 * (DRIFT[name] + SPEECH[name])  # no rare, odd extreme
            tracks[name] = self._amount * ease * limit * np.tanh(angle / limit)
        tracks["blink"], gaze = self._eyes.push(frames)
        held = HELD * np.stack([tracks["yaw"], tracks["pitch"]], 1)
        tracks["gaze"] = self._gaze * gaze - min(self._gaze, 1.0) * held
        return HeadMotion(**{name: torch.from_numpy(track) for name, track in tracks.items()})  # type: ignore[arg-type]

    def _loudness(self, energy: np.ndarray) -> np.ndarray:
        """0 to 1, of the peak of late; what is loud for a single frame, such as a click, is no peak."""
        found = np.empty(len(energy))
        for n, now in enumerate(energy):
            self._peak = max(LEAST_PEAK, min(now, self._before), self._peak * 0.5 ** (1 / (PEAK_HALVES * FPS)))
            self._before = now
            found[n] = min(1.0, now / (LOUD * self._peak))
        return found


class _Smoothing:
    """A filter without overshoot that looks back only."""

    def __init__(self, delay: float):
        """delay: in seconds, on average."""
        pole = delay * FPS / (delay * FPS + POLES)
        self._filter = [(1 - pole) ** POLES], np.poly([pole] * POLES)
        self._state = np.zeros(POLES)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        smooth, self._state = lfilter(*self._filter, values, zi=self._state)
        return smooth


class _SmoothNoise:
    """Gaussian noise of unit variance on some channels, smoothed by a Gaussian."""

    def __init__(self, channels: int, seconds: float, rng: np.random.Generator):
        """seconds: sigma."""
        sigma = seconds * FPS
        reach = int(REACH * sigma + 0.5)
        kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
        self._kernel, self._rng = kernel / np.sqrt(np.square(kernel).sum()), rng
        self._state = np.zeros((2 * reach, channels))
        self(2 * reach)  # what it starts from is noise, too

    def __call__(self, frames: int) -> np.ndarray:
        """(frames, channels)"""
        white = self._rng.standard_normal((frames, self._state.shape[1]))
        smooth, self._state = lfilter(self._kernel, 1.0, white, axis=0, zi=self._state)
        return smooth


def check_amounts(head_amount: float, blinks: float, gaze: float) -> None:
    """Raise a UserError for what is no amount of motion."""
    for value, name in ((head_amount, "head_amount"), (blinks, "blinks"), (gaze, "gaze")):
        check_number(value, name, AMOUNTS)


class GivenMotion:
    """A motion that is there already, played forwards and backwards for as long as the voice comes in."""

    def __init__(self, motion: HeadMotion):
        self._round, self._frame = motion.resampled(None), 0

    def push(self, energy: Tensor) -> HeadMotion:
        """The motion of the next frames, as many as `energy` has, (n,) of one at least; it looks at nothing else."""
        index = (self._frame + torch.arange(len(energy))) % len(self._round)
        self._frame = (self._frame + len(energy)) % len(self._round)
        return self._round.of(index)


def begin_motion(
    given: str | os.PathLike | HeadMotion,
    generator: torch.Generator | None,
    follow: Callable[[str], HeadMotion],
    amounts: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NaturalMotion | GivenMotion:
    """Head motion that is made, or played, as the voice comes in, whatever form it was given in.

    Args:
        given: "natural", "still", the path of a driving video or of a saved motion (.safetensors), or a motion.
        follow: reads the head motion of a driving video.
        amounts: of head motion, blinks and gaze, see `NaturalMotion`.
    """
    if isinstance(given, str) and given == "natural":
        return NaturalMotion(generator, *amounts)
    if isinstance(given, str) and given == "still":
        given = HeadMotion.still(1)
    if not isinstance(given, HeadMotion):
        path = os.fspath(given)
        given = HeadMotion.load(path) if path.endswith(".safetensors") else follow(path)
    return GivenMotion(given.scaled(*amounts))


def _smooth(values: Tensor, seconds: float, fps: float = FPS) -> Tensor:
    """Gaussian along the first axis of (F,) or (F, n), the ends repeated."""
    return torch.from_numpy(gaussian_filter1d(values.numpy(), seconds * fps, axis=0, mode="nearest", truncate=REACH))
