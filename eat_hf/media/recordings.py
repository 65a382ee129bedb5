"""Recordings, which become float32 samples in [-1, 1].

PyAV carries FFmpeg's libraries, so nothing here depends on a program installed on the machine.
"""

import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..constants import FPS, SAMPLING_RATE
from ..errors import InputWarning, UserError
from .containers import (
    LONGEST_SOUND,
    MOST_CHANNELS,
    SAMPLING_RATES,
    Damage,
    as_text,
    decoded,
    is_decodable,
    open_media,
)
from .files import existing_file

SHORTEST_RECORDING = 0.2  # seconds
SILENCE = 1e-8  # mean square below which a track is silent: 80 dB under full scale
# What the sum of channels keeps of the loudest one's power: all of it, unless they cancel out. Where two do, one says
# what the other says; more may have something to say beside.
KEPT_OF_TWO, KEPT_OF_MORE = 0.7, 0.2
CANCELS = "has channels that cancel out (opposite phase); only the louder one is used."
LIVE_BALANCE = 1.0  # seconds of sound after which live sound is known to have such channels
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
        track: which of a file's sound tracks, counted from 0.
        mix: (1, recorded channels) weights by which more than two channels, or two that cancel out, become one.
        tags: title, artist and copyright that the file states, those that it has: one line of at most 500 characters
            each, without control characters.
    """

    source: Path | np.ndarray
    length: int
    channels: int
    sampling_rate: int
    _waveform: np.ndarray | None = field(default=None, repr=False)
    track: int = 0
    mix: np.ndarray | None = field(default=None, repr=False)
    tags: dict[str, str] = field(default_factory=dict)

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
        for piece in _Track(self.source, self.track).pieces():
            piece = piece[:, : self.length - given]
            yield _clip(piece if self.mix is None else self.mix @ piece)
            given += piece.shape[1]
            if given >= self.length:
                return

    def first(self, seconds: float) -> "Recording":
        """Its beginning, all of it if it is shorter."""
        length = min(round(seconds * self.sampling_rate), self.length)
        return replace(self, length=length, _waveform=None)


def read_audio(
    audio: str | os.PathLike | tuple[Any, int] | Recording,
    audio_track: int | None = None,
    longest: float = LONGEST_SOUND,
) -> Recording:
    """Read a recording, whatever its format, rate and channels.

    Two channels stay two; more are mixed into one, so that nothing that is heard on any of them is lost. Two channels
    of opposite phase would cancel out, or clearly lose: the louder one is taken, with a warning.

    Args:
        audio: path of a sound file, or a video with sound, or (samples, sampling_rate) with samples
            of shape (N,), (N, channels) or (channels, N), float in [-1, 1] or integer.
        audio_track: which of a file's sound tracks, counted from 0. Default: the first that is not silent, with a
            warning if it is not the first.
        longest: seconds that are read at most.

    Raises:
        UserError: the file is missing, empty, damaged or without sound; there is no such track; samples are not
            finite; it is shorter than 0.2 s or longer than `longest`.
    """
    if isinstance(audio, Recording):
        return audio
    if isinstance(audio, tuple):
        if len(audio) != 2:
            raise UserError(f"Audio must be a path or (samples, sampling_rate), not a tuple of {len(audio)}.")
        if audio_track:
            raise UserError("audio_track chooses among the sound tracks of a file; samples are one alone.")
        samples, rate = _check_samples(*audio)
        moments = range(0, samples.shape[1], max(rate // 10, 1))
        pieces = (samples[:, start : start + moments.step] for start in moments)
        return _survey(lambda: pieces, samples, rate, "The audio", longest)[0]
    path = existing_file(audio, "recording")
    tracks, tags = _look_into(path)
    if audio_track is not None and not 0 <= audio_track < tracks:
        count = f"{tracks} sound tracks" if tracks > 1 else "1 sound track"
        raise UserError(f"There is no audio track {audio_track}: {path} has {count}, counted from 0.")
    silent: Recording | None = None
    problem: UserError | None = None
    for number in range(tracks) if audio_track is None else [audio_track]:
        track = _Track(path, number)
        try:
            recording, power = _survey(track.pieces, path, track.rate(), f"The recording {path}", longest, number)
        except _TooLong:
            raise
        except UserError as error:  # another track may be whole
            problem = problem or error
            continue
        if power > SILENCE or tracks == 1 or audio_track is not None:
            break
        silent = silent or recording
    else:
        if silent is None:
            raise problem or UserError(f"{path} contains no sound.")
        recording = silent
    recording.tags = tags
    if track.damage.heavy:
        message = f"{path} is damaged ({track.damage.reason}); only what could be read is used."
        warnings.warn(message, InputWarning, 2)
    if recording.track and audio_track is None:
        reason = "is silent" if problem is None else "cannot be read"
        warnings.warn(
            f"The first sound track of {path} {reason}; track {recording.track} is used, counted from 0. "
            "Choose another with its number (--audio-track).",
            InputWarning,
            2,
        )
    return recording


class _TooLong(UserError):
    """There is more sound than is read."""


class _Balance:
    """How loud the channels of some sound are, and what their sum keeps of it.

    Attributes:
        length: samples of each channel.
    """

    def __init__(self) -> None:
        self.length = 0
        self._powers, self._power_of_sum = np.zeros(1), 0.0
        self._most = self._kept = 0.0  # of every moment: the loudest channel's power, and how much of it the sum has

    def add(self, piece: np.ndarray) -> None:
        """The next moment of the sound, (channels, n), always of as many channels."""
        now, now_of_sum = (np.square(each, dtype=np.float64).sum(-1) for each in (piece, piece.sum(0)))
        self._powers, self._power_of_sum = self._powers + now, self._power_of_sum + now_of_sum
        self._most, self._kept = self._most + now.max(), self._kept + min(now.max(), now_of_sum)
        self.length += piece.shape[1]

    @property
    def channels(self) -> int:
        return len(self._powers)

    @property
    def loudest(self) -> int:
        return int(self._powers.argmax())

    @property
    def power(self) -> float:
        """Mean square of the loudest channel."""
        return float(self._powers.max() / max(self.length, 1))

    @property
    def gain(self) -> float:
        """By which the sum of the channels is as loud as the loudest of them."""
        return math.sqrt(self._powers.max() / self._power_of_sum) if self._power_of_sum > 0 else 1 / self.channels

    @property
    def cancels(self) -> bool:
        """The sum lacks what is heard on a channel."""
        share = KEPT_OF_TWO if self.channels == 2 else KEPT_OF_MORE
        return self.channels > 1 and self.power > SILENCE and self._kept < share * self._most


def _survey(
    pieces: Callable[[], Iterator[np.ndarray]],
    source: Path | np.ndarray,
    rate: int,
    name: str,
    longest: float,
    track: int = 0,
) -> tuple[Recording, float]:
    """A recording, and the mean square of its loudest channel.

    Args:
        pieces: the sound from its beginning, (channels, n) of one moment after the other.
    """
    length, balance = 0, _Balance()

    def checked() -> Iterator[np.ndarray]:
        nonlocal length
        for piece in pieces():
            _check_finite(piece, name)
            length += piece.shape[1]
            if length > longest * rate:
                raise _TooLong(f"{name} lasts longer than {_spoken(longest)}, the most that is read; cut it.")
            piece = _clip(piece)
            balance.add(piece)
            yield piece

    waveform: np.ndarray | None = _hear(checked(), rate)
    if length < SHORTEST_RECORDING * rate:
        raise UserError(f"{name} lasts {length / rate:.2f} s; at least {SHORTEST_RECORDING} s of sound is needed.")
    channels, power = balance.channels, balance.power
    mix = None
    if balance.cancels:
        mix = np.eye(channels, dtype=np.float32)[[balance.loudest]]
        warnings.warn(f"{name} {CANCELS}", InputWarning, 3)
    elif channels > 2:  # as loud as the loudest of them
        mix = np.full((1, channels), balance.gain, np.float32)
    if mix is not None:
        waveform, channels = None, 1
        if isinstance(source, np.ndarray):
            source, mix = mix @ source, None
    if isinstance(source, np.ndarray):
        source = _clip(source)
    recording = Recording(source, length, channels, rate, waveform, track, mix)
    recording.waveform  # noqa: B018  # heard now, so that what is wrong with the file shows now
    return recording, power


def _spoken(seconds: float) -> str:
    return f"{seconds / 3600:g} hours" if seconds >= 7200 else f"{seconds:g} s"


def _tags_of(container: Any) -> dict[str, str]:
    """`Recording.tags` of an open file."""
    stated: dict[str, str] = {}
    for holder in (
        *container.streams.audio[:1],
        container,
    ):  # Ogg keeps them with its stream; the file's own count first
        stated |= {name.lower(): as_text(value) for name, value in holder.metadata.items()}
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


def _check_finite(samples: np.ndarray, name: str) -> None:
    if not np.isfinite(samples).all():
        raise UserError(f"{name} contains NaN or infinite samples; export it again.")


def _check_samples(samples: Any, rate: int) -> tuple[np.ndarray, int]:
    samples = np.asarray(samples)
    if not SAMPLING_RATES[0] <= rate <= SAMPLING_RATES[1] or int(rate) != rate:
        limits = " and ".join(map(str, SAMPLING_RATES))
        raise UserError(f"The sampling rate must be a whole number of Hz between {limits}, not {rate}.")
    if samples.ndim not in (1, 2) or samples.size == 0 or samples.dtype.kind not in "fiu":
        raise UserError(
            f"Audio samples must be a non-empty array of shape (N,) or (N, channels), "
            f"not {samples.dtype} of shape {samples.shape}."
        )
    if samples.dtype.kind in "iu":
        samples = _scaled(samples)
    samples = np.atleast_2d(samples.astype(np.float32))
    if samples.shape[0] > samples.shape[1]:
        samples = samples.T
    return samples, int(rate)


class LiveSound:
    """Sound that comes in pieces of any length, as the network hears it: of the same samples, what
    `Recording.waveform` is.

    One channel is heard as it is, of two the mean. That those cancel out is known after a second in which they are
    heard; the louder one is taken from then on, with a warning. A change of rate or channels begins another stretch.
    """

    def __init__(self) -> None:
        self._kind: tuple[int, int] | None = None  # channels and rate
        self._resampler = Resampler(SAMPLING_RATE, SAMPLING_RATE)
        self._balance = _Balance()
        self._only: int | None = None  # the channel that is taken where they cancel out
        self._length, self._before = 0, Fraction()  # samples of this stretch, seconds of those before it

    @property
    def seconds(self) -> Fraction:
        """Length of all that came."""
        return self._before + (Fraction(self._length, self._kind[1]) if self._kind else 0)

    def push(self, samples: Any, sampling_rate: int) -> np.ndarray:
        """The next samples -> those at 16 kHz that can be said by now, (n,) float32.

        Args:
            samples: (N,), (N, channels) or (channels, N), one or two channels, float in [-1, 1] or integer; N may be 0.

        Raises:
            UserError: it is something else, or not finite; then nothing has changed.
        """
        if np.size(samples) == 0:
            return np.zeros(0, np.float32)
        plain = np.ndim(samples) == 1
        samples, rate = _check_samples(samples, sampling_rate)
        if not plain and self._kind and len(samples) != self._kind[0] == samples.shape[1]:
            samples = samples.T  # a sample or two of as many channels as before
        if len(samples) > 2:
            raise UserError(f"Live sound has one or two channels, not {len(samples)}; mix it before.")
        _check_finite(samples, "The sound")
        samples, kind, ended = _clip(samples), (len(samples), rate), np.zeros((1, 0), np.float32)
        if kind != self._kind:
            ended = self._resampler.finish()
            self._before, self._length = self.seconds, 0
            self._kind, self._resampler = kind, Resampler(rate, SAMPLING_RATE)
            self._balance, self._only = _Balance(), None
        self._length += samples.shape[1]
        mono = self._mixed(samples, rate)
        return np.concatenate([ended, self._resampler.push(mono)], 1)[0]

    def finish(self) -> np.ndarray:
        """The rest (n,)."""
        return self._resampler.finish()[0]

    def _mixed(self, samples: np.ndarray, rate: int) -> np.ndarray:
        if self._only is None and len(samples) > 1:
            self._balance.add(samples)
            if self._balance.length >= LIVE_BALANCE * rate and self._balance.cancels:
                self._only = self._balance.loudest
                warnings.warn(f"The sound {CANCELS}", InputWarning, 3)
        return samples.mean(0, keepdims=True) if self._only is None else samples[self._only : self._only + 1]


# Files ---------------------------------------------------------------------------------------------------------------


def _look_into(path: Path) -> tuple[int, dict[str, str]]:
    """How many sound tracks a file has, and its tags."""
    with open_media(path, "recording") as container:
        count, tags = len(container.streams.audio), _tags_of(container)
    if not count:
        raise UserError(f"{path} has no sound track.")
    return count, tags


class _Track:
    """One sound track of a file.

    Attributes:
        damage: of what was decoded last.
    """

    def __init__(self, path: Path, number: int):
        self.path, self.number = path, number
        self.damage = Damage()

    def rate(self) -> int:
        """Hz."""
        with open_media(self.path, "recording") as container:
            return self._stream(container).rate

    def _stream(self, container: Any) -> Any:
        streams = container.streams.audio
        if self.number >= len(streams):
            raise UserError(f"{self.path} has no audio track {self.number} any more.")
        stream = streams[self.number]
        if not is_decodable(stream):
            raise UserError(f"{self.path} cannot be read as a recording: its sound has a codec that is not known.")
        self._check(stream.rate or 0, stream.channels)
        return stream

    def _check(self, rate: int, channels: int) -> None:
        if not SAMPLING_RATES[0] <= rate <= SAMPLING_RATES[1]:
            limits = " to ".join(map(str, SAMPLING_RATES))
            raise UserError(f"{self.path} has a sampling rate of {rate} Hz; {limits} Hz can be read.")
        if channels > MOST_CHANNELS:
            raise UserError(f"{self.path} has {channels} channels; up to {MOST_CHANNELS} can be read.")

    def pieces(self) -> Iterator[np.ndarray]:
        """(channels, n) float32 of one moment after the other, at the track's rate, always of as many channels.

        Files that were joined may change rate and channels on the way: what differs from the beginning follows it.
        """
        self.damage = Damage()
        found, channels = False, 0
        with open_media(self.path, "recording") as container:
            stream = self._stream(container)
            rate = stream.rate
            frames = (frame for frame in decoded(container, stream, self.damage) if frame.samples)
            for kind, alike in itertools.groupby(frames, lambda frame: (frame.sample_rate, frame.layout.nb_channels)):
                self._check(*kind)
                channels = channels or kind[1]
                found = True
                yield from resampled((_fold(_samples(frame), channels) for frame in alike), kind[0], rate)
        if not found:
            if not self.damage.reason:
                raise UserError(f"{self.path} contains no sound.")
            raise UserError(f"{self.path} cannot be read as a recording ({self.damage.reason}).")


def _samples(frame: Any) -> np.ndarray:
    """(channels, n) float32 in [-1, 1] of a decoded frame."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind in "iu":
        values = _scaled(values)
    return values.astype(np.float32)


