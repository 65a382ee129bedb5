"""Pictures, recordings and videos: the one place that touches such files.

Everything inside the package is uint8 RGB (H, W, 3) and float32 samples in [-1, 1]. PyAV carries FFmpeg's libraries,
so nothing here depends on a program installed on the machine.
"""

import errno
import math
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InputWarning, UserError
from .watermark import add_watermark

FPS = 25
SAMPLING_RATE = 16000  # of the waveform that the network hears
SHORTEST_RECORDING = 0.2  # seconds
AI_GENERATED = "AI-generated video: this face and its movements were made by a program (eat_hf)."
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
BT709 = 1  # H.273's code for primaries, transfer and matrix alike
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# Pictures ------------------------------------------------------------------------------------------------------------


def read_image(image: str | os.PathLike | Image.Image | np.ndarray) -> np.ndarray:
    """A picture as the viewer sees it: (H, W, 3) uint8 RGB.

    A file's EXIF orientation is applied, transparency is laid on white, 16-bit and palette pictures are converted.

    Args:
        image: path, PIL picture, or uint8 array (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        UserError: the file is missing or not a picture, or the array is of another kind.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise UserError(
                f"An image array must be uint8 of shape (height, width, 3), not {image.dtype} of shape {image.shape}."
            )
        if image.size == 0:
            raise UserError(f"The image array is empty (shape {image.shape}).")
        return _flatten_picture(Image.fromarray(image))
    if isinstance(image, Image.Image):
        return _flatten_picture(ImageOps.exif_transpose(image))
    path = _existing_file(image, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return _flatten_picture(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"The picture {path} is too large; scale it down to a few thousand pixels.") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture that can be read; give a JPEG, PNG or WebP file.") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged data
        raise UserError(f"The picture {path} cannot be read ({_one_line(error)}); is the file damaged?") from error


def _flatten_picture(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        if values.max(initial=0) > 255:
            values = values / 257  # 16 bits to 8
        return np.repeat(values.round().clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


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
        path = _existing_file(audio, "recording")
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


def _hear(pieces: Iterable[np.ndarray], rate: int) -> np.ndarray:
    """(channels, n) of one moment after the other -> (N,) float32 at 16 kHz, the mean of the channels."""
    heard = BytesIO()  # one piece of memory that grows; thousands of small ones would leave it in shreds
    for part in _resampled((piece.mean(0, keepdims=True) for piece in pieces), rate, SAMPLING_RATE):
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
        raise UserError(f"{unreadable} ({_one_line(error)}).") from error

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
            raise UserError(f"{unreadable} ({_one_line(error)}).") from error
        if not found:
            raise UserError(f"{path} contains no sound." if damage is None else f"{unreadable} ({_one_line(damage)}).")
        if damage is not None and warn:
            message = f"{path} is damaged ({_one_line(damage)}); only what could be read is used."
            warnings.warn(message, InputWarning, 2)

    return rate, pieces()


def _resampled(pieces: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
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


# Videos --------------------------------------------------------------------------------------------------------------


def read_video(path: str | os.PathLike, max_frames: int | None = None) -> Iterator[np.ndarray]:
    """The frames of a video at 25 a second, upright, one after the other: (H, W, 3) uint8 RGB.

    A video at another rate is sampled: each frame is the one that a viewer sees at that moment.

    Raises:
        UserError: the file is missing, not a video, or has no picture that can be read.
    """
    path = _existing_file(path, "video")
    given = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no pictures; give a video.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            shown, start = None, None
            for frame in container.decode(stream):
                time = frame.time if frame.time is not None else given / FPS
                start = time if start is None else start
                # the frame before this one stays on the screen until now
                while shown is not None and given / FPS < time - start - 1e-6:
                    yield shown
                    given += 1
                    if given == max_frames:
                        return
                shown = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
            if shown is not None:
                yield shown
                given += 1
    except av.error.FFmpegError as error:
        if not given:
            raise UserError(f"{path} cannot be read as a video ({_one_line(error)}).") from error
        warnings.warn(f"{path} is damaged ({_one_line(error)}); only what could be read is used.", InputWarning, 2)
    if not given:
        raise UserError(f"{path} contains no picture that can be read.")


def sound_delay(path: str | os.PathLike) -> float:
    """Seconds by which a video's sound starts after its first picture, below 0 if before.

    `read_video` and `read_audio` both begin with what comes first, so whoever reads both from one file needs this.

    Raises:
        UserError: the file lacks either, or cannot be read.
    """
    starts: dict[type, float] = {}
    try:
        with av.open(str(_existing_file(path, "video"))) as container:
            streams = [*container.streams.video[:1], *container.streams.audio[:1]]
            for frame in container.decode(streams):
                starts.setdefault(type(frame), frame.time or 0.0)
                if len(starts) == 2:
                    return starts[av.AudioFrame] - starts[av.VideoFrame]
    except av.error.FFmpegError as error:
        raise UserError(f"{path} cannot be read as a video with sound ({_one_line(error)}).") from error
    raise UserError(f"{path} has no sound or no pictures.")


class VideoWriter:
    """Encode frames and sound into an mp4 as the frames come: H.264 (yuv420p, BT.709) and AAC, ready for streaming.

    Use it as a context manager. The file appears under its name only when everything went well; until then the data
    is in a hidden file beside it, which is removed on any error.

    Args:
        path: a name ending in .mp4 in a folder that exists. An older file of that name is replaced.
        sound: a recording, or samples (channels, M) float32 with one or two channels; None for a silent video.
        sampling_rate: of samples; a recording has its own.
        fps: frames per second.
        crf: quality of the encoder, lower is better; 18 is visually lossless.
        watermark: add the invisible mark of `watermark.add_watermark`. Only for frames that are going to be measured
            should there be none.

    Raises:
        UserError: the name or its folder cannot be used, or the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        sound: Recording | np.ndarray | None = None,
        sampling_rate: int | None = None,
        fps: int = FPS,
        crf: int = 18,
        watermark: bool = True,
    ):
        self.path = Path(path)
        check_video_target(self.path)
        self.fps, self.crf, self.watermark = fps, crf, watermark
        pieces: Iterable[np.ndarray]
        if isinstance(sound, Recording):
            pieces, self._channels, sampling_rate = sound.sound(), sound.channels, sound.sampling_rate
        elif sound is not None:
            pieces = [np.atleast_2d(sound)]
            self._channels = len(pieces[0])
        else:
            pieces, self._channels, sampling_rate = [], 0, None
        self._rate = sampling_rate if sampling_rate in AAC_RATES else 48000
        self._sound = _resampled(pieces, sampling_rate or self._rate, self._rate)
        self._waiting = np.zeros((self._channels, 0), np.float32)  # sound whose frames have not come yet
        self._temporary = self.path.with_name(f".{self.path.stem}-{secrets.token_hex(4)}.mp4")
        self._container: Any = None
        self._frames = self._samples_written = 0

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frames: np.ndarray | Iterable[np.ndarray]) -> None:
        """Append frames, (n, H, W, 3) uint8 RGB, all of one size; odd sizes grow by one repeated row or column."""
        with self._explained():
            for frame in frames:
                self._write_frame(frame)

    def _write_frame(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._container is None:
            self._open(*frame.shape[1::-1])
        if self.watermark:
            frame = add_watermark(frame)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
        )
        picture.pts, picture.time_base = self._frames, Fraction(1, self.fps)
        self._container.mux(self._video.encode(picture))
        self._frames += 1
        self._write_sound(until=round(self._frames / self.fps * self._rate))

    def _open(self, width: int, height: int) -> None:
        self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata["comment"] = AI_GENERATED
        self._video = self._container.add_stream("libx264", rate=self.fps, options={"crf": str(self.crf)})
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        context = self._video.codec_context
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = BT709
        if self._channels:
            self._audio = self._container.add_stream("aac", rate=self._rate, layout=self._layout)
            self._audio.bit_rate = 96000 * self._channels

    def _write_sound(self, until: int) -> None:
        """Sound goes in beside its frames, so that a player reading from the start never waits for it."""
        if not self._channels:
            return
        missing = until - self._samples_written
        while self._waiting.shape[1] < missing and (piece := next(self._sound, None)) is not None:
            self._waiting = np.concatenate([self._waiting, piece], 1)
        part, self._waiting = self._waiting[:, :missing], self._waiting[:, missing:]
        if part.shape[1]:
            samples = np.ascontiguousarray(part.clip(-1, 1), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
            frame.rate, frame.pts, frame.time_base = self._rate, self._samples_written, Fraction(1, self._rate)
            self._container.mux(self._audio.encode(frame))
            self._samples_written += part.shape[1]

    @property
    def _layout(self) -> str:
        return "mono" if self._channels == 1 else "stereo"

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None:
                with self._explained():
                    self._finish()
        finally:
            if self._container is not None:
                container, self._container = self._container, None
                _close_quietly(container)
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._container is None:
            raise ValueError("No frame was written.")
        self._container.mux(self._video.encode(None))
        if self._channels:
            self._container.mux(self._audio.encode(None))
        container, self._container = self._container, None
        container.close()
        # FFmpeg does not report every failed write of the index; a file without one cannot be opened again
        with av.open(str(self._temporary)) as written:
            if written.streams.video[0].frames != self._frames:
                raise OSError(errno.ENOSPC, "incomplete file")
        os.replace(self._temporary, self.path)

    def _explained(self) -> "_DiskErrors":
        return _DiskErrors(self.path)


class _DiskErrors:
    """Turns errors of writing `path` into one sentence for the user."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, OSError):
            if error.errno in NO_SPACE:
                raise UserError(f"No space left to write {self.path}; free some or choose another disk.") from error
            raise UserError(f"Cannot write {self.path} ({_one_line(error)}).") from error


def check_video_target(path: str | os.PathLike) -> None:
    """Raise UserError unless an mp4 can be written under that name, so that nobody waits for frames in vain."""
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"The video's name must end in .mp4, not {path.name!r}.")
    if not path.parent.is_dir():
        raise UserError(f"The folder {path.parent} does not exist; create it first.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the video another name.")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"The folder {path.parent} cannot be written to.")


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    sound: Recording | np.ndarray | None = None,
    sampling_rate: int | None = None,
    fps: int = FPS,
    watermark: bool = True,
) -> None:
    """Write frames (n, H, W, 3) uint8 RGB and their sound into an mp4; see `VideoWriter`."""
    with VideoWriter(path, sound, sampling_rate, fps, watermark=watermark) as writer:
        writer.write(frames)


def _close_quietly(container) -> None:
    try:
        container.close()
    except (OSError, av.error.FFmpegError):
        pass  # the file is thrown away


def _existing_file(path: str | os.PathLike, kind: str) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"A {kind} must be given as a path, not as {type(path).__name__}.")
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the {kind} itself.")
        if not path.exists():
            raise UserError(f"The {kind} {path} does not exist.")
        if path.stat().st_size == 0:
            raise UserError(f"The {kind} {path} is empty (0 bytes).")
        with path.open("rb"):
            return path
    except (PermissionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"The {kind} {path} cannot be opened ({_one_line(error)}).") from error


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")
