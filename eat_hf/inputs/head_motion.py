"""Head motion and blinks over time: made up, taken from a video, or loaded from a file."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from ..constants import FPS
from ..easing import smoothstep
from ..errors import UserError, shown
from ..media.files import one_line, whole_file

EASE_IN = 0.8  # seconds until made-up motion is in full swing

# Natural motion: standard deviations in degrees of a slow drift and of quicker movements that go with the voice.
# A voice is at a third to half of its peak most of the time, so together they stay under 5, 3 and 2 degrees.
DRIFT = {"yaw": 3.4, "pitch": 1.7, "roll": 1.3}
SPEECH = {"yaw": 4.0, "pitch": 3.0, "roll": 1.8}
NOD = 3.0  # degrees that the head dips when the voice swells
DRIFT_SECONDS, SPEECH_SECONDS, NOD_SECONDS = 0.9, 0.22, 0.16  # sigma of the Gaussians that smooth them
REACH = 4.0  # where those Gaussians are cut off, in sigmas
SWAY = 0.008  # standard deviation of the shift, 1 pixel of the 256 frame

BLINK_PAUSE = (2.0, 5.0)  # seconds from one blink to the next
LIDS_CLOSE, LIDS_OPEN = 0.09, 0.16  # seconds that lids take

RATES = (1.0, 1000.0)  # frames a second that a motion may have
REACHES = {"yaw": 360, "pitch": 360, "roll": 360, "translation": 100, "blink": 1}  # the largest sizes of its values

TRACKS = ("yaw", "pitch", "roll", "translation", "blink")


@dataclass
class HeadMotion:
    """The pose of the head in every frame, and its blinks.

    Attributes:
        yaw, pitch, roll: (F,) degrees. Positive yaw turns the nose to the picture's right, positive pitch lifts it,
            positive roll tilts the head clockwise; see `eat_hf.keypoints.rotation_from_degrees`.
        translation: (F, 3) in units of half the frame: x right, y down, z towards the viewer.
        relative: added to the portrait's own pose (True) or taken in its place (False).
        fps: frames a second, 1 to 1000.
        blink: (F,) how far the lids are closed, 0 (left to the expression) to 1 (shut); no blinks by default. It needs
            a model that knows shut eyes (`blink_deformation` in its configuration).
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor
    relative: bool = True
    fps: float = FPS
    blink: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self):
        if not RATES[0] <= self.fps <= RATES[1]:
            raise UserError(f"fps must be a number from {RATES[0]:g} to {RATES[1]:g}, not {shown(self.fps)}.")
        frames = len(self.yaw)
        if not len(self.blink):
            self.blink = torch.zeros(frames)
        shapes = {name: (frames, 3) if name == "translation" else (frames,) for name in TRACKS}
        for name, shape in shapes.items():
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
    def natural(cls, frames: int, energy: Tensor, generator: torch.Generator | None = None) -> "HeadMotion":
        """Motion of somebody talking: a slow drift, livelier and nodding where the voice is loud; and blinks.

        It starts from the portrait's own pose. Standard deviations are at most 5, 3 and 2 degrees.

        Args:
            energy: (F,) loudness of every frame, in any unit.
            generator: of the randomness; the same seed gives the same motion.
        """
        energy = torch.as_tensor(energy, dtype=torch.float32)
        loudest = energy.quantile(0.95) if frames else energy.new_zeros(())
        loudness = (energy / loudest.clamp_min(1e-4)).clamp(0, 1)
        envelope = _smooth(loudness, 4 * NOD_SECONDS)
        swell = _smooth(loudness, NOD_SECONDS) - envelope
        ease = smoothstep((torch.arange(frames) / FPS / EASE_IN).clamp(0, 1))

        def noise(deviation: float, seconds: float) -> Tensor:
            return deviation * _smooth_noise(frames, seconds, generator)

        angles = {}
        for name in ("yaw", "pitch", "roll"):
            angles[name] = noise(DRIFT[name], DRIFT_SECONDS) + envelope * noise(SPEECH[name], SPEECH_SECONDS)
        angles["pitch"] = angles["pitch"] - NOD * swell
        translation = torch.stack([noise(SWAY, DRIFT_SECONDS) for _ in range(3)], 1)
        for name, angle in angles.items():
            limit = 2.5 * (DRIFT[name] + SPEECH[name])  # no rare, odd extreme
            angles[name] = ease * limit * (angle / limit).tanh()
        blink = _blinks(frames, generator)
        return cls(angles["yaw"], angles["pitch"], angles["roll"], ease[:, None] * translation, blink=blink)

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
        return replace(self._map(lambda values: values - values[:1]), relative=True, blink=self.blink)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "HeadMotion":
        yaw, pitch, roll, translation, blink = (function(getattr(self, name)) for name in TRACKS)
        return replace(self, yaw=yaw, pitch=pitch, roll=roll, translation=translation, blink=blink)

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
                yaw, pitch, roll, translation, blink = (file.get_tensor(name) for name in TRACKS)
            return cls(yaw, pitch, roll, translation, metadata["relative"] == "True", float(metadata["fps"]), blink)
        except (SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path} is not a head motion saved by eat_hf ({error}).") from error


def _blinks(frames: int, generator: torch.Generator | None) -> Tensor:
    """(frames,) closure of the lids; each blink is fully shut on one frame, so that no rate of frames misses it."""
    device = generator.device if generator is not None else "cpu"
    count = int(frames / FPS / BLINK_PAUSE[0]) + 1
    pauses = torch.empty(count, device=device).uniform_(*BLINK_PAUSE, generator=generator).cpu()
    blinks = (pauses.cumsum(0) * FPS).round()
    frame = torch.arange(frames, dtype=blinks.dtype)
    following = torch.searchsorted(blinks, frame)  # pauses are long enough for one after the last frame
    until = blinks[following] - frame
    since = torch.where(following > 0, frame - blinks[following - 1], torch.inf)
    closure = 1 - torch.minimum(until / LIDS_CLOSE, since / LIDS_OPEN) / FPS
    return smoothstep(closure.clamp(0, 1))


class GivenMotion:
    """A motion that is there already, played forwards and backwards for as long as the voice comes in."""

    def __init__(self, motion: HeadMotion):
        self._round, self._frame = motion.resampled(None), 0

    def push(self, energy: Tensor) -> HeadMotion:
        """The motion of the next frames, as many as `energy` has, (n,) of one at least; it looks at nothing else."""
        index = (self._frame + torch.arange(len(energy))) % len(self._round)
        self._frame = (self._frame + len(energy)) % len(self._round)
        return self._round.of(index)


def _smooth(values: Tensor, seconds: float, fps: float = FPS) -> Tensor:
    """Gaussian along the first axis of (F,) or (F, n), the ends repeated."""
    return torch.from_numpy(gaussian_filter1d(values.numpy(), seconds * fps, axis=0, mode="nearest", truncate=REACH))


def _smooth_noise(frames: int, seconds: float, generator: torch.Generator | None) -> Tensor:
    """(frames,) Gaussian noise, smooth, of unit variance."""
    sigma = seconds * FPS
    reach = int(REACH * sigma + 0.5)
    device = generator.device if generator is not None else "cpu"
    white = torch.randn(frames + 2 * reach, generator=generator, device=device).cpu().numpy()
    impulse = np.zeros(2 * reach + 1)
    impulse[reach] = 1
    kernel = gaussian_filter1d(impulse, sigma, truncate=REACH)
    smooth = gaussian_filter1d(white, sigma, truncate=REACH)[reach : reach + frames]
    return torch.from_numpy(smooth / np.sqrt(np.square(kernel).sum(), dtype=np.float32))
