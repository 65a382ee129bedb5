"""Cached inputs and targets of A2ET: sound, words, head motion, a face, and the expression to predict."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from eat_hf.animation.expression import fit_length
from eat_hf.animation.networks import KeypointDetector, SpeechEncoder
from eat_hf.animation.pose_pictures import pose_pictures
from eat_hf.constants import EMOTIONS
from eat_hf.errors import UserError
from eat_hf.inputs.audio import frame_windows, log_mel
from eat_hf.keypoints import hull_volume, logits_from_degrees, pose_picture_rotation
from eat_hf.media.files import whole_file

from ..loop.options import Batch
from .dataset import Clip, Corpus

if TYPE_CHECKING:
    from .clip_pictures import ClipPictures

INNER_LIPS = ("inner_lip_upper_middle", "inner_lip_lower_middle")
MOUTH_CORNERS = ("mouth_corner_left", "mouth_corner_right")
RADIUS = 5  # frames on either side of a window's centre
NEUTRAL, UNKNOWN, OTHER = EMOTIONS.index("neutral"), -1, -2
LATENTS = ("yaw", "pitch", "roll", "translation", "canonical", "expression")


@dataclass
class MotionClip:
    """One clip of T frames.

    Attributes:
        semantic: (T, 16, 29); mel: (T, 80); pose_images: (T, S, S) in [0, 255].
        angles: (T, 3) yaw, pitch, roll in degrees; translation: (T, 3).
        expression: (T, 3K), E / V ** p as A2ET and EDN predict it.
        scale: V ** p, which turns that into E.
        emotion: index into the eight emotions, `UNKNOWN` where nobody knows, `OTHER` for one that is none of them.
        level: 0 (neutral) to 3, None where nobody knows.
        identity: of the corpus.
    """

    semantic: Tensor
    mel: Tensor
    pose_images: Tensor
    angles: Tensor
    translation: Tensor
    expression: Tensor
    scale: float
    emotion: int
    level: int | None
    identity: int | str

    def teaches_emotion(self, level: int) -> bool:
        """Neutral, or of a known emotion and at least this level, as far as anybody knows."""
        if self.emotion in (NEUTRAL, UNKNOWN):
            return self.emotion == NEUTRAL
        return self.level is None or self.level >= level


class MotionData:
    """Clips of a split and the prediction map of every identity's portrait.

    Args:
        corpus_dir: the corpus.
        split: "train", "validation" or "test".
        speech_encoder, detector: trained components, used to encode what the clips hold.
        pose_size: side of the pose pictures that A2ET reads.
        exponent: p, the power of the hull volume by which expressions are scaled.

    Attributes:
        pictures: real frames, where they are compared with rendered ones; None where latents alone are.
        least_certain: scores of phonemes of every drawn clip are multiplied by a random number from this to 1. A speech
            encoder tells phonemes less apart in voices unlike those that it knows, where lips shall move no less.

    Raises:
        UserError: the split has no clips, or a clip lacks labels.
    """

    pictures: "ClipPictures | None" = None
    least_certain: float = 1.0

    def __init__(
        self,
        corpus_dir: str,
        split: str,
        speech_encoder: SpeechEncoder,
        detector: KeypointDetector,
        pose_size: int,
        exponent: float,
    ):
        corpus = Corpus(corpus_dir)
        self.keypoint_names: list[str] = corpus.info["keypoint_names"]
        self.exponent, self.pose_size = exponent, pose_size
        speech_encoder.eval()
        detector.eval()
        first: dict[int | str, Clip] = {}  # the synthetic corpus begins with a range of motion of everybody
        for clip in corpus.clips(split=split):
            first.setdefault(clip.identity, clip)
        if not first:
            raise UserError(f"{corpus.folder} has no clips in its split {split}.")
        self.maps: dict[int | str, Tensor] = {}
        for identity, clip in tqdm(first.items(), desc=f"portraits {split}", mininterval=10):
            self.maps[identity] = encode_portrait(detector, clip)
        cache = Path(corpus_dir) / "latents" / f"{split}-{_fingerprint(speech_encoder)}-{pose_size}.pt"
        if not cache.exists():
            clips = [
                encode_clip(clip, speech_encoder, pose_size, exponent).__dict__
                for clip in tqdm(corpus.clips(split=split, kind="speech"), desc=f"encode {split}", mininterval=10)
            ]
            cache.parent.mkdir(exist_ok=True)
            with whole_file(cache) as unfinished:  # other trainings may look for it
                torch.save(clips, unfinished)
        self.clips = [MotionClip(**clip) for clip in torch.load(cache, weights_only=True)]

    def draw(self, rng: np.random.Generator, count: int, frames: int, pool: list[int]) -> Batch:
        """`count` clips out of `pool` (indices), `frames` frames of each, with their windows.

        Frames are consecutive if there are pictures, whose lips must fit the sound, else scattered."""
        batches = []
        for number in rng.choice(pool, size=count):
            clip = self.clips[number]
            length = len(clip.mel)
            if self.pictures is None:
                chosen = np.sort(rng.choice(length, size=frames, replace=length < frames))
                batches.append(self.windows(clip, chosen))
            else:
                chosen = (rng.integers(max(1, length - frames + 1)) + np.arange(frames)).clip(max=length - 1)
                batches.append(self.windows(clip, chosen) | self.pictures.of(int(number), chosen))
            if self.least_certain < 1:
                batches[-1]["semantic"] *= self.least_certain ** rng.random()
        return {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}

    def windows(self, clip: MotionClip, frames: np.ndarray) -> dict[str, Tensor]:
        """What A2ET reads and should predict at some frames of a clip (no batch axis)."""
        index = torch.from_numpy(frames)
        yaw, pitch, roll = (logits_from_degrees(angle) for angle in clip.angles[index].unbind(-1))
        # the head stands still before and after the clip; nothing is heard there
        last = len(clip.mel) - 1
        around = (index[:, None] + torch.arange(-RADIUS, RADIUS + 1)).clamp(0, last)
        return {
            "semantic": frame_windows(clip.semantic, RADIUS, torch.zeros_like(clip.semantic[0]))[index],
            "mel": frame_windows(clip.mel, RADIUS, torch.zeros_like(clip.mel[0]))[index],
            "pose_images": clip.pose_images[around].float(),
            "yaw": yaw,
            "pitch": pitch,
            "roll": roll,
            "translation": clip.translation[index],
            "prediction_map": self.maps[clip.identity],
            "expression": clip.expression[index],
            "scale": torch.tensor(clip.scale),
            "emotion": torch.tensor(clip.emotion),
        }


A2ET_INPUTS = ("semantic", "mel", "pose_images", "yaw", "pitch", "roll", "translation", "prediction_map")


def keypoint_error(clip: MotionClip, expression: Tensor | float) -> float:
    """Mean distance, pixels of the 256 frame, of the clip's keypoints to those of another expression (T, 3K)."""
    difference = (expression - clip.expression).unflatten(-1, (-1, 3))[..., :2] * clip.scale * 128
    return difference.norm(dim=-1).mean().item()


