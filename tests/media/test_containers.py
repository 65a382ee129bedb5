"""Sound and video come in by one door: plain files alone, and only so much of them."""

import io
import os
import resource
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import scipy.io.wavfile
from conftest import voice
from media_files import encoded, tracks, video, wav_header, written
from PIL import Image

from eat_hf.errors import InputWarning, UserError
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import read_video, write_video

# Names and formats


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scipy.io.wavfile.write("2026-11-27T12:30:00.wav", 16000, voice(0.5))
    recording = read_audio("2026-11-27T12:30:00.wav")
    assert recording.length == 8000
    write_video("take3:final.mp4", np.zeros((12, 64, 64, 3), np.uint8), recording)
    assert len(list(read_video("take3:final.mp4"))) == 12
    assert sorted(os.listdir(".")) == ["2026-11-27T12:30:00.wav", "take3:final.mp4"]


@pytest.mark.parametrize(
    "text, name",
    [
        ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n", "HLS"),
        ("ffconcat version 1.0\nfile {}\n", "ffconcat"),
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=audio 5004 RTP/AVP 0\n", "SDP"),
        ("<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>{}</MPD>", "DASH"),
    ],
)
@pytest.mark.parametrize("ending", ["m3u8", "wav", "mp4"])
def test_lists_of_other_files_are_refused_by_name(tmp_path, text, name, ending):
    secret = written(tmp_path / "secret.wav", encoded(voice(0.5)[None]))
    path = tmp_path / f"list.{ending}"
    path.write_text(text.format(secret))
    for read in (read_audio, lambda each: next(read_video(each))):
        with pytest.raises(UserError, match=name):
            read(path)


