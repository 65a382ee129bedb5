"""What is measured on one clip: a generated video, the real one, and the judges that look at both."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import UnscorableClip
from ..inputs.audio import mfcc
from ..media.pictures import frame_strip
from ..models.judges.emotion_fan import EmotionFAN
from ..models.judges.syncnet import SyncNet
from .clips import ClipPair, read_frames, read_sound
from .judges.backbones import Backbone
from .judges.networks import DESCRIBED_FRAMES, SAMPLED_FRAMES, Judges
from .metrics.identity import cosine_similarity, describe_faces
from .metrics.image_quality import psnr, ssim
from .metrics.jitter import background_jitter, landmark_jitter
from .metrics.landmarks import FACE, MOUTH, landmark_distance
from .metrics.perceptual import perceptual_distance
from .metrics.synchrony import Synchrony, synchrony
from .report.results import RejectedClip
from .tracks import FaceTrack, face_chips, mean_face_crops, mouth_aligned_crops, track_faces, tracked_crops

LENGTH_TOLERANCE = 0.1  # of the longer clip, but at least 5 frames
SYNC_CROPS = {"eat_official": mouth_aligned_crops, "standard": tracked_crops}


@dataclass
class VideoScores:
    """What one video alone says.

    Attributes:
        emotion: that the judge saw, or "".
        synchrony: by protocol.
        features: by protocol, (n, D), for the distance of distributions.
        jitter: border_jitter and landmark_jitter.
        strip: a few frames as a JPEG.
        frames, without_face: counts.
    """

    emotion: str = ""
    synchrony: dict[str, Synchrony] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    jitter: dict[str, float] = field(default_factory=dict)
    strip: bytes = b""
    frames: int = 0
    without_face: int = 0


@dataclass
class PairScores:
    """What a pair says: per frame by protocol and metric, to be averaged by the protocol's rule."""

    name: str
    emotion: str
    generated: VideoScores
    reference: VideoScores
    per_frame: dict[str, dict[str, np.ndarray]]


class Video:
    """One video of a pair, and what is cut out of it."""

    def __init__(self, path: Path, whose: str):
        self.frames = read_frames(path)
        self.track = track_faces(self.frames)
        if not self.track.found.any():
            raise UnscorableClip(f"no face was found in any of the {len(self.frames)} {whose} frames")

    @cached_property
    def filled(self) -> FaceTrack:
        return self.track.filled()

    @cached_property
    def mean_face_crops(self) -> np.ndarray:
        return mean_face_crops(self.frames, self.track)

    def pictures(self, protocol: str) -> np.ndarray:
        """What picture metrics of a protocol look at: (n, H, W, 3)."""
        return self.mean_face_crops if protocol == "eat_official" else self.frames

    @cached_property
    def descriptors(self) -> np.ndarray:
        """(n, 128) whose face it is, of a few frames."""
        chosen = _spread(len(self.frames), DESCRIBED_FRAMES)
        return describe_faces(self.frames[chosen], self.filled.landmarks[chosen])

    def features(self, protocol: str, backbone: Backbone) -> np.ndarray:
        """(n, D) of a few pictures of a protocol, for the distance of distributions. dlib's network knows upright faces
        only and gets those under either protocol."""
        if backbone.name == "dlib_resnet":
            return self.descriptors
        pictures = self.pictures(protocol)
        return backbone.features(pictures[_spread(len(pictures))])

    @cached_property
    def crop_landmarks(self) -> np.ndarray:
        """(n, 68, 2) landmarks found again in the aligned crops; NaN where the crop shows no face any more."""
        return track_faces(self.mean_face_crops, (128, 256), 128).landmarks


def score_pair(pair: ClipPair, judges: Judges) -> PairScores | RejectedClip:
    """Measure one clip. What cannot be scored is returned with the reason."""
    try:
        mine, real = Video(pair.generated, "generated"), Video(pair.reference, "reference")
        tolerance = max(5, LENGTH_TOLERANCE * max(len(mine.frames), len(real.frames)))
        if abs(len(mine.frames) - len(real.frames)) > tolerance:
            raise UnscorableClip(f"wrong length: {len(mine.frames)} frames, the reference has {len(real.frames)}")
        sounds = _sound(pair.generated, pair.reference), _sound(pair.reference, pair.generated)
    except UnscorableClip as error:
        return RejectedClip(pair.name, str(error))
    per_frame: dict[str, dict[str, np.ndarray]] = {}
    same_person = cosine_similarity(mine.descriptors, real.descriptors)
    for protocol in judges.settings.protocols:
        a, b, landmarks = _matched(mine, real, protocol)
        per_frame[protocol] = {"psnr": psnr(a, b), "ssim": ssim(a, b)}
        for name, points in (("m_lmd", MOUTH), ("f_lmd", FACE)):
            distance = landmark_distance(*landmarks, points)
            per_frame[protocol][name] = distance[~np.isnan(distance)]
        per_frame[protocol]["csim"] = same_person
        if judges.perceptual is not None:
            chosen = _spread(len(a))
            per_frame[protocol]["perceptual"] = perceptual_distance(a[chosen], b[chosen], judges.perceptual)
    of_mine, of_real = (score_video(video, sound, judges) for video, sound in zip((mine, real), sounds, strict=True))
    return PairScores(pair.name, pair.emotion or "", of_mine, of_real, per_frame)


