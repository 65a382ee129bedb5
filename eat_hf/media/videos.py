"""Videos: frames and sound read from them, and written into an mp4."""

import contextlib
import errno
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..constants import FPS
from ..errors import InputWarning, UserError
from .containers import (
    LARGEST_FRAME,
    LONGEST_VIDEO,
    MOST_FRAMES_A_SECOND,
    Damage,
    decoded,
    is_decodable,
    open_media,
)
from .files import existing_file, explained_writing, one_line, unfinished_file
from .recordings import Recording, resampled
from .watermark import Watermark

AI_GENERATED = "AI-generated video: this face and its movements were made by a program (eat_hf)."
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
BT709 = 1  # H.273's code for primaries, transfer and matrix alike


def read_video(path: str | os.PathLike, max_frames: int | None = None) -> Iterator[np.ndarray]:
    """The frames of a video at 25 a second, upright, one after the other: (H, W, 3) uint8 RGB.

    A video at another rate is sampled: each frame is the one that a viewer sees at that moment.

    Raises:
        UserError: the file is missing, not a video, or has no picture that can be read.
    """
    path = existing_file(path, "video")
    given, size, damage = 0, None, Damage()
    with open_media(path, "video") as container:
        if not container.streams.video:
            raise UserError(f"{path} has no pictures; give a video.")
        stream = container.streams.video[0]
        if not is_decodable(stream):
            raise UserError(f"{path} cannot be read as a video: its pictures have a codec that is not known.")
        stream.thread_type = "AUTO"
        shown, start, last = None, 0.0, 0.0
        step = 1 / min(max(float(stream.average_rate or FPS), 1.0), MOST_FRAMES_A_SECOND)
        for number, frame in enumerate(decoded(container, stream, damage)):
            if number > LONGEST_VIDEO * MOST_FRAMES_A_SECOND:
                raise _too_long(path)
            time = frame.time if frame.time is not None else number * step
            start = time if number == 0 else start
            time -= start
            if number and time <= last:  # the clock of the container stands still or runs back
                time = last + step
            last = time
            if time > LONGEST_VIDEO:
                raise _too_long(path)
            # the frame before this one stays on the screen until now
            while shown is not None and given / FPS < time - 1e-6:
                yield shown
                given += 1
                if given == max_frames:
                    return
            try:
                picture = _upright(frame, stream.sample_aspect_ratio)
            except Exception as error:  # of many kinds, about pictures that FFmpeg cannot convert
                damage.reason, damage.heavy = one_line(error), True
                continue
            size = size or picture.shape[:2]
            shown = picture if picture.shape[:2] == size else _fit(picture, *size)
        if shown is not None:
            yield shown
            given += 1
    if not given:
        if damage.reason:
            raise UserError(f"{path} cannot be read as a video ({damage.reason}).")
        raise UserError(f"{path} contains no picture that can be read.")
    if damage.heavy:
        warnings.warn(f"{path} is damaged ({damage.reason}); only what could be read is used.", InputWarning, 2)


def _too_long(path: Path) -> UserError:
    return UserError(
        f"The video {path} lasts longer than {LONGEST_VIDEO / 3600:g} hours, the most that is read; cut it."
    )


def _upright(frame: Any, pixel_aspect: Fraction | None) -> np.ndarray:
    """A decoded frame as a viewer sees it, (H, W, 3) uint8 RGB: with square pixels, turned as the file says."""
    width, height = frame.width, frame.height
    if width * height > LARGEST_FRAME:
        raise ValueError(f"pictures of {width} x {height} pixels")
    aspect = float(pixel_aspect or 1)
    if 0.2 < aspect < 5 and abs(aspect - 1) > 0.005:  # anything else is a mistake of the file
        width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        if width * height > LARGEST_FRAME:
            raise ValueError(f"pictures of {width} x {height} pixels")
    picture = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.rot90(picture, round(frame.rotation / 90) % 4)


