"""One clip of a real video: found to be usable, cut, labelled and written; see `training.real.prepare`."""

import math
import warnings
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from eat_hf.constants import FPS, SAMPLING_RATE
from eat_hf.errors import InputWarning, UserError
from eat_hf.evaluation.tracks import FaceTrack, track_faces
from eat_hf.inputs.dlib_faces import DETECTION_SIDES, frontal_faces, predict_landmarks
from eat_hf.inputs.faces import SIZE, Face, crop_driving_video, driving_box
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import read_video, sound_delay

from ..data.files import write_labels, write_picture, write_video, write_wav
from .layouts import SourceClip

SHORTEST, LONGEST = 10, 1500  # frames; of longer videos the first minute is taken
SEARCHED = 5  # frames at the beginning; the first or the last of them must show a face
SMALLEST_CROP = 128  # pixels; a smaller square would be a blur in the 256 frame
SECOND_FACE = 0.5  # widths of the first from which on another face counts
SHOWN = 0.9  # share of the frames that must show the whole face, as `FaceBank` asks for
CROP_SCALE = 2.1  # side of the square in widths of the face, where no model says otherwise
CRF = 12


@dataclass(frozen=True)
class Options:
    """What to make a corpus of, and how. `layout` is one of `training.real.layouts`."""

    input: Path = field(metadata={"help": "Folder of the data set."})
    layout: str
    output: Path = field(metadata={"help": "Folder of the corpus."})
    model: str | None = field(
        default=None,
        metadata={"help": "Pipeline, folder or Hub id, whose networks label head pose, keypoints and expression."},
    )
    device: str = field(default="cpu", metadata={"help": "Of torch, for these networks."})
    seed: int = field(
        default=0,
        metadata={"help": "Decides splits, where the data set has none, and which neutral clip gives a portrait."},
    )


class RejectedVideo(Exception):
    """A video that is left out: the reason, by which they are counted, and a sentence."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Outcome:
    """What became of a video: frames it gave, or why it was left out."""

    clip: SourceClip
    frames: int = 0
    reason: str = ""
    detail: str = ""


# One clip ------------------------------------------------------------------------------------------------------------


def prepare_clip(clip: SourceClip, options: Options) -> Outcome:
    """Make the files of a clip, or find out why that cannot be done."""

    def reject(reason: str, detail: str) -> Outcome:
        detail = detail.replace(f"{options.input}/", "")  # the same words wherever the data set lies
        return Outcome(clip, reason=reason, detail=" ".join(detail.split()))

    networks = None
    if options.model is not None:
        from .latents import latent_labels, load_networks  # torch takes its time: only where it is wanted

        networks = load_networks(options.model, options.device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InputWarning)  # a damaged file would do for a viewer, not for training
            next(read_video(clip.video, 1))  # or else a file that is no video would be one without sound
            sound = read_sound(clip)
            heard = math.ceil(len(sound) * FPS / SAMPLING_RATE)
            frames = cut_out_face(clip.video, networks.crop_scale if networks else CROP_SCALE, min(heard, LONGEST))
            if len(frames) < SHORTEST:
                raise RejectedVideo("too short", f"{len(frames)} frames with sound; at least {SHORTEST} are needed")
            track = follow_face(frames)
    except RejectedVideo as rejected:
        return reject(rejected.reason, rejected.detail)
    except InputWarning as warning:
        return reject("damaged", str(warning))
    except (ValueError, av.error.FFmpegError, cv2.error) as error:
        return reject("unreadable", str(error))
    labels = picture_labels(track.filled())
    if networks:
        labels |= latent_labels(networks, frames)
    sound = np.pad(sound, (0, len(frames) * SAMPLING_RATE // FPS))[: len(frames) * SAMPLING_RATE // FPS]
    clips = options.output / "clips"
    write_video(clips / f"{clip.name}.mp4", frames, CRF)
    write_wav(clips / f"{clip.name}.wav", sound)
    write_picture(clips / f"{clip.name}.png", frames[calmest_frame(track)])
    write_labels(clips / f"{clip.name}.npz", labels, metadata_of(clip, len(frames), options))
    return Outcome(clip, len(frames))


def prepare_in_worker(clip: SourceClip, options: Options) -> Outcome:
    """`prepare_clip` on one thread, for the workers already use all cores."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return prepare_clip(clip, options)
    finally:
        cv2.setNumThreads(threads)


def metadata_of(clip: SourceClip, frames: int, options: Options) -> dict[str, Any]:
    """A clip's line of metadata.jsonl."""
    return {
        "file_name": f"clips/{clip.name}.mp4",
        "wav": f"clips/{clip.name}.wav",
        "portrait": f"clips/{clip.name}.png",
        "labels": f"clips/{clip.name}.npz",
        "kind": "speech",
        "identity": clip.identity,
        "split": clip.split,
        "emotion": clip.emotion,
        "level": clip.level,
        "text": clip.text,
        "voice": "",
        "frames": frames,
        "seed": options.seed,
        "source": clip.video.relative_to(options.input).as_posix(),
        "portrait_of": clip.name,
    }