def _scaled(integers: np.ndarray) -> np.ndarray:
    """Samples of whole numbers in [-1, 1]."""
    limits = np.iinfo(integers.dtype)
    middle = 0 if limits.min < 0 else (limits.max + 1) / 2  # unsigned samples rest at the middle
    return (integers - middle) / (limits.max + 1 - middle)


def _fold(samples: np.ndarray, channels: int) -> np.ndarray:
    """Sound of as many channels as are wanted; where they differ, all get the mean."""
    if len(samples) == channels:
        return samples
    return np.repeat(samples.mean(0, keepdims=True), channels, 0)


class Resampler:
    """Sound of one moment after the other at another rate: pieces of any length give what the whole gives.

    Args:
        rate, new_rate: Hz.
    """

    def __init__(self, rate: int, new_rate: int):
        self.rate, self.new_rate = rate, new_rate
        # one resampler a channel: FFmpeg's have no layout for every number of channels
        self._resamplers: list[Any] = []
        self._taken = self._given = 0

    def push(self, piece: np.ndarray) -> np.ndarray:
        """The next moment (channels, n), always of as many channels -> what can be said by now, (channels, m)."""
        if self.rate == self.new_rate or not piece.shape[1]:
            return piece
        if not self._resamplers:
            self._resamplers = [av.AudioResampler(format="fltp", layout="mono", rate=self.new_rate) for _ in piece]
        self._taken += piece.shape[1]
        channels = []
        for resampler, channel in zip(self._resamplers, piece, strict=True):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channel[None], np.float32), "fltp", "mono")
            frame.rate = self.rate
            channels.append([part.to_ndarray() for part in resampler.resample(frame)])
        moment = self._joined(channels)
        self._given += moment.shape[1]
        return moment

    def finish(self) -> np.ndarray:
        """What is left (channels, m); with it, it is ceil of the exact length in all."""
        missing = max(math.ceil(self._taken * self.new_rate / self.rate) - self._given, 0)
        rest = self._joined([[part.to_ndarray() for part in each.resample(None)] for each in self._resamplers])
        return np.concatenate([rest, np.zeros((len(rest), missing), np.float32)], 1)[:, :missing]

    @staticmethod
    def _joined(channels: list[list[np.ndarray]]) -> np.ndarray:
        empty = np.zeros((1, 0), np.float32)
        return np.concatenate([np.concatenate([empty, *parts], 1) for parts in channels or [[]]])


def resampled(pieces: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """(channels, n) of one moment after the other, at another rate; ceil of the exact length of it in all."""
    if rate == new_rate:
        yield from pieces
        return
    resampler = Resampler(rate, new_rate)
    yield from map(resampler.push, pieces)
    yield resampler.finish()
