"""What a visitor may send: stated on the page and enforced before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..media.containers import MOST_FRAMES_A_SECOND, open_media
from ..media.pictures import read_image
from ..media.recordings import Recording, read_audio


@dataclass(frozen=True)
class Limits:
    """Attributes:
    seconds: of a voice, and of a driving video.
    side: of a portrait, pixels; video_side: of a driving video.
    megabytes: of any file.
    characters: of text to speak.
    adapters: loaded at a time, and emotions that they add.
    adapter_megabytes: of one from the Hub.
    steps: of refining an emotion in words.
    keyframes: of a timeline.
    words: characters of an emotion in words; phrasings: of one, a line each.
    files: of an adapter's folder.
    items: in any list of a request.
    line: characters of any other text, such as a timeline.
    request_kilobytes: of a request, whose files come as uploads.
    upload_megabytes: of one upload, all files together.
    upload_seconds: that it may take.
    kept_megabytes: of all visitors' files on the disk; beyond that the oldest go.
    kept_seconds: that a file is kept at most.
    under_way: requests for the networks that take turns; address_under_way: of one address; unnamed_under_way: of one
        address, of programs that name no session. Of one session it is one.
    crowded_seconds: of work that every request has; one that had more is ended when all places are taken, somebody
        waits, and none became free for `patience` seconds.
    waiting: requests in the queue; visitor_waiting: of one visitor.
    sessions: of visitors that are remembered.
    work_seconds: of work on a request, by endpoint; an endpoint that is not listed must not be public.
    page_seconds: of what the page asks for on its own, such as drawing the voice.
    video_seconds: of work on a video of the service.
    live_sessions: at a time; address_live_sessions: of one address.
    live_seconds: that a live session lasts at most; live_quiet_seconds: that its client may send nothing.
    live_backlog: seconds of live sound that may wait; the next is not read before there is room.
    """

    seconds: float = 30.0
    side: int = 4096
    video_side: int = 1920
    megabytes: int = 25
    characters: int = 300
    adapters: int = 6
    adapter_megabytes: int = 200
    steps: int = 100
    keyframes: int = 40
    words: int = 1000
    phrasings: int = 10
    files: int = 50
    items: int = 100
    line: int = 4000
    request_kilobytes: int = 128
    upload_megabytes: int = 60
    upload_seconds: float = 300
    kept_megabytes: int = 2000
    kept_seconds: float = 3000
    under_way: int = 8
    address_under_way: int = 6
    unnamed_under_way: int = 3
    crowded_seconds: float = 60
    patience: float = 10
    waiting: int = 60
    visitor_waiting: int = 20
    sessions: int = 500
    work_seconds: Mapping[str, float] = field(
        default_factory=lambda: {
            "speak": 20,
            "animate": 300,
            "preview_words": 60,
            "refine_words": 600,
            "use_words": 20,
            "words": 300,
            "preview_emotions": 60,
            "preview_timeline": 60,
            "from_voice": 120,
            "timeline": 300,
            "load_adapter": 120,
            "load_adapter_files": 60,
            "unload_adapter": 20,
            "mix": 300,
            "push_adapter": 120,
            "compare": 1200,
        }
    )
    page_seconds: float = 60
    video_seconds: float = 300
    live_sessions: int = 4
    address_live_sessions: int = 2
    live_seconds: float = 1800
    live_quiet_seconds: float = 60
    live_backlog: float = 5

    def describe(self) -> str:
        return (
            f"Portraits up to {self.side} x {self.side} pixels, voices and driving videos up to {self.seconds:g} s, "
            f"files up to {self.megabytes} MB. Your files are deleted from the server within the hour."
        )

    def read_portrait(self, path: str | None) -> np.ndarray:
        """(H, W, 3) uint8.

        Raises:
            UserError: there is none, it is too large, or not a picture.
        """
        if not path:
            raise UserError("Give a portrait first: upload a picture, take one, or click an example.")
        self._check_file(path, "portrait")
        return read_image(path, self.side)

    def read_voice(self, path: str | None) -> Recording:
        """Raises UserError: there is no voice, it is too long, or not a recording."""
        if not path:
            raise UserError("Give a voice first: upload or record one, or click an example.")
        self._check_file(path, "voice")
        self._check_length(path, "audio", "voice")
        return read_audio(path, longest=self.seconds + 0.1)

    def check_driving_video(self, path: str | None) -> str:
        """The path.

        Raises:
            UserError: there is no video, it is too long or too large, or not a video.
        """
        if not path:
            raise UserError("Upload the driving video, or choose another head motion.")
        self._check_file(path, "driving video")
        width, height = self._check_length(path, "video", "driving video")
        if max(width, height) > self.video_side:
            raise UserError(
                f"The driving video has {width} x {height} pixels; up to {self.video_side} on a side are allowed here."
            )
        return path

    def _check_file(self, path: str, what: str) -> None:
        size = Path(path).stat().st_size / 1e6 if Path(path).is_file() else 0
        if size > self.megabytes:
            raise UserError(f"The {what} has {size:.0f} MB; up to {self.megabytes} MB are allowed here.")

    def _check_length(self, path: str, kind: str, what: str) -> tuple[int, int]:
        """Width and height of a video, (0, 0) for sound. Reads packets alone: a small file can hold hours."""
        with open_media(path, "recording" if kind == "audio" else "video") as container:
            streams = container.streams.audio if kind == "audio" else container.streams.video
            if not streams:
                raise UserError(f"The {what} has no {'sound' if kind == 'audio' else 'pictures'}.")
            stream, start, seconds = streams[0], None, 0.0
            try:
                for count, packet in enumerate(container.demux(stream)):
                    if packet.pts is not None and packet.time_base is not None:
                        start = packet.pts if start is None else start
                        seconds = float((packet.pts - start + (packet.duration or 0)) * packet.time_base)
                    # times may lie
                    too_many = kind == "video" and count > (self.seconds + 0.5) * MOST_FRAMES_A_SECOND
                    if seconds > self.seconds + 0.5 or too_many:
                        raise UserError(self._too_long(what))
                return (stream.width, stream.height) if kind == "video" else (0, 0)
            except UserError:
                raise
            except Exception as error:  # PyAV raises errors of many kinds about what it meets in a file
                raise UserError(f"The {what} {Path(path).name} cannot be read; is the file damaged?") from error

    def _too_long(self, what: str) -> str:
        return (
            f"The {what} is too long; up to {self.seconds:g} s are allowed here. Cut it, or run eat_hf on your machine."
        )