def _fit(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture within another size, black beside it: some videos change their size on the way."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    rows, columns = (max(1, round(side * scale)) for side in picture.shape[:2])
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    fitted = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    fitted[top : top + rows, left : left + columns] = small
    return fitted


def sound_delay(path: str | os.PathLike) -> float:
    """Seconds by which a video's sound starts after its first picture, below 0 if before.

    `read_video` and `read_audio` both begin with what comes first, so whoever reads both from one file needs this.

    Raises:
        UserError: the file lacks either, or cannot be read.
    """
    starts = []
    for kind in ("audio", "video"):
        with open_media(path, "video") as container:
            stream = next((each for each in container.streams if each.type == kind and is_decodable(each)), None)
            frame = None if stream is None else next(decoded(container, stream, Damage()), None)
            if frame is None:
                raise UserError(f"{path} has no sound or no pictures.")
            starts.append(frame.time or 0.0)
    return starts[0] - starts[1]


class VideoWriter:
    """Encode frames and sound into an mp4 as the frames come: H.264 (yuv420p, BT.709) and AAC, ready for streaming.

    Use it as a context manager. The file appears under its name only when everything went well; until then the data
    is in a hidden file beside it, which is removed on any error.

    Args:
        path: a name ending in .mp4 in a folder that exists. An older file of that name is replaced.
        sound: a recording, whose title, artist and copyright the video then states, too; or samples
            (channels, M) float32 with one or two channels; None for a silent video.
        sampling_rate: of samples; a recording has its own.
        fps: frames per second.
        crf: quality of the encoder, lower is better; 18 is visually lossless.
        watermark: add the invisible mark of `watermark.Watermark`. Only for frames that are going to be measured
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
        self.fps, self.crf = fps, crf
        self._mark = Watermark() if watermark else None
        self._tags: dict[str, str] = {}
        pieces: Iterable[np.ndarray]
        if isinstance(sound, Recording):
            self._tags = sound.tags
            pieces, self._channels, sampling_rate = sound.sound(), sound.channels, sound.sampling_rate
        elif sound is not None:
            pieces = [np.atleast_2d(sound)]
            self._channels = len(pieces[0])
        else:
            pieces, self._channels, sampling_rate = [], 0, None
        self._rate = sampling_rate if sampling_rate in AAC_RATES else 48000
        self._sound = resampled(pieces, sampling_rate or self._rate, self._rate)
        self._waiting = np.zeros((self._channels, 0), np.float32)  # sound whose frames have not come yet
        self._whole = unfinished_file(self.path)
        self._container: Any = None
        self._frames = self._samples_written = 0

    def __enter__(self) -> "VideoWriter":
        self._unfinished = self._whole.__enter__()
        return self

    def write(self, frames: np.ndarray | Iterable[np.ndarray]) -> None:
        """Append frames, (n, H, W, 3) uint8 RGB, all of one size; odd sizes grow by one repeated row or column."""
        with explained_writing(self.path):
            for frame in frames:
                self._write_frame(frame)

    def _write_frame(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._container is None:
            self._open(*frame.shape[1::-1])
        if self._mark is not None:
            frame = self._mark(frame)
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
        # "file:", for a name such as take3:final.mp4 would be taken for a protocol
        self._container = av.open(f"file:{self._unfinished}", "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata.update(self._tags | {"comment": AI_GENERATED})
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
        with contextlib.ExitStack() as ending:
            ending.push(self._whole)  # the file gets its name, or vanishes
            ending.callback(self._close)
            if error is not None:
                raise error
            with explained_writing(self.path):
                self._finish()

    def _close(self) -> None:
        if self._container is not None:
            container, self._container = self._container, None
            _close_quietly(container)

    def _finish(self) -> None:
        if self._container is None:
            raise ValueError("No frame was written.")
        self._container.mux(self._video.encode(None))
        if self._channels:
            self._container.mux(self._audio.encode(None))
        container, self._container = self._container, None
        container.close()
        # FFmpeg does not report every failed write of the index; a file without one cannot be opened again
        with av.open(f"file:{self._unfinished}") as written:
            if written.streams.video[0].frames != self._frames:
                raise OSError(errno.ENOSPC, "incomplete file")


def check_video_target(path: str | os.PathLike) -> None:
    """Raise UserError unless an mp4 can be written under that name, so that nobody waits for frames in vain."""
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"The video's name must end in .mp4, not {path.name!r}.")
    try:
        there = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        there = None
    except (OSError, ValueError) as error:
        raise UserError(f"No file can have the name {path} ({one_line(error)}).") from error
    if there is None and not path.parent.is_dir():
        raise UserError(f"The folder {path.parent} does not exist; create it first.")
    if there is not None and stat.S_ISDIR(there):
        raise UserError(f"{path} is a folder; give the video another name.")
    if there is not None and not stat.S_ISREG(there):
        raise UserError(f"{path} is no ordinary file, which a video could replace; give the video another name.")
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