def test_pictures_are_no_media(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "frame%d.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "voice.jpg")
    for name in ("frame%d.png", "voice.jpg"):
        with pytest.raises(UserError, match="picture"):
            read_audio(tmp_path / name)


@pytest.mark.parametrize(
    "container, codec",
    [("aiff", "pcm_s16be"), ("caf", "pcm_s16le"), ("adts", "aac"), ("avi", "pcm_s16le"), ("webm", "libopus")],
)
def test_plain_containers_are_read(tmp_path, container, codec):
    rate = 48000 if codec == "libopus" else 16000
    path = written(tmp_path / f"voice.{container}", encoded(voice(1, rate)[None], rate, container, codec))
    assert read_audio(path).seconds == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("container, codec", [("flac", "flac"), ("ipod", "aac")])
def test_descriptions_in_other_alphabets_do_not_matter(tmp_path, container, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        output.metadata["title"] = "marker"
        stream = output.add_stream(codec, rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(voice(0.5)[None], "fltp", "mono")
        frame.rate = 16000
        stream.codec_context.open()
        resampler = av.AudioResampler(stream.format, "mono", 16000, stream.codec_context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(part))
    data = file.getvalue()
    assert b"marker" in data
    path = written(tmp_path / f"title.{container}", data.replace(b"marker", b"\xff\xfe\xe9\xe8\x80\x81"))
    recording = read_audio(path)
    assert recording.seconds == pytest.approx(0.5, abs=0.1) and set(recording.tags) <= {"title"}


# Limits


@pytest.mark.parametrize("rate", [1, 3999, 400_000])
def test_rates_that_nothing_is_recorded_at(tmp_path, rate):
    with pytest.raises(UserError, match=f"{rate} Hz"):
        read_audio(written(tmp_path / "rate.wav", wav_header(rate)))
    with pytest.raises(UserError, match=f"not {rate}"):
        read_audio((voice(0.5), rate))


def test_no_bits_a_sample(tmp_path):
    with pytest.raises(UserError, match="codec"):
        read_audio(written(tmp_path / "bits0.wav", wav_header(bits=0)))


def test_too_many_channels(tmp_path):
    with pytest.raises(UserError):
        read_audio(written(tmp_path / "many.wav", wav_header(channels=1000)))


def test_limits_hold_though_packet_times_lie(tmp_path):
    data = tracks([(np.tile(voice(10, 8000), 4)[None], 8000, "flac", "mono")], step=0)
    path = written(tmp_path / "zero.mkv", data)
    assert read_audio(path).seconds == pytest.approx(40)
    with pytest.raises(UserError, match="longer than 30 s"):
        read_audio(path, longest=30)


def test_hours_in_a_small_file_stop_at_the_limit_without_filling_the_memory(tmp_path):
    """Twenty minutes of silence in little, 77 MB once heard."""
    program = (
        "import sys, resource, av, numpy as np\n"
        "from eat_hf.media import recordings\nfrom eat_hf.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    recordings.read_audio(sys.argv[1], longest=60)\n"
        "except UserError as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    silence = tracks([(np.zeros((1, 8000 * 1200), np.float32), 8000, "flac", "mono")])
    path = written(tmp_path / "long.mkv", silence)
    assert path.stat().st_size < 4e5
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    said, memory = run.stdout.splitlines()
    assert "longer than 60 s" in said and int(memory) < 50_000  # kilobytes


def test_a_clock_that_jumps_or_stands_still_bounds_the_frames(tmp_path):
    for times, expected in (([0, 0, 0, 0, 0, 0], range(5, 8)), ([0, 1, 2, 10**9, 10**9 + 1], None)):
        file = io.BytesIO()
        with av.open(file, "w", format="matroska") as output:
            stream = output.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            packets = []
            for number in range(len(times)):
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), format="rgb24")
                picture.pts = number
                packets += stream.encode(picture)
            packets += stream.encode(None)
            for packet, time in zip(packets, times, strict=True):
                packet.pts = packet.dts = time
                output.mux(packet)
        path = written(tmp_path / "clock.mkv", file.getvalue())
        if expected is None:
            with pytest.raises(UserError, match="hours"):
                for _ in read_video(path):
                    pass
        else:
            assert len(list(read_video(path))) in expected


def test_reading_leaves_other_processes_memory_alone(tmp_path):
    """Sizes that only a header claims are not believed: half a gigabyte is enough for any small file."""
    data = bytearray(wav_header())
    data[40:44] = b"\xff\xff\xff\x7f"
    path = written(tmp_path / "claims.wav", bytes(data))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_audio(path).length == 16000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


# Channels and tracks


@pytest.mark.parametrize("channel", range(6))
def test_a_voice_on_any_of_six_channels_is_heard(tmp_path, channel):
    sound = np.zeros((6, 16000), np.float32)
    sound[channel] = voice(1)
    recording = read_audio(written(tmp_path / "six.wav", encoded(sound, layout="5.1")))
    np.testing.assert_allclose(recording.waveform, voice(1), atol=1e-3)
    np.testing.assert_allclose(recording.samples[0], voice(1), atol=1e-3)
    assert recording.channels == 1


def test_sixty_channels(tmp_path):
    sound = np.zeros((8000, 60), np.float32)
    sound[:, 41] = voice(1, 8000)
    scipy.io.wavfile.write(tmp_path / "sixty.wav", 8000, sound)
    recording = read_audio(tmp_path / "sixty.wav")
    np.testing.assert_allclose(recording.samples[0], voice(1, 8000), atol=1e-5)


def test_a_voice_on_the_fourth_of_six_tracks(tmp_path):
    sounds = [np.zeros((1, 16000), np.float32)] * 3 + [voice(1)[None]] + [np.zeros((1, 16000), np.float32)] * 2
    path = written(tmp_path / "six.mkv", tracks([(sound, 16000, "flac", "mono") for sound in sounds]))
    with pytest.warns(InputWarning, match="track 3 is used"):
        np.testing.assert_allclose(read_audio(path).waveform, voice(1), atol=1e-3)


@pytest.mark.parametrize("form", ["file", "array"])
@pytest.mark.parametrize("gain", [-0.99, -0.8, -0.5, -0.25, "half of the time"])
def test_opposite_phase_gives_the_louder_channel_and_a_warning(tmp_path, form, gain):
    if gain == "half of the time":
        gain = np.repeat([0.9, -0.9], 8000)
    sound = np.stack([gain * voice(1), voice(1)]).astype(np.float32)
    scipy.io.wavfile.write(tmp_path / "phase.wav", 16000, sound.T)
    with pytest.warns(InputWarning, match="opposite phase"):
        recording = read_audio(tmp_path / "phase.wav" if form == "file" else (sound, 16000))
    np.testing.assert_allclose(recording.waveform, voice(1), atol=1e-5)
    np.testing.assert_allclose(recording.first(0.5).samples[0], voice(1)[:8000], atol=1e-5)


@pytest.mark.filterwarnings("error::eat_hf.errors.InputWarning")
@pytest.mark.parametrize("kind", ["alike", "on one side", "noise", "late", "another voice", "a little opposite"])
def test_channels_that_do_not_cancel_are_both_heard(kind):
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    other = {
        "alike": voice(1), "on one side": 0 * noise, "noise": 0.02 * noise, "late": np.roll(voice(1), 40),
        "another voice": voice(3)[32000:], "a little opposite": -0.05 * voice(1),
    }[kind]  # fmt: skip
    recording = read_audio((np.stack([voice(1), other]), 16000))
    assert recording.channels == 2
    np.testing.assert_allclose(recording.waveform, (voice(1) + other) / 2, atol=1e-5)


def test_the_track_with_sound_is_taken_and_any_can_be_chosen(tmp_path):
    silence, low = np.zeros((1, 48000), np.float32), 0.5 * voice(1)[None]
    data = tracks(
        [(silence, 48000, "flac", "mono"), (voice(1)[None], 16000, "flac", "mono"), (low, 16000, "flac", "mono")]
    )
    path = written(tmp_path / "tracks.mkv", data)
    with pytest.warns(InputWarning, match="track 1 is used"):
        recording = read_audio(path)
    np.testing.assert_allclose(recording.waveform, voice(1), atol=1e-3)
    np.testing.assert_allclose(recording.samples[0], voice(1), atol=1e-3)
    np.testing.assert_allclose(read_audio(path, audio_track=2).waveform, low[0], atol=1e-3)
    assert not read_audio(path, audio_track=0).waveform.any()
    for wrong in (3, -1):
        with pytest.raises(UserError, match=f"no audio track {wrong}: .* 3 sound tracks"):
            read_audio(path, audio_track=wrong)


@pytest.mark.filterwarnings("error::eat_hf.errors.InputWarning")
@pytest.mark.parametrize(
    "first, second",
    [
        ((24000, "mono"), (44100, "stereo")),
        ((44100, "stereo"), (16000, "mono")),
        ((24000, "mono"), (24000, "stereo")),
    ],
)
def test_joined_pieces_keep_their_speed(tmp_path, first, second):
    """As speech services give them, one MP3 after the other; every piece is 1.5 s of the same voice."""
    data = b""
    for rate, layout in (first, second):
        sound = np.repeat(voice(1.5, rate)[None], 1 if layout == "mono" else 2, 0)
        data += encoded(sound, rate, "mp3", "libmp3lame", layout)
    recording = read_audio(written(tmp_path / "pieces.mp3", data))
    assert recording.seconds == pytest.approx(3, abs=0.25)
    spoken = voice(1.5)[4000:16000]
    for part in np.array_split(recording.waveform, 2):
        windows = np.lib.stride_tricks.sliding_window_view(part, len(spoken))[:12000]
        alike = windows @ spoken / np.linalg.norm(windows, axis=1) / np.linalg.norm(spoken)
        assert alike.max() > 0.97


# Videos


def test_pixels_that_are_not_square_become_so(tmp_path):
    frames = np.zeros((3, 72, 96, 3), np.uint8)
    frames[:, :, 48:] = 220
    wide = next(read_video(video(tmp_path / "hdv.mp4", frames, aspect=Fraction(4, 3))))
    assert wide.shape == (72, 128, 3) and wide[:, :60].mean() < 20 and wide[:, 68:].mean() > 190
    assert next(read_video(video(tmp_path / "tall.mp4", frames, aspect=Fraction(1, 2)))).shape == (144, 96, 3)


def test_a_size_that_changes_on_the_way(tmp_path):
    parts = [np.full((5, 64, 96, 3), 200, np.uint8), np.full((5, 96, 64, 3), 200, np.uint8)]
    data = b"".join(video(tmp_path / f"{n}.ts", part, "mpegts").read_bytes() for n, part in enumerate(parts))
    frames = list(read_video(written(tmp_path / "joined.ts", data)))
    assert {frame.shape for frame in frames} == {(64, 96, 3)} and len(frames) >= 9
    assert frames[-1][:, 48].mean() > 180 and frames[-1][:, 2].mean() < 20  # all of it, black beside it
