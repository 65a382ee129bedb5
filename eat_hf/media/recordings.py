"""Recordings, which become float32 samples in [-1, 1].

PyAV carries FFmpeg's libraries, so nothing here depends on a program installed on the machine.
"""

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..constants import FPS, SAMPLING_RATE
from ..errors import InputWarning, UserError
from .files import existing_file, one_line

SHORTEST_RECORDING = 0.2  # seconds
TAGS = ("title", "artist", "copyright")
LONGEST_TAG = 500  # characters


# Recordings ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Recording:
    """A voice: where its sound is, and what the network hears of it.

    Sound of a file stays there, for an hour of it would fill the memory, and is decoded again when it is needed.

    Attributes:
        source: the file, or samples (channels, M) float32 in [-1, 1], one or two channels as recorded.
        length: samples of each channel that are used.
        channels: one or two; sampling_rate: Hz, both of the sound as recorded.
    """

    source: Path | np.ndarray
    length: int
    channels: int
    sampling_rate: int
    _waveform: np.ndarray | None = field(default=None, repr=False)

    @property
    def waveform(self) -> np.ndarray:
        """(N,) float32 mono at 16 kHz, what the network hears; kept until `forget`.

        Raises:
            UserError: it was forgotten, or never heard, and the file is gone.
        """
        waveform = self._waveform
        if waveform is None:
            waveform = self._waveform = _hear(self.sound(), self.sampling_rate)
        return waveform

    def forget(self) -> None:
        """Let go of the waveform, which can be heard again: while a long video is made, it only takes memory."""
        self._waveform = None

    @property
    def seconds(self) -> float:
        return self.length / self.sampling_rate

    @property
    def num_frames(self) -> int:
        """Video frames that cover the recording; the last one may reach past its end."""
        return math.ceil(self.length * FPS / self.sampling_rate)

    @property
    def samples(self) -> np.ndarray:
        """(channels, length) float32 in [-1, 1], all of the sound as recorded; `sound` takes less memory."""
        if isinstance(self.source, np.ndarray):
            return self.source[:, : self.length]
        return np.concatenate(list(self.sound()), 1)

    def sound(self) -> Iterator[np.ndarray]:
        """The samples, (channels, n) float32 in [-1, 1] of one moment after the other.

        Raises:
            UserError: the file is gone.
        """
        if isinstance(self.source, np.ndarray):
            for start in range(0, self.length, self.sampling_rate):
                yield self.samples[:, start : start + self.sampling_rate]
            return
        given = 0
        for piece in _decode_audio(self.source)[1]:
            yield _clip(piece[:, : self.length - given])
            given += piece.shape[1]
            if given >= self.length:
                return

    def first(self, seconds: float) -> "Recording":
        """Its beginning, all of it if it is shorter."""
        length = min(round(seconds * self.sampling_rate), self.length)
        return Recording(self.source, length, self.channels, self.sampling_rate)


def read_audio(audio: str | os.PathLike | tuple[Any, int] | Recording) -> Recording:
    """Read a recording, whatever its format, rate and channels.

    Args:
        audio: path of anything FFmpeg reads (sound, or a video with sound), or (samples, sampling_rate) with samples
            of shape (N,), (N, channels) or (channels, N), float in [-1, 1] or integer.

    Raises:
        UserError: the file is missing, empty, damaged or without sound; samples are not finite; it is shorter than
            0.2 s.
    """
    if isinstance(audio, Recording):
        return audio
    pieces: Iterable[np.ndarray]
    source: Path | np.ndarray
    if isinstance(audio, tuple):
        if len(audio) != 2:
            raise UserError(f"Audio must be a path or (samples, sampling_rate), not a tuple of {len(audio)}.")
        samples, rate = _check_samples(*audio)
        pieces, source, name = [samples], _clip(samples), "The audio"
    else:
        path = existing_file(audio, "recording")
        rate, pieces = _decode_audio(path, warn=True)
        source, name = path, f"The recording {path}"
    channels = length = 0

    def checked() -> Iterator[np.ndarray]:
        nonlocal channels, length
        for piece in pieces:
            if not np.isfinite(piece).all():
                raise UserError(f"{name} contains NaN or infinite samples; export it again.")
            channels, length = len(piece), length + piece.shape[1]
            yield _clip(piece)

    waveform = _hear(checked(), rate)
    if length < SHORTEST_RECORDING * rate:
        raise UserError(f"{name} lasts {length / rate:.2f} s; at least {SHORTEST_RECORDING} s of sound is needed.")
    return Recording(source, length, channels, rate, waveform)