def _sound(video: Path, partner: Path) -> np.ndarray | None:
    """A clip's sound; silent videos borrow that of their partner, and where both are silent there is none."""
    try:
        return read_sound(video, partner)
    except UnscorableClip:
        return None


def _matched(mine: Video, real: Video, protocol: str) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Pictures and landmarks of the frames that a protocol compares with each other.

    `eat_official` leaves out frames without a face in either video by itself and then thins out the longer sequence
    evenly, as published; `standard` compares frame n with frame n as long as both last.
    """
    a, b = mine.pictures(protocol), real.pictures(protocol)
    n = min(len(a), len(b))
    if protocol == "eat_official":
        rows = [np.arange(n) * len(video) // n for video in (a, b)]
        found = mine.crop_landmarks, real.crop_landmarks
    else:
        rows = [np.arange(n), np.arange(n)]
        scales = 256 / max(mine.frames.shape[1:3]), 256 / max(real.frames.shape[1:3])
        found = scales[0] * mine.track.landmarks, scales[1] * real.track.landmarks
    a, b = a[rows[0]], b[rows[1]]
    if a.shape[1:3] != b.shape[1:3]:
        shape = b.shape[2], b.shape[1]
        how = cv2.INTER_AREA if a.shape[1] > b.shape[1] else cv2.INTER_CUBIC
        a = np.stack([cv2.resize(frame, shape, interpolation=how) for frame in a])
    return a, b, (found[0][rows[0]], found[1][rows[1]])


def _spread(length: int, count: int = SAMPLED_FRAMES) -> np.ndarray:
    return np.linspace(0, length - 1, count).round().astype(int)


def score_video(video: Video, sound: np.ndarray | None, judges: Judges) -> VideoScores:
    """What can be said of a video without its partner."""
    scores = VideoScores(
        jitter={
            "border_jitter": background_jitter(video.frames),
            "landmark_jitter": landmark_jitter(video.track.landmarks, max(video.frames.shape[1:3])),
        },
        strip=frame_strip(video.frames),
        frames=len(video.frames),
        without_face=int((~video.track.found).sum()),
    )
    if judges.syncnet is not None and sound is not None:
        heard = hear(judges.syncnet, sound, len(video.frames))
        for protocol in judges.settings.protocols:
            crops = SYNC_CROPS[protocol](video.frames, video.filled, judges.syncnet.config.image_size)
            # the authors' script leaves the last window out
            last = len(crops) - 1 if protocol == "eat_official" else len(crops)
            scores.synchrony[protocol] = judge_synchrony(judges.syncnet, crops[:last], heard)
    for protocol, backbone in judges.backbones.items():
        scores.features[protocol] = video.features(protocol, backbone)
    if judges.emotion is not None:
        scores.emotion = judge_emotion(judges.emotion, video.frames, video.track)
    return scores


def hear(syncnet: SyncNet, sound: np.ndarray, frames: int) -> np.ndarray:
    """(frames - 4, D) embeddings of the sound (N,) at 16 kHz that belongs to so many video frames."""
    rows = mfcc(np.round(sound * 32767), 13)
    needed = 4 * (frames - 5) + 20  # the last window may reach past the end of the recording
    rows = np.pad(rows, ((0, max(0, needed - len(rows))), (0, 0)), mode="edge")[:needed]
    with torch.no_grad():
        return syncnet.encode_audio(torch.from_numpy(rows).T[None, None].float().to(syncnet.device))[0].cpu().numpy()


def judge_synchrony(syncnet: SyncNet, crops: np.ndarray, heard: np.ndarray) -> Synchrony:
    """LSE of faces (T, S, S, 3) and what `hear` made of their sound."""
    pictures = torch.from_numpy(np.ascontiguousarray(crops[..., ::-1])).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        lips = syncnet.encode_lips(pictures.float().to(syncnet.device))[0].cpu().numpy()
    return synchrony(lips, heard[: len(lips)])


def judge_emotion(judge: EmotionFAN, frames: np.ndarray, track: FaceTrack) -> str:
    """The emotion that a clip shows, from all frames with a face."""
    chips = face_chips(frames[track.found], track.landmarks[track.found], judge.config.image_size)
    faces = torch.from_numpy(chips).permute(0, 3, 1, 2)[None].float() / 255
    with torch.no_grad():
        return judge.config.classes[int(judge(faces.to(judge.device)).logits[0].argmax())]
