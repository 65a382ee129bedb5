"""Pictures cut out around the faces of a corpus, once, for training the networks that look at faces alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from eat_hf.evaluation.tracks import FaceTrack, face_chips, mouth_aligned_crops, track_faces, tracked_crops
from eat_hf.media.files import unfinished_file, whole_file, write_atomically
from eat_hf.models.judges.sync_loss import EXPERT_SIZE, expert_boxes

from .dataset import Clip, Corpus


def expert_crops(frames: np.ndarray, track: FaceTrack, size: int = EXPERT_SIZE) -> np.ndarray:
    """The face of every frame for the sync expert."""
    return tracked_crops(frames, FaceTrack(expert_boxes(track.landmarks), track.landmarks), size, padding=0.0)


def chips(frames: np.ndarray, track: FaceTrack, size: int) -> np.ndarray:
    return face_chips(frames, track.landmarks, size)


CROPS = {"tracked": tracked_crops, "mouth_aligned": mouth_aligned_crops, "expert": expert_crops, "chips": chips}


@dataclass
class FaceBank:
    """Crops of all rendered speech clips of a split.

    Attributes:
        pictures: (N, S, S, 3) uint8 memory map, clip after clip.
        clips: the clips in which a face was found in at least 9 of 10 frames.
        starts: index of each clip's first picture; one more at the end.
    """

    pictures: np.ndarray
    clips: list[Clip]
    starts: np.ndarray

    @classmethod
    def load(cls, corpus_dir: str, kind: str, size: int, split: str | None = None, every: int = 1) -> FaceBank:
        """Track and cut once into the corpus' folder `faces`, then map.

        Args:
            kind: tracked, mouth_aligned, expert or chips.
            every: keep one frame of so many.
        """
        corpus = Corpus(corpus_dir)
        clips = [clip for clip in corpus.clips(split=split, kind="speech") if clip.rendered]
        folder = Path(corpus_dir) / "faces"
        (folder / "tracks").mkdir(parents=True, exist_ok=True)
        cache = folder / f"{kind}_{size}_{every}_{split or 'all'}"
        if not cache.with_suffix(".json").exists():
            jobs = (delayed(_cut)(clip, folder / "tracks", kind, size, every) for clip in clips)
            lengths = {}
            with unfinished_file(cache.with_suffix(".u8")) as unfinished, unfinished.open("wb") as store:
                results = Parallel(n_jobs=2, return_as="generator")(jobs)
                for clip, crops in zip(clips, tqdm(results, f"{kind} crops", len(clips), mininterval=10), strict=True):
                    lengths[clip.name] = len(crops)
                    store.write(crops.tobytes())
            write_atomically(cache.with_suffix(".json"), json.dumps(lengths))
        lengths = json.loads(cache.with_suffix(".json").read_text())
        clips = [clip for clip in clips if lengths[clip.name]]
        starts = np.cumsum([0, *(lengths[clip.name] for clip in clips)])
        pictures = np.memmap(cache.with_suffix(".u8"), np.uint8, "r", shape=(int(starts[-1]), size, size, 3))
        return cls(pictures, clips, starts)

    def of(self, clip: int) -> np.ndarray:
        """(T, S, S, 3) the pictures of a clip."""
        return self.pictures[self.starts[clip] : self.starts[clip + 1]]

    def held_out(self, share: float = 0.1) -> tuple[list[int], list[int]]:
        """Numbers of the clips to train on and of those of the last identities (at least one), to measure on."""
        identities = sorted({clip.identity for clip in self.clips})
        last = set(identities[-max(1, round(len(identities) * share)) :])
        numbers = range(len(self.clips))
        return (
            [n for n in numbers if self.clips[n].identity not in last],
            [n for n in numbers if self.clips[n].identity in last],
        )


def _cut(clip: Clip, tracks: Path, kind: str, size: int, every: int) -> np.ndarray:
    torch.set_num_threads(1)
    frames = clip.frames()
    if kind == "expert":  # its crops in training are cut by the corpus' landmarks, too
        landmarks = (clip.labels("landmarks")["landmarks"][..., :2] + 1) * frames.shape[1] / 2 - 0.5
        return CROPS[kind](frames, FaceTrack(expert_boxes(landmarks), landmarks), size)[::every]
    stored = tracks / f"{clip.name}.npz"
    if stored.exists():
        with np.load(stored) as arrays:
            track = FaceTrack(arrays["boxes"], arrays["landmarks"])
    else:
        track = track_faces(frames)
        with whole_file(stored) as unfinished:
            np.savez(unfinished, boxes=track.boxes, landmarks=track.landmarks)
    if track.found.mean() < 0.9:
        return np.zeros((0, size, size, 3), np.uint8)
    return CROPS[kind](frames, track.filled(), size)[::every]