def read_sound(clip: SourceClip) -> np.ndarray:
    """(N,) waveform at 16 kHz that begins with the first picture, of the first file that has sound.

    Raises:
        RejectedVideo: none has, or it is silent.
    """
    reasons = []
    for path in clip.sounds:
        try:
            waveform = read_audio(path).waveform
        except UserError as error:
            reasons.append(str(error))
            continue
        if path == clip.video:
            late = round(sound_delay(path) * SAMPLING_RATE)
            waveform = np.pad(waveform, (max(late, 0), 0))[max(-late, 0) :]
        if not waveform.any():
            raise RejectedVideo("no sound", f"{path.name} is silent")
        return waveform
    raise RejectedVideo("no sound", " ".join(reasons))


def cut_out_face(video: Path, crop_scale: float, max_frames: int) -> np.ndarray:
    """(T, 256, 256, 3) uint8: the official square around the first face, fixed for the clip, at 25 frames a second.

    Raises:
        RejectedVideo: there is no face, more than one, or only a small one.
    """
    frames = read_video(video, max_frames)
    searched = list(islice(frames, SEARCHED))
    face = only_face(searched[0]) or only_face(searched[-1])
    if face is None:
        raise RejectedVideo("no face", f"none was found at the beginning (frames 1 and {len(searched)})")
    side = driving_box(face.landmarks, searched[0].shape[1::-1], crop_scale)[2]
    if side < SMALLEST_CROP:
        raise RejectedVideo("face too small", f"its square is {side} pixels wide; at least {SMALLEST_CROP} are needed")
    return np.stack(list(crop_driving_video(chain(searched, frames), face, crop_scale)))


def only_face(picture: np.ndarray) -> Face | None:
    """The face in a picture (H, W, 3), None if there is none.

    A video in which the frontal detector finds no face is no use for training, so it alone is asked.

    Raises:
        RejectedVideo: there is another one of at least half its width.
    """
    for side in DETECTION_SIDES:
        boxes = sorted(frontal_faces(picture, side), key=lambda box: box[0] - box[2])
        if boxes:
            widths = [box[2] - box[0] for box in boxes]
            count = sum(width >= SECOND_FACE * widths[0] for width in widths)
            if count > 1:
                raise RejectedVideo("several faces", f"{count} of similar size in one frame")
            return Face(boxes[0], predict_landmarks(picture, boxes[0], side), score=1.0, prominence=1.0)
    return None


def follow_face(frames: np.ndarray) -> FaceTrack:
    """Landmarks in every frame (T, 256, 256, 3) of a clip.

    Raises:
        RejectedVideo: too many frames do not show the whole face.
    """
    track = track_faces(frames)
    allowed = round((1 - SHOWN) * len(frames))
    lost = len(frames) - int(track.found.sum())
    if lost < len(frames):
        points = track.filled().landmarks
        outside = int(((points < -0.5) | (points > SIZE - 0.5)).any((1, 2)).sum())
        if outside > allowed:
            raise RejectedVideo("face leaves the crop", f"parts of it are outside in {outside} of {len(frames)} frames")
    if lost > allowed:
        raise RejectedVideo("face lost", f"none was found in {lost} of {len(frames)} frames")
    return track


def picture_labels(track: FaceTrack) -> dict[str, np.ndarray]:
    """landmarks (T, 68, 3) in [-1, 1] across the frame, depth NaN; face_box (T, 4) pixels."""
    points = track.landmarks
    landmarks = np.full((*points.shape[:2], 3), np.nan, np.float32)
    landmarks[..., :2] = (points + 0.5) / (SIZE / 2) - 1
    low, high = np.minimum(track.boxes[:, :2], points.min(1)), np.maximum(track.boxes[:, 2:], points.max(1))
    return {"landmarks": landmarks, "face_box": np.concatenate([low, high], 1).astype(np.float32)}


def calmest_frame(track: FaceTrack) -> int:
    """The frame with the lips most closed and the eyes as open as they mostly are, in distances between the eyes."""
    points = track.landmarks

    def gap(lower: list[int], upper: list[int]) -> np.ndarray:
        return (points[:, lower, 1] - points[:, upper, 1]).mean(1)

    eyes = np.linalg.norm(points[:, 36:42].mean(1) - points[:, 42:48].mean(1), axis=1)
    lips, lids = gap([67, 66, 65], [61, 62, 63]) / eyes, gap([41, 40, 47, 46], [37, 38, 43, 44]) / eyes
    return int(np.nanargmin(lips + np.abs(lids - np.nanmedian(lids))))
