"""Writing the files of a clip, whoever made it: complete, or not there at all.

A file is written under a name with ``.part.`` in it and renamed when it is whole; what a killed run leaves behind is
removed by ``remove_leftovers``. The npz comes last and holds the clip's line of metadata.jsonl: a clip is finished
when its npz is there.
"""

from __future__ import annotations

import io
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from eat_hf.constants import FPS, SAMPLING_RATE
from eat_hf.media.files import whole_file

__all__ = [
    "package_versions",
    "read_metadata",
    "read_video",
    "remove_leftovers",
    "through_video",
    "write_labels",
    "write_picture",
    "write_video",
    "write_wav",
]


def write_video(path: Path, frames: np.ndarray, crf: int, preset: str = "veryfast") -> None:
    """H.264 at the quality ``crf``, of frames (T, H, W, 3) uint8 RGB at 25 a second; faster presets of x264 make larger
    files."""
    with whole_file(path) as part:
        _encode(str(part), frames, crf, preset)


def _encode(target, frames: np.ndarray, crf: int, preset: str) -> None:
    import av
    from av.video.reformatter import Interpolation

    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    # One thread: the same bytes on every machine, and the workers already use all cores.
    options = {"crf": str(crf), "preset": preset, "threads": "1", "bf": "0"}
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation=exact)))
        container.mux(stream.encode(None))


def read_video(source) -> np.ndarray:
    """All frames (T, H, W, 3) uint8 RGB of a path or file."""
    import av
    from av.video.reformatter import Interpolation

    # The default conversion truncates: every picture would be a grey level too dark, with blocky colours.
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    with av.open(source) as container:
        return np.stack([frame.reformat(format="rgb24", interpolation=exact).to_ndarray()
                         for frame in container.decode(video=0)])  # fmt: skip


def through_video(frames: np.ndarray, crf: int) -> np.ndarray:
    """What is left of frames (T, H, W, 3) after H.264 at the quality ``crf``."""
    film = io.BytesIO()
    _encode(film, frames, crf, "ultrafast")
    film.seek(0)
    return read_video(film)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """A PNG of (H, W, 3) uint8 RGB."""
    from PIL import Image

    with whole_file(path) as part:
        Image.fromarray(picture).save(part, compress_level=2)  # higher ones take thrice as long for a tenth less


def write_wav(path: Path, waveform: np.ndarray) -> None:
    """16-bit samples of a waveform (N,) in [-1, 1] at 16 kHz."""
    import soundfile

    with whole_file(path) as part:
        soundfile.write(part, waveform, SAMPLING_RATE, subtype="PCM_16")


def write_labels(path: Path, labels: dict, metadata: dict) -> None:
    """The npz of the clip: arrays, and the metadata line."""
    with whole_file(path) as part:
        np.savez_compressed(part, **labels, metadata=np.array(json.dumps(metadata, ensure_ascii=False)))


def read_metadata(path: Path) -> dict:
    """The metadata line that ``write_labels`` has put into an npz."""
    with np.load(path) as stored:
        return json.loads(str(stored["metadata"]))


def remove_leftovers(clips: Path) -> None:
    """Remove the unfinished files of an interrupted run."""
    for leftover in clips.glob("*.part.*"):
        leftover.unlink()


def package_versions(*packages: str) -> dict[str, str]:
    """Python's version and those of installed packages, for corpus.json."""
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