def read_tags(path: str | os.PathLike) -> dict[str, str]:
    """Title, artist and copyright that a file of sound states, those that it has: one line of at most 500 characters
    each, without control characters. Nothing of a file that cannot be read, for a video can do without them.
    """
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stated: dict[str, str] = {}
            # Ogg keeps them with its stream; the file's own count first
            for holder in (*container.streams.audio[:1], container):
                stated |= {name.lower(): value for name, value in holder.metadata.items()}
    except (av.error.FFmpegError, OSError, ValueError):
        return {}
    lines = {name: stated.get(name, "")[: 10 * LONGEST_TAG] for name in TAGS}
    for name, text in lines.items():
        printable = "".join(letter if letter.isprintable() else " " for letter in text)
        lines[name] = " ".join(printable.split())[:LONGEST_TAG]
    return {name: line for name, line in lines.items() if line}


def _hear(pieces: Iterable[np.ndarray], rate: int) -> np.ndarray:
    """(channels, n) of one moment after the other -> (N,) float32 at 16 kHz, the mean of the channels."""
    heard = BytesIO()  # one piece of memory that grows; thousands of small ones would leave it in shreds
    for part in resampled((piece.mean(0, keepdims=True) for piece in pieces), rate, SAMPLING_RATE):
        heard.write(part.tobytes())
    return np.frombuffer(heard.getbuffer(), np.float32)


def _clip(samples: np.ndarray) -> np.ndarray:
    return samples.clip(-1, 1)


def _check_samples(samples: Any, rate: int) -> tuple[np.ndarray, int]:
    samples = np.asarray(samples)
    if not 1000 <= rate <= 768000 or int(rate) != rate:
        raise UserError(f"The sampling rate must be a whole number of Hz between 1000 and 768000, not {rate}.")
    if samples.ndim not in (1, 2) or samples.size == 0 or samples.dtype.kind not in "fiu":
        raise UserError(
            f"Audio samples must be a non-empty array of shape (N,) or (N, channels), "
            f"not {samples.dtype} of shape {samples.shape}."
        )
    if samples.dtype.kind in "iu":
        limits = np.iinfo(samples.dtype)
        middle = 0 if limits.min < 0 else (limits.max + 1) / 2  # unsigned samples rest at the middle
        samples = (samples - middle) / (limits.max + 1 - middle)
    samples = np.atleast_2d(samples.astype(np.float32))
    if samples.shape[0] > samples.shape[1]:
        samples = samples.T
    if samples.shape[0] > 2:
        samples = samples.mean(0, keepdims=True)
    return samples, int(rate)


def _decode_audio(path: Path, warn: bool = False) -> tuple[int, Iterator[np.ndarray]]:
    """Sampling rate of a file's sound, and the sound, (channels, n) float32 of one moment after the other.

    Args:
        warn: about damage that is skipped.
    """
    unreadable = f"{path} cannot be read as a recording"
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} has no sound track.")
            rate = container.streams.audio[0].rate
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{unreadable} ({one_line(error)}).") from error

    def pieces() -> Iterator[np.ndarray]:
        damage, found = None, False
        try:
            with av.open(str(path)) as container:
                stream = container.streams.audio[0]
                layout = "mono" if stream.channels == 1 else "stereo"
                resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
                for packet in container.demux(stream):
                    try:
                        frames = packet.decode()
                    except av.error.InvalidDataError as error:  # players skip what they cannot read, too
                        damage = error
                        continue
                    for frame in frames:
                        frame.pts = None  # gaps and jitter of the container's clock are not part of the sound
                        for part in resampler.resample(frame):
                            found = True
                            yield part.to_ndarray()
                for part in resampler.resample(None) if found else ():
                    yield part.to_ndarray()
        except av.error.FFmpegError as error:
            raise UserError(f"{unreadable} ({one_line(error)}).") from error
        if not found:
            raise UserError(f"{path} contains no sound." if damage is None else f"{unreadable} ({one_line(damage)}).")
        if damage is not None and warn:
            message = f"{path} is damaged ({one_line(damage)}); only what could be read is used."
            warnings.warn(message, InputWarning, 2)

    return rate, pieces()


def resampled(pieces: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """(channels, n) of one moment after the other, at another rate; ceil of the exact length of it in all."""
    if rate == new_rate:
        yield from pieces
        return
    resampler, taken, given, channels = None, 0, 0, 1
    for piece in pieces:
        channels = len(piece)
        layout = "mono" if channels == 1 else "stereo"
        resampler = resampler or av.AudioResampler(format="fltp", layout=layout, rate=new_rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece, np.float32), format="fltp", layout=layout)
        frame.rate = rate
        taken += piece.shape[1]
        for part in resampler.resample(frame):
            given += part.samples
            yield part.to_ndarray()
    missing = math.ceil(taken * new_rate / rate) - given
    rest = [part.to_ndarray() for part in resampler.resample(None)] if resampler else []
    yield np.concatenate([*rest, np.zeros((channels, max(missing, 0)), np.float32)], 1)[:, : max(missing, 0)]
