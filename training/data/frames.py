"""Decoded pictures and exact labels of a corpus, ready for random access while training."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eat_hf.errors import UserError
from eat_hf.media.files import unfinished_file, whole_file, write_atomically

from .dataset import Corpus

LABELS = ("yaw", "pitch", "roll", "translation", "expression", "keypoints", "landmarks", "canonical")


@dataclass
class FrameBank:
    """Every frame of a corpus split, memory-mapped.

    Attributes:
        pictures: (N, 256, 256, 3) uint8.
        labels: arrays with first axis N: yaw, pitch, roll (N,) degrees; translation (N, 3); expression (N, K, 3);
            keypoints (N, K, 3) posed; landmarks (N, 68, 3), of real clips without depth (NaN); canonical (N, K, 3);
            arkit (N, 52), of rendered clips alone.
        identity: (N,) as the corpus calls them. clip: (N,) integers; frames of one clip share light, clothes and
            background.
        calm: (N,) bool, frames that make a good source: near neutral and near frontal. A real clip counts as near
            neutral unless it is known to show an emotion.
        keypoint_names: names of the K keypoints.
    """

    pictures: np.ndarray
    labels: dict[str, np.ndarray]
    identity: np.ndarray
    clip: np.ndarray
    calm: np.ndarray
    keypoint_names: list[str]

    @classmethod
    def load(cls, corpus_dir: str, split: str, cache_dir: str | None = None) -> "FrameBank":
        """Decode a split once into `cache_dir` (default: `frames` inside the corpus), then map it.

        Raises:
            UserError: the split has no pictures, or a clip lacks labels.
        """
        corpus = Corpus(corpus_dir)
        cache = Path(cache_dir or Path(corpus_dir) / "frames") / split
        if not (cache / "done.json").exists():
            cls._decode(corpus, split, cache)
        count = json.loads((cache / "done.json").read_text())["frames"]
        pictures = np.memmap(cache / "pictures.u8", np.uint8, "r", shape=(count, 256, 256, 3))
        with np.load(cache / "labels.npz") as stored:
            labels = {name: stored[name] for name in stored.files}
        identity, clip = labels.pop("identity"), labels.pop("clip")
        neutral = np.abs(labels["arkit"]).sum(1) < 1.2 if "arkit" in labels else labels.pop("neutral")
        turned = np.abs(np.stack([labels[name] for name in ("yaw", "pitch", "roll")])).max(0)
        calm = (turned < 8) & neutral
        return cls(pictures, labels, identity, clip, calm, corpus.info["keypoint_names"])

    @staticmethod
    def _decode(corpus: Corpus, split: str, cache: Path) -> None:
        clips = corpus.clips(split=split, rendered=True)
        if not clips:
            raise UserError(f"{corpus.folder} has no clips with pictures in its split {split}.")
        expressive = "arkit" if "arkit" in clips[0].labels() else "neutral"
        columns: dict[str, list[np.ndarray]] = {name: [] for name in (*LABELS, expressive, "identity", "clip")}
        cache.mkdir(parents=True, exist_ok=True)
        count = 0
        with unfinished_file(cache / "pictures.u8") as unfinished, unfinished.open("wb") as store:
            for number, clip in enumerate(tqdm(clips, desc=f"decode {split}", mininterval=10)):
                frames, labels = clip.frames(), clip.labels(*LABELS)
                store.write(np.ascontiguousarray(frames).tobytes())
                labels["canonical"] = np.repeat(labels["canonical"][None], len(frames), 0)
                labels["identity"] = np.full(len(frames), clip.identity)
                labels["clip"] = np.full(len(frames), number)
                labels["neutral"] = np.full(len(frames), clip.emotion in (None, "neutral"))
                for name, column in columns.items():
                    column.append(labels[name])
                count += len(frames)
        labels = {name: np.concatenate(column) for name, column in columns.items()}
        with whole_file(cache / "labels.npz") as unfinished:
            np.savez(unfinished, **labels)
        write_atomically(cache / "done.json", json.dumps({"frames": count}))

    def pixel_values(self, index: np.ndarray) -> Tensor:
        """(n,) indices -> (n, 3, 256, 256) float in [0, 1], channels-last."""
        pictures = torch.from_numpy(self.pictures[index]).permute(0, 3, 1, 2)
        return pictures.float().div_(255).contiguous(memory_format=torch.channels_last)

    def label(self, name: str, index: np.ndarray) -> Tensor:
        return torch.from_numpy(self.labels[name][index]).float()

    def draw_pairs(self, rng: np.random.Generator, count: int, calm_share: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices of source and driving frames of the same clip; most sources are calm, as portraits are."""
        driving = rng.integers(len(self.identity), size=count)
        source = np.empty_like(driving)
        for n, frame in enumerate(driving):
            mates = np.flatnonzero(self.clip == self.clip[frame])
            calm = mates[self.calm[mates]]
            pool = calm if len(calm) and rng.random() < calm_share else mates
            source[n] = rng.choice(pool)
        return source, driving
