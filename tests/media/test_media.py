import math
import os
import resource
import subprocess
import sys

import av
import imageio_ffmpeg
import numpy as np
import pytest
import scipy.io.wavfile
from conftest import voice
from PIL import Image

from eat_hf.constants import FPS
from eat_hf.errors import InputWarning, UserError
from eat_hf.media.pictures import read_image
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import VideoWriter, read_video, write_video

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*arguments, **options) -> bytes:
    """Another program's view of our files."""
    command = [FFMPEG, "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, **options).stdout


def decoded_frames(path, height, width):
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def decoded_sound(path, rate):
    return np.frombuffer(ffmpeg("-i", path, "-f", "f32le", "-ac", "1", "-ar", rate, "-"), np.float32)


def wav(path, samples, rate=16000):
    scipy.io.wavfile.write(path, rate, samples)
    return path


def moving_frames(count, height=64, width=96):
    frames = np.full((count, height, width, 3), (200, 40, 20), np.uint8)
    for i, frame in enumerate(frames):
        frame[:, : 4 + i % (width - 8)] = (20, 160, 220)
    return frames


# Pictures


def test_a_picture_is_seen_as_a_viewer_sees_it(tmp_path):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = 255
    turned = Image.fromarray(np.rot90(upright))  # stored lying on its side ...
    exif = turned.getexif()
    exif[0x0112] = 6  # ... to be shown turned clockwise
    turned.save(tmp_path / "phone.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "phone.png"), upright)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_on_white(tmp_path, mode):
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.putpixel((0, 0), (0, 0, 0, 255))
    if mode == "PA":
        picture.convert("P").save(tmp_path / "picture.png", transparency=picture.convert("P").getpixel((1, 1)))
        assert (read_image(tmp_path / "picture.png")[1, 1] == 255).all()
        return
    picture.convert(mode).save(tmp_path / "picture.png")
    pixels = read_image(tmp_path / "picture.png")
    assert (pixels[0, 0] == 0).all() and (pixels[1, 1] == 255).all()


@pytest.mark.parametrize("mode", ["L", "CMYK", "1"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    Image.new("RGB", (5, 3), "white").convert(mode).save(tmp_path / "picture.tiff")
    pixels = read_image(tmp_path / "picture.tiff")
    assert pixels.shape == (3, 5, 3) and pixels.dtype == np.uint8 and (pixels > 250).all()


def test_sixteen_bits_keep_their_grey(tmp_path):
    Image.fromarray(np.full((2, 2), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == 128).all()


def test_arrays_and_pil_pictures_pass():
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(read_image(array), array) and np.array_equal(read_image(Image.fromarray(array)), array)


def test_wrong_pictures_are_user_errors(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.effect_noise((200, 200), 90).save(tmp_path / "whole.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    for given, words in (
        ("none.jpg", "does not exist"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a picture"),
        ("damaged.png", "damaged"),
        (".", "folder"),
    ):
        with pytest.raises(UserError, match=words):
            read_image(tmp_path / given)
    for array in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(UserError, match="array"):
            read_image(array)
    with pytest.raises(UserError, match="path"):
        read_image(7)


# Recordings


@pytest.mark.parametrize("extension", ["wav", "mp3", "m4a", "ogg", "flac", "mkv"])
def test_whatever_ffmpeg_reads(tmp_path, extension):
    source = wav(tmp_path / "source.wav", np.stack([voice(1.0, 44100)] * 2, 1), 44100)
    path = tmp_path / f"voice.{extension}"
    ffmpeg("-i", source, path)
    recording = read_audio(path)
    assert recording.samples.shape[0] == 2 and recording.sampling_rate in (44100, 48000)
    assert recording.waveform.dtype == np.float32 and abs(len(recording.waveform) - 16000) < 1300
    reference = read_audio(source).waveform
    part = reference[4000:8000]
    windows = np.lib.stride_tricks.sliding_window_view(recording.waveform[2700:9300], 4000)
    # lossy codecs may start a little early or late
    assert (windows @ part / np.linalg.norm(windows, axis=1) / np.linalg.norm(part)).max() > 0.97


def test_numbers_of_samples_are_exact(tmp_path):
    recording = read_audio(wav(tmp_path / "voice.wav", voice(1.013, 48000), 48000))
    assert recording.samples.shape == (1, 48624) and len(recording.waveform) == 16208
    assert recording.seconds == pytest.approx(1.013) and recording.num_frames == 26


def test_resampling_does_not_shift_the_sound():
    samples = np.zeros(48000, np.float32)
    samples[24000] = 1
    assert abs(int(np.abs(read_audio((samples, 48000)).waveform).argmax()) - 8000) <= 1


@pytest.mark.parametrize(
    "samples",
    [
        (voice(0.5) * 32767).astype(np.int16),
        (voice(0.5) * 2**31).astype(np.int32),
        np.round(voice(0.5) * 127 + 128).astype(np.uint8),
        voice(0.5).astype(np.float64),
        np.stack([voice(0.5)] * 2),
        np.stack([voice(0.5)] * 2, 1),
        np.stack([voice(0.5)] * 6, 1),
    ],
    ids=["int16", "int32", "uint8", "float64", "channels first", "channels last", "six channels"],
)
def test_arrays_of_every_kind(samples):
    recording = read_audio((samples, 16000))
    assert np.abs(recording.waveform - voice(0.5)).max() < 0.02
    assert recording.samples.shape[0] == (2 if samples.ndim == 2 and 2 in samples.shape else 1)


@pytest.mark.parametrize("rate", [44100, 37800])
def test_sound_stays_in_its_file_until_it_is_needed(tmp_path, rate):
    source = wav(tmp_path / "voice.wav", np.stack([voice(3.0, rate), 0.5 * voice(3.0, rate)], 1), rate)
    recording = read_audio(source)
    pieces = list(recording.sound())
    assert recording.source == source and len(pieces) > 3
    np.testing.assert_array_equal(np.concatenate(pieces, 1), recording.samples)
    np.testing.assert_array_equal(recording.first(1.1).samples, recording.samples[:, : round(1.1 * rate)])
    heard = recording.waveform
    recording.forget()
    assert recording.waveform is not heard and recording.waveform is recording.waveform
    np.testing.assert_array_equal(recording.waveform, heard)
    beginning = recording.first(1.1).waveform
    assert len(beginning) == math.ceil(round(1.1 * rate) * 16000 / rate)
    np.testing.assert_allclose(beginning[:-200], heard[: len(beginning) - 200], atol=1e-4)  # the filter sees the end
    frames = moving_frames(75)
    write_video(tmp_path / "from_file.mp4", frames, recording)
    write_video(tmp_path / "from_samples.mp4", frames, recording.samples, rate)
    heard = [decoded_sound(tmp_path / f"from_{what}.mp4", 16000) for what in ("file", "samples")]
    np.testing.assert_array_equal(*heard)
    assert np.abs(heard[0]).max() > 0.05
    source.unlink()
    with pytest.raises(UserError, match="voice.wav"):
        write_video(tmp_path / "gone.mp4", frames, recording)
    assert not (tmp_path / "gone.mp4").exists() and len(os.listdir(tmp_path)) == 2


def test_recordings_of_samples_come_in_pieces_too():
    recording = read_audio((np.stack([voice(2.5)] * 2), 16000)).first(2.2)
    pieces = list(recording.sound())
    assert [piece.shape for piece in pieces] == [(2, 16000), (2, 16000), (2, 3200)]
    np.testing.assert_array_equal(np.concatenate(pieces, 1), recording.samples)


def test_wrong_recordings_are_user_errors(tmp_path, portrait_file):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(5000))
    wav(tmp_path / "short.wav", voice(0.15))
    wav(tmp_path / "header.wav", np.zeros(0, np.float32))
    bad = voice(0.5)
    bad[100] = np.nan
    wav(tmp_path / "nan.wav", bad)
    write_video(tmp_path / "silent.mp4", moving_frames(5))
    for given, words in (
        (tmp_path / "none.wav", "does not exist"),
        (tmp_path / "empty.wav", "empty"),
        (tmp_path / "noise.wav", "cannot be read"),
        (tmp_path / "short.wav", "0.15 s"),
        (tmp_path / "header.wav", "no sound"),
        (tmp_path / "nan.wav", "NaN"),
        (tmp_path / "silent.mp4", "no sound"),
        (portrait_file, "no sound"),
        (tmp_path, "folder"),
        ((bad, 16000), "NaN"),
        ((voice(0.1), 16000), "0.10 s"),
        ((voice(0.5), 0), "sampling rate"),
        ((np.zeros(0), 16000), "non-empty"),
        ((np.zeros((2, 3, 4000)), 16000), "shape"),
        ((voice(0.5),), "tuple"),
    ):
        with pytest.raises(UserError, match=words):
            read_audio(given)


# Videos


def test_colours_frames_and_sound_survive(tmp_path):
    frames = moving_frames(30)
    samples = np.stack([voice(1.2, 44100), 0.5 * voice(1.2, 44100)])
    write_video(tmp_path / "out.mp4", frames, samples, 44100)
    decoded = decoded_frames(tmp_path / "out.mp4", 64, 96)
    assert decoded.shape == frames.shape and np.abs(decoded.astype(int) - frames).mean() < 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt, sound.codec_context.name) == ("h264", "yuv420p", "aac")
        assert video.average_rate == 25 and sound.channels == 2
        assert "AI-generated" in container.metadata["comment"]
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded whole
    assert os.listdir(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("extension", ["wav", "mp3", "m4a", "ogg", "flac", "mkv"])
def test_the_recordings_own_tags_stay(tmp_path, extension):
    stated = {"title": "Prélude\n in C\x07", "artist": "Zoë  Ång", "copyright": "(c) " + "2026 " * 300}
    tags = [part for name, text in stated.items() for part in ("-metadata", f"{name}={text}")]
    path = tmp_path / f"speech.{extension}"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", *tags, "-metadata", "comment=made by hand", str(path))
    write_video(tmp_path / "out.mp4", moving_frames(3), read_audio(path))
    with av.open(str(tmp_path / "out.mp4")) as container:
        written = container.metadata
    assert "AI-generated" in written["comment"]
    assert written["artist"] == "Zoë Ång" and written["title"] in ("Prélude in C", "Prélude")  # wav ends at the line
    assert written["copyright"].startswith("(c) 2026 2026") and len(written["copyright"]) <= 500


def test_tags_of_an_encoding_that_nothing_states_stay_and_those_that_belie_theirs_are_damaged(tmp_path):
    for ending, more in (("wav", ()), ("mp3", ("-id3v2_version", "4"))):
        path = tmp_path / f"speech.{ending}"
        ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", "-metadata", "artist=Zoë Ång", *more, str(path))
        path.write_bytes(path.read_bytes().replace("Zoë Ång".encode(), "Zoë Ång\0\0".encode("cp1252")))
    assert read_audio(tmp_path / "speech.wav").tags == {"artist": "Zoë Ång"}
    with pytest.raises(UserError, match="its tags are damaged"):
        read_audio(tmp_path / "speech.mp3")


def test_recordings_without_tags_give_none(tmp_path):
    wav(tmp_path / "plain.wav", np.zeros(8000, np.float32))
    assert read_audio(tmp_path / "plain.wav").tags == read_audio((voice(0.5), 16000)).tags == {}


@pytest.mark.parametrize("rate", [16000, 22050, 48000, 37800])
def test_sound_and_picture_are_in_sync(tmp_path, rate):
    """A click and a flash at the same times, among them in the last frame."""
    flashes = [5, 31, 49]
    frames = np.zeros((50, 64, 64, 3), np.uint8)
    samples = np.zeros((1, 2 * rate), np.float32)
    for flash in flashes:
        frames[flash] = 255
        samples[0, flash * rate // 25 + np.arange(rate // 100)] = np.hanning(rate // 100)
    write_video(tmp_path / "out.mp4", frames, samples, rate)
    brightness = decoded_frames(tmp_path / "out.mp4", 64, 64).mean((1, 2, 3))
    assert np.flatnonzero(brightness > 128).tolist() == flashes and len(brightness) == 50
    sound = decoded_sound(tmp_path / "out.mp4", 16000)
    assert abs(len(sound) - 32000) <= 640  # the same length to within a frame
    for flash in flashes:
        near = np.abs(sound[max(0, flash * 640 - 1280) : flash * 640 + 1280])
        click = near.argmax() + max(0, flash * 640 - 1280)
        assert near.max() > 0.3 and abs(click - (flash * 640 + 80)) < 80  # 5 ms; a frame is 640 samples


def test_odd_sizes_grow_to_even_ones(tmp_path):
    frames = moving_frames(3, 63, 95)
    write_video(tmp_path / "out.mp4", frames)
    decoded = decoded_frames(tmp_path / "out.mp4", 64, 96)
    assert np.abs(decoded[:, :63, :95].astype(int) - frames).mean() < 4


def test_frames_may_come_in_any_portions(tmp_path):
    frames = moving_frames(12)
    with VideoWriter(tmp_path / "out.mp4") as video:
        video.write(frames[:5])
        video.write(iter(frames[5:]))
    assert len(decoded_frames(tmp_path / "out.mp4", 64, 96)) == 12


def test_an_error_leaves_nothing_and_keeps_the_older_file(tmp_path):
    (tmp_path / "out.mp4").write_text("older")
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "out.mp4", voice(1)[None], 16000) as video:
        video.write(moving_frames(12))
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["out.mp4"] and (tmp_path / "out.mp4").read_text() == "older"


def test_names_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for name, words in (
        ("out.avi", "must end in .mp4"),
        ("out", "must end in .mp4"),
        ("none/out.mp4", "does not exist"),
        ("folder.mp4", "is a folder"),
    ):
        with pytest.raises(UserError, match=words):
            VideoWriter(tmp_path / name)


@pytest.mark.parametrize("limit", [1_000, 100_000, "almost"])
def test_a_full_disk_is_a_user_error_and_leaves_nothing(tmp_path, limit):
    """The system stops a process's files at a size, as a full disk would."""
    program = (
        "import sys, numpy as np; from eat_hf.media.videos import write_video\n"
        "frames = np.random.default_rng(0).integers(0, 256, (15, 128, 128, 3)).astype(np.uint8)\n"
        "write_video(sys.argv[1], frames, np.zeros((1, 9600), np.float32), 16000)"
    )
    target = tmp_path / "out.mp4"
    command = [sys.executable, "-c", program, str(target)]
    if limit == "almost":  # the sound and pictures fit, moving the index to the front does not
        subprocess.run(command, check=True)
        limit = target.stat().st_size - 1
        target.unlink()
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert run.returncode == 1 and "UserError: No space left" in run.stderr
    assert os.listdir(tmp_path) == []


def test_videos_are_read_at_25_frames(tmp_path):
    """From 50, 10 and 25 frames a second, each frame shows what a viewer sees at that time."""
    for rate in (50, 10, 25):
        count = 2 * rate
        frames = np.empty((count, 64, 64, 3), np.uint8)
        frames[:] = (np.arange(count) * 2 * 50 // rate + 20)[:, None, None, None].clip(max=235)
        write_video(tmp_path / "in.mp4", frames, fps=rate)
        read = np.array([frame.mean() for frame in read_video(tmp_path / "in.mp4")])
        assert abs(len(read) - 50) <= math.ceil(25 / rate)
        shown = frames[(np.arange(len(read)) * rate // 25).clip(max=count - 1), 0, 0, 0]
        assert np.abs(read - shown).max() < 5
    assert len(list(read_video(tmp_path / "in.mp4", max_frames=7))) == 7


def test_a_phones_video_stands_upright(tmp_path):
    frames = np.zeros((5, 64, 128, 3), np.uint8)
    frames[:, :32] = 220  # bright above
    write_video(tmp_path / "lying.mp4", frames)
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "lying.mp4", "-c", "copy", tmp_path / "phone.mp4")
    expected = decoded_frames(tmp_path / "phone.mp4", 128, 64)[0]  # the program turns it by itself
    assert np.abs(next(read_video(tmp_path / "phone.mp4")).astype(int) - expected).mean() < 4


def test_wrong_videos_are_user_errors(tmp_path, recording_file):
    (tmp_path / "text.mp4").write_text("not a video at all")
    for given, words in (
        (tmp_path / "none.mp4", "does not exist"),
        (tmp_path / "text.mp4", "cannot be read"),
        (recording_file, "no pictures"),
    ):
        with pytest.raises(UserError, match=words):
            list(read_video(given))


def test_damage_in_the_middle_is_a_warning(tmp_path):
    source = wav(tmp_path / "source.wav", voice(3.0))
    ffmpeg("-i", source, "-c:a", "aac", tmp_path / "voice.m4a")
    data = bytearray((tmp_path / "voice.m4a").read_bytes())
    middle = data.index(b"mdat") + 8000
    data[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    (tmp_path / "damaged.m4a").write_bytes(data)
    with pytest.warns(InputWarning, match="damaged"):
        recording = read_audio(tmp_path / "damaged.m4a")
    assert 1.5 < recording.seconds < 3


def test_real_recordings(real_inputs):
    for name, seconds, channels in (("chinese_48k_stereo.wav", 3.376, 2), ("english_48k.m4a", 16.57, 1)):
        recording = read_audio(real_inputs / name)
        assert recording.seconds == pytest.approx(seconds, abs=0.03) and len(recording.samples) == channels
        assert recording.num_frames == math.ceil(recording.seconds * FPS)
        assert 0.01 < recording.waveform.std() < 0.5
