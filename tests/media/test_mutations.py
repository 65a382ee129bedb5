"""Whatever bytes a file has, reading it gives a result or one sentence."""

import warnings

import numpy as np
import pytest
from conftest import voice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import encoded, small_picture, small_video

from eat_hf.errors import InputWarning, UserError
from eat_hf.media.pictures import read_image
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import read_video

SOUNDS = {
    "wav": ("wav", "pcm_s16le", 16000),
    "mp3": ("mp3", "libmp3lame", 16000),
    "opus": ("ogg", "libopus", 48000),
    "flac": ("flac", "flac", 16000),
    "m4a": ("ipod", "aac", 16000),
    "mkv": ("matroska", "libopus", 48000),
    "aac": ("adts", "aac", 16000),
    "aiff": ("aiff", "pcm_s16be", 16000),
}
VIDEOS = {"mp4": ("mp4", "libx264"), "webm": ("webm", "libvpx"), "avi": ("avi", "mpeg4")}
PICTURES = {
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "avif": "AVIF",
    "tif": "TIFF",
    "gif": "GIF",
    "bmp": "BMP",
    "heic": "HEIF",
}


@pytest.fixture(scope="module")
def files() -> list[tuple[str, bytes]]:
    """(ending, bytes) of a small valid file of every kind."""
    sounds = [(ending, encoded(voice(0.5, c[2])[None], c[2], c[0], c[1])) for ending, c in SOUNDS.items()]
    videos = [(ending, small_video(*choice)) for ending, choice in VIDEOS.items()]
    pictures = [(ending, small_picture(kind)) for ending, kind in PICTURES.items()]
    return sounds + videos + pictures


places = st.floats(0, 1, exclude_max=True)
words = st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80", b"\xe9"])
changes = st.one_of(
    st.tuples(st.just("overwrite"), places, st.one_of(words, st.binary(min_size=1, max_size=16))),
    st.tuples(st.just("overwrite header"), places, st.one_of(words, st.binary(min_size=1, max_size=4))),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("delete"), places, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("cut"), places, st.just(b"")),
)


def mutated(data: bytes, edits) -> bytes:
    for kind, place, value in edits:
        length = min(len(data), 200) if kind == "overwrite header" else len(data)
        start = int(place * length)
        if kind == "cut":
            data = data[: max(start, 1)]
        elif kind == "insert":
            data = data[:start] + value + data[start:]
        elif kind == "delete":
            data = data[:start] + data[start + len(value) :] or b"\0"
        else:
            data = data[:start] + value + data[start + len(value) :]
    return data


def read(path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", InputWarning)
        try:
            if path.suffix[1:] in PICTURES:
                picture = read_image(path)
                assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
            elif path.suffix[1:] in VIDEOS:
                shapes = {frame.shape for frame in read_video(path, 200)}
                assert len(shapes) == 1
            else:
                recording = read_audio(path)
                assert np.isfinite(recording.waveform).all() and recording.seconds >= 0.2
        except UserError as error:
            assert len(str(error).splitlines()) == 1


def check(files, folder, choice, edits) -> None:
    ending, data = files[choice % len(files)]
    path = folder / f"mutated.{ending}"
    path.write_bytes(mutated(data, edits))
    read(path)


edited = given(choice=st.integers(0, 18), edits=st.lists(changes, min_size=1, max_size=5))
common = dict(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@edited
@settings(max_examples=150, **common)
def test_mutated_files_give_a_result_or_a_sentence(files, tmp_path_factory, choice, edits):
    check(files, tmp_path_factory.getbasetemp(), choice, edits)


@pytest.mark.slow
@edited
@settings(max_examples=5000, **common)
def test_thousands_of_mutated_files(files, tmp_path_factory, choice, edits):
    check(files, tmp_path_factory.getbasetemp(), choice, edits)
