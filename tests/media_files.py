"""Files of sound, video and pictures as other programs write them, whole and damaged."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pillow_heif
from PIL import Image


def encoded(sound, rate=16000, container="wav", codec="pcm_s16le", layout="mono") -> bytes:
    """A file of one sound track: (channels, n) float32."""
    return tracks([(sound, rate, codec, layout)], container)


def tracks(sounds, container="matroska", step=1, tags=()) -> bytes:
    """A file of several sound tracks; `step` 0 makes every packet start at the same time."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        output.metadata.update(tags)
        streams = [output.add_stream(codec, rate=rate, layout=layout) for _, rate, codec, layout in sounds]
        for stream in streams:
            stream.codec_context.open()
        for stream, (sound, rate, _, layout) in zip(streams, sounds, strict=True):
            context = stream.codec_context
            resampler = av.AudioResampler(context.format, layout, rate, context.frame_size or 4096)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32), "fltp", layout)
            frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for part in [*resampler.resample(frame), *resampler.resample(None), None]:
                for packet in stream.encode(part):
                    if step == 0:
                        packet.pts = packet.dts = 0
                    output.mux(packet)
    return file.getvalue()


def written(path, data):
    path.write_bytes(data)
    return path


def wav_header(rate=16000, bits=16, channels=1, data=b"\0" * 32000) -> bytes:
    block = channels * bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * block, block, bits)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def video(path, frames, container="mp4", aspect=None):
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def small_video(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 160, 20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def small_picture(kind: str) -> bytes:
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {"exif": exif}
    Image.effect_noise((40, 30), 60).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def scratched(data: bytes, place: float, length: int = 200) -> bytes:
    """A file of which some bytes in the middle are noise."""
    start = int(place * len(data))
    return data[:start] + np.random.default_rng(0).bytes(length) + data[start + length :]
