"""Decoded pictures and exact labels of a corpus, ready for random access while training."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from eat_hf.errors import UserError
from eat_hf.media.files import unfinished_file, whole_file, write_atomically

from .dataset import Corpus

LABELS = ("yaw", "pitch", "roll", "translation", "expression", "keypoints", "landmarks", "canonical")
OPTIONAL_LABELS = ("arches",)  # of rendered clips


@dataclass
class FrameBank:
    """Every frame of a corpus split, memory-mapped.

    Attributes:
        pictures: (N, S, S, 3) uint8.
        labels: arrays with first axis N: yaw, pitch, roll (N,) degrees; translation (N, 3); expression (N, K, 3);
            keypoints (N, K, 3) posed; landmarks (N, 68, 3), of real clips without depth (NaN); canonical (N, K, 3);
            arkit (N, 52) and arches (N, ARCH_POINTS, 3), of rendered clips alone.
        identity: (N,) as the corpus calls them. family: (N,) of heads, "real" of real people.
        clip: (N,) integers; frames of one clip lie together and share light, clothes and background.
        calm: (N,) bool, frames that make a good source: near neutral and near frontal. A real clip counts as near
            neutral unless it is known to show an emotion.
        turned: (N,) largest of the three angles, degrees.
        keypoint_names: names of the K keypoints.
        on_device: the pictures once more, on the GPU that batches are made on.
    """

    pictures: np.ndarray
    labels: dict[str, np.ndarray]
    identity: np.ndarray
    family: np.ndarray
    clip: np.ndarray
    calm: np.ndarray
    turned: np.ndarray
    keypoint_names: list[str]
    on_device: Tensor | None = None

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
        done = json.loads((cache / "done.json").read_text())
        size = done.get("size", 256)
        pictures = np.memmap(cache / "pictures.u8", np.uint8, "r", shape=(done["frames"], size, size, 3))
        with np.load(cache / "labels.npz") as stored:
            labels = {name: stored[name] for name in stored.files}
        identity, family, clip = (labels.pop(name) for name in ("identity", "family", "clip"))
        neutral = np.abs(labels["arkit"]).sum(1) < 1.2 if "arkit" in labels else labels.pop("neutral")
        turned = np.abs(np.stack([labels[name] for name in ("yaw", "pitch", "roll")])).max(0)
        calm = (turned < 8) & neutral
        return cls(pictures, labels, identity, family, clip, calm, turned, corpus.info["keypoint_names"])

    @staticmethod
    def _decode(corpus: Corpus, split: str, cache: Path) -> None:
        clips = corpus.clips(split=split, rendered=True)
        if not clips:
            raise UserError(f"{corpus.folder} has no clips with pictures in its split {split}.")
        found = clips[0].labels()
        expressive = ("arkit",) if "arkit" in found else ("neutral",)
        names = (
            *LABELS,
            *(name for name in OPTIONAL_LABELS if name in found),
            *expressive,
            "identity",
            "family",
            "clip",
        )
        columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
        cache.mkdir(parents=True, exist_ok=True)
        count = 0
        with (
            unfinished_file(cache / "pictures.u8") as unfinished,
            unfinished.open("wb") as store,
            ThreadPoolExecutor() as pool,
        ):
            decoded = pool.map(lambda clip: (clip, clip.frames(), clip.labels(*LABELS)), clips)
            progress = tqdm(decoded, total=len(clips), desc=f"decode {split}", mininterval=10)
            for number, (clip, frames, labels) in enumerate(progress):
                store.write(np.ascontiguousarray(frames).tobytes())
                labels["canonical"] = np.repeat(labels["canonical"][None], len(frames), 0)
                labels["identity"] = np.full(len(frames), clip.identity)
                labels["family"] = np.full(len(frames), clip.metadata.get("family", "real"))
                labels["clip"] = np.full(len(frames), number)
                labels["neutral"] = np.full(len(frames), clip.emotion in (None, "neutral"))
                for name, column in columns.items():
                    column.append(labels[name])
                count += len(frames)
        labels = {name: np.concatenate(column) for name, column in columns.items()}
        with whole_file(cache / "labels.npz") as unfinished:
            np.savez(unfinished, **labels)
        write_atomically(cache / "done.json", json.dumps({"frames": count, "size": frames.shape[1]}))

    def to(self, device: torch.device) -> "FrameBank":
        """The same with its pictures on a GPU, if they leave half of its memory free: batches need no loader then."""
        if device.type != "cuda" or self.pictures.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        pictures = torch.empty(self.pictures.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(pictures), 4096):
            pictures[start : start + 4096] = torch.from_numpy(np.array(self.pictures[start : start + 4096]))
        return replace(self, on_device=pictures)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return torch.device("cpu") if self.on_device is None else self.on_device.device

    def pixel_values(self, index: np.ndarray, size: int | None = 256) -> Tensor:
        """(n,) indices -> (n, 3, size, size) float in [0, 1], channels-last; None is the pictures' own size."""
        if self.on_device is None:
            pictures = torch.from_numpy(self.pictures[index])
        else:
            pictures = self.on_device[torch.from_numpy(index).to(self.device)]
        pictures = pictures.permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)
        return pictures if size in (None, pictures.shape[-1]) else F.adaptive_avg_pool2d(pictures, size)

    def label(self, name: str, index: np.ndarray) -> Tensor:
        return torch.from_numpy(self.labels[name][index]).float().to(self.device)

    def draw_pairs(
        self,
        rng: np.random.Generator,
        count: int,
        calm_share: float,
        turned: float = 90.0,
        wanted: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of source and driving frames of the same clip; most sources are calm, as portraits are.

        Args:
            turned: degrees about any axis beyond which no frame is used.
            wanted: (N,) how often each is a driving frame, relative to others; alike by default.
        """
        usable = np.flatnonzero(self.turned <= turned)
        driving = rng.choice(usable, count, p=None if wanted is None else wanted[usable] / wanted[usable].sum())

        def mate(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """One of the frames in `pool` of the same clip each, and whether there are any; clips lie together."""
            clips = self.clip[pool]
            first, end = np.searchsorted(clips, self.clip[driving]), np.searchsorted(clips, self.clip[driving], "right")
            chosen = first + np.floor(rng.random(count) * (end - first)).astype(int)
            return pool[np.minimum(chosen, len(pool) - 1)], end > first

        source, _ = mate(usable)
        if self.calm[usable].any():
            calm, found = mate(usable[self.calm[usable]])
            source = np.where(found & (rng.random(count) < calm_share), calm, source)
        return source, driving
