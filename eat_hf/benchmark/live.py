"""How far live frames are behind their sound: `eat-hf benchmark --live`."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..inputs.numbers import FrameSize
from ..media.files import write_atomically
from ..media.recordings import read_audio
from ..pipeline.pipeline_eat import EATPipeline
from ..serving.live_stream import LiveFrame, LiveStream
from .measure import describe_machine

PIECE = 0.02  # seconds of sound that come at a time, as from a microphone
COLUMNS = ("size", "sessions", "delay, median", "delay, 99 %", "sound to picture", "dropped", "share of real time")


@dataclass(frozen=True)
class LiveRow:
    """Some sessions at once.

    Attributes:
        size: side of the frames; sessions: how many.
        median, late: seconds from the sound that makes a frame certain to the frame, median and 99th percentile.
        latency: seconds of sound after a frame that the networks must hear, beside that.
        dropped: share of the frames that there was no time for.
        share: seconds that a session's thread worked, for each second of its sound.
    """

    size: FrameSize
    sessions: int
    median: float
    late: float
    latency: float
    dropped: float
    share: float

    def cells(self) -> tuple[str, ...]:
        """As the table's columns have it."""
        behind = f"{self.latency + self.median:.2f} s"
        delays = f"{1000 * self.median:.0f} ms", f"{1000 * self.late:.0f} ms"
        return str(self.size), str(self.sessions), *delays, behind, f"{self.dropped:.0%}", f"{self.share:.2f}"


@dataclass(frozen=True)
class LiveReport:
    """What was found on a machine."""

    machine: dict[str, Any]
    rows: tuple[LiveRow, ...]

    def save(self, folder: Path) -> Path:
        """Write live.json into a folder, which is made if there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "live.json"
        write_atomically(path, json.dumps(asdict(self), indent=2) + "\n")
        return path


def run_live_benchmark(
    pipe: EATPipeline, image: str, audio: str, seconds: float, sizes: Sequence[FrameSize], sessions: Sequence[int]
) -> LiveReport:
    """Play a recording into some sessions at once, in real time, and see when their frames come.

    Args:
        seconds: of sound; the recording begins again where it is shorter.

    Raises:
        UserError: the model does not hear as it goes, or an input cannot be used.
    """
    recording = read_audio(audio)
    rate, sound = recording.sampling_rate, recording.samples
    sound = np.tile(sound, -(-round(seconds * rate) // sound.shape[1]))[:, : round(seconds * rate)]
    rows = [measure_live(pipe, image, sound, rate, size, count) for size in sizes for count in sessions]
    return LiveReport(describe_machine(torch.device(pipe.device)), tuple(rows))


def measure_live(
    pipe: EATPipeline, image: str, sound: np.ndarray, rate: int, size: FrameSize, sessions: int
) -> LiveRow:
    """So many sessions at once, fed in real time with sound (channels, N)."""
    frames: list[LiveFrame] = []
    streams = [
        LiveStream(pipe.live(image, emotion="happy", generator=0, size=size), rate, frames.append)
        for _ in range(sessions)
    ]
    threads = [threading.Thread(target=stream.run, daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    began, step = time.monotonic(), round(PIECE * rate)
    for at in range(0, sound.shape[1], step):
        time.sleep(max(0.0, began + (at + step) / rate - time.monotonic()))
        for stream in streams:
            stream.push(sound[:, at : at + step])
    for stream in streams:
        stream.finish()
    for thread in threads:
        thread.join()
    delays = np.array([frame.delay for frame in frames])
    made, dropped = (sum(getattr(stream, name) for stream in streams) for name in ("made", "dropped"))
    return LiveRow(
        size,
        sessions,
        float(np.median(delays)),
        float(np.quantile(delays, 0.99)),
        streams[0].session.latency,
        dropped / (made + dropped),
        sum(stream.worked for stream in streams) / sum(stream.heard for stream in streams),
    )
