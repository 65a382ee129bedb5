"""The one door by which sound and video files come in: which formats are opened, and how much is decoded of them.

FFmpeg's libraries (by PyAV) know formats that name other files or addresses, and believe what a header claims. Here a
file is opened as bytes and nothing else can be reached from it; its name is never taken for a protocol; only plain
containers and common codecs are opened; and limits count what was decoded.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import av

from ..errors import UserError
from .files import existing_file, one_line

# Limits of what is decoded
LONGEST_SOUND = 2 * 3600.0  # seconds; what the network hears of them takes 460 MB
LONGEST_VIDEO = 2 * 3600.0  # seconds
MOST_FRAMES_A_SECOND = 240  # of video, whatever the container's clock says
LARGEST_FRAME = 8192 * 4608  # pixels
MOST_STREAMS = 64
MOST_CHANNELS = 64
SAMPLING_RATES = (4_000, 384_000)  # Hz, lowest and highest
MOST_SAMPLES = 1 << 22  # of one decoded piece of sound, all channels together

DEMUXERS = (
    "wav w64 aiff caf au voc mp3 aac flac ogg amr amrnb amrwb ac3 eac3 dts ape wv tta tak mpc mpc8 loas "
    "mov mp4 m4a 3gp 3g2 mj2 matroska webm avi asf flv mpegts mpeg mpegvideo dv ivf h264 hevc gif"
).split()
STATE_ENCODING = ("mp3", "aac")  # each text of their ID3 tags says what it is encoded in: it is that, or damaged
SOUND_DECODERS = (
    "aac aac_latm aac_fixed libfdk_aac mp3float mp3 mp2float mp2 mp1float mp1 flac vorbis libvorbis opus libopus alac "
    "ac3 ac3_fixed eac3 dca truehd mlp wmav1 wmav2 wmapro wmalossless wmavoice amrnb amrwb libopencore_amrnb "
    "libopencore_amrwb gsm gsm_ms speex libspeex ape wavpack tta tak mpc7 mpc8 nellymoser "
    "adpcm_ms adpcm_ima_wav adpcm_ima_qt adpcm_g722 adpcm_g726 adpcm_yamaha adpcm_swf "
    "pcm_u8 pcm_s8 pcm_s8_planar pcm_s16le pcm_s16be pcm_s16le_planar pcm_s16be_planar pcm_u16le pcm_u16be "
    "pcm_s24le pcm_s24be pcm_s24le_planar pcm_u24le pcm_u24be pcm_s32le pcm_s32be pcm_s32le_planar pcm_u32le pcm_u32be "
    "pcm_s64le pcm_s64be pcm_f16le pcm_f24le pcm_f32le pcm_f32be pcm_f64le pcm_f64be pcm_alaw pcm_mulaw pcm_bluray "
    "pcm_dvd"
).split()
PICTURE_DECODERS = (
    "h264 hevc vvc vp8 vp9 libvpx libvpx-vp9 av1 libdav1d libaom-av1 mpeg1video mpeg2video mpeg4 msmpeg4v1 msmpeg4v2 "
    "msmpeg4 h263 flv mjpeg prores dnxhd theora wmv1 wmv2 wmv3 vc1 vp6 vp6f ffv1 huffyuv ffvhuff utvideo dvvideo "
    "rawvideo png gif svq1 svq3 cinepak qtrle cfhd magicyuv"
).split()

# What files begin with that name other files, or are no sound and no video; the words stand in a sentence
_LISTS = (
    (b"#EXTM3U", "an HLS or M3U playlist"),
    (b"ffconcat", "an ffconcat list"),
    (b"<MPD", "a DASH manifest"),
    (b"<SmoothStreamingMedia", "a Smooth Streaming manifest"),
    (b"v=0", "an SDP description"),
    (b"[playlist]", "a PLS playlist"),
    (b"<smil", "a SMIL playlist"),
    (b"[InternetShortcut]", "a shortcut"),
)
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")


@dataclass
class Damage:
    """What could not be decoded.

    Attributes:
        reason: of the last failure, empty where nothing failed.
        heavy: more was lost than the bytes between two joined files, which players skip, too.
    """

    reason: str = ""
    heavy: bool = False


@contextlib.contextmanager
def open_media(path: str | os.PathLike, what: str) -> Iterator[Any]:
    """A container (`av.container.InputContainer`) of sound or video.

    Args:
        what: it shall be, for messages: "recording" or "video".

    Raises:
        UserError: it is missing, of a format that is not opened, or damaged.
    """
    path = existing_file(path, what)
    with contextlib.ExitStack() as stack:
        try:
            # PyAV reads an open file through Python: no protocol can be meant, by the name or by what it contains
            file = stack.enter_context(path.open("rb"))
            container = av.open(
                file,
                metadata_errors="surrogateescape",
                options={"max_pixels": str(LARGEST_FRAME), "max_samples": str(MOST_SAMPLES)},
                container_options={
                    "format_whitelist": ",".join(DEMUXERS),
                    "codec_whitelist": ",".join(SOUND_DECODERS + PICTURE_DECODERS),
                    "protocol_whitelist": "none",
                    "max_streams": str(MOST_STREAMS),
                },
            )
            stack.callback(container.close)
        except Exception as error:  # PyAV raises errors of many kinds about what it meets in a file
            raise UserError(_refusal(path, what, error)) from error
        if container.format.name in STATE_ENCODING and not _is_text(container.metadata):
            raise UserError(f"{path} cannot be read as a {what}: its tags are damaged; save it anew, or without tags.")
        if len(container.streams) > MOST_STREAMS:
            raise UserError(f"{path} has {len(container.streams)} streams; up to {MOST_STREAMS} are read.")
        yield container


def _is_text(tags: Mapping[str, str]) -> bool:
    """Whether all of it was UTF-8, as what PyAV gives is taken to be."""
    return not any("\udc80" <= letter <= "\udcff" for pair in tags.items() for text in pair for letter in text)


def as_text(tag: str) -> str:
    """A tag of a file, which says nothing about its encoding if that was not UTF-8: most likely Windows' own."""
    return tag if _is_text({"": tag}) else tag.encode("utf8", "surrogateescape").decode("cp1252", "replace")


def _refusal(path: Any, what: str, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, name in _LISTS:
        if text.startswith(start) or (start.startswith(b"<") and text.startswith(b"<") and start in head):
            return f"{path} is {name}, which only names other files; give the {what} itself."
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP":
        return f"{path} is a picture and has {'no sound' if what == 'recording' else 'no moving pictures'}."
    if isinstance(error, av.error.ArgumentError):
        advice = "WAV, MP3, M4A, OGG or FLAC" if what == "recording" else "MP4, MOV, MKV or WebM"
        return f"{path} cannot be read as a {what}: its format is not among those that are opened; give {advice}."
    return f"{path} cannot be read as a {what} ({one_line(error)})."


def is_decodable(stream: Any) -> bool:
    """Whether a stream's codec is known and among those that are opened."""
    context = stream.codec_context
    return context is not None and context.name in (SOUND_DECODERS if stream.type == "audio" else PICTURE_DECODERS)


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The frames (`av.AudioFrame` or `av.VideoFrame`) of a stream. What cannot be decoded is skipped, as players do."""
    lost = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except Exception as error:  # of many kinds, like those of opening
            damage.reason, damage.heavy = one_line(error), True
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except Exception as error:
            lost += 1
            damage.reason, damage.heavy = one_line(error), damage.heavy or lost > 2
            continue
        if frames:
            lost = 0
        yield from frames