@torch.no_grad()
def encode_portrait(detector: KeypointDetector, clip: Clip) -> Tensor:
    """Prediction map (K, D, H, W) of a clip's portrait or, where it has none, of its first, near neutral frame."""
    picture = clip.portrait() if clip.metadata.get("portrait") else clip.frames()[0]
    return detector(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255).prediction_map[0]


def emotion_number(name: str | None) -> int:
    """As `MotionClip` holds it."""
    if name is None:
        return UNKNOWN
    return EMOTIONS.index(name) if name in EMOTIONS else OTHER


@torch.no_grad()
def encode_clip(clip: Clip, speech_encoder: SpeechEncoder, pose_size: int, exponent: float) -> MotionClip:
    """Everything A2ET needs of a clip, but the portrait."""
    labels = {name: torch.from_numpy(value) for name, value in clip.labels(*LATENTS).items() if name in LATENTS}
    waveform = torch.from_numpy(clip.waveform())
    frames = clip.length
    semantic, mel = speech_encoder(waveform[None])[0], log_mel(waveform)

    angles = torch.stack([labels[name] for name in ("yaw", "pitch", "roll")], -1)
    rotation = pose_picture_rotation(*(logits_from_degrees(angle) for angle in angles.unbind(-1)))
    pictures = pose_pictures(rotation, labels["translation"])
    pictures = F.adaptive_avg_pool2d(pictures[:, None], pose_size)[:, 0]
    scale = hull_volume(labels["canonical"][None]).item() ** exponent
    return MotionClip(
        # one frame more or less at the end is rounding; windows go on sharing memory
        semantic=fit_length(semantic, frames),
        mel=fit_length(mel, frames),
        pose_images=pictures.round().to(torch.uint8),
        angles=angles,
        translation=labels["translation"],
        expression=labels["expression"].flatten(1) / scale,
        scale=scale,
        emotion=emotion_number(clip.emotion),
        level=clip.level,
        identity=clip.identity,
    )


def _fingerprint(model: torch.nn.Module) -> str:
    digest = hashlib.sha256(json.dumps(sorted(model.state_dict())).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
