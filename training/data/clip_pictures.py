"""Real frames of clips, for losses on pictures."""

import numpy as np
import torch
from torch import Tensor

from eat_hf.errors import UserError
from eat_hf.evaluation.tracks import smooth_squares
from eat_hf.inputs.audio import sync_mel
from eat_hf.models.judges.sync_loss import WINDOW, expert_boxes, mel_input, mel_window

from ..loop.options import Batch
from .dataset import Corpus
from .frames import FrameBank


class ClipPictures:
    """Real frames of the speech clips of a split, by number among them.

    Args:
        corpus_dir: the corpus.
        split: "train", "validation" or "test".

    Raises:
        UserError: the split has no pictures, or a clip lacks labels.
    """

    def __init__(self, corpus_dir: str, split: str):
        corpus = Corpus(corpus_dir)
        self.bank = FrameBank.load(corpus_dir, split)
        starts = np.cumsum([0, *np.bincount(self.bank.clip)])
        numbers = {clip.name: number for number, clip in enumerate(corpus.clips(split=split, rendered=True))}
        self.clips = corpus.clips(split=split, kind="speech")
        self.rows = {
            number: slice(starts[numbers[clip.name]], starts[numbers[clip.name] + 1])
            for number, clip in enumerate(self.clips)
            if clip.rendered
        }

    def of(self, number: int, frames: np.ndarray) -> dict[str, Tensor]:
        """What `PictureTerms` needs of consecutive frames of a clip (no batch axis); zeros for a clip without pictures.

        has_pictures: 0 or 1; source (3, 256, 256), the person's portrait, and real (F, 3, 256, 256): uint8; canonical
        K_c (K, 3); face_squares (F, 3), see `crop_faces`; sync_mel (F - 4, 1, 80, 16).
        """
        windows = max(0, len(frames) - WINDOW + 1)
        if number not in self.rows:
            return {
                "has_pictures": torch.tensor(0.0),
                "source": torch.zeros(3, 256, 256, dtype=torch.uint8),
                "real": torch.zeros(len(frames), 3, 256, 256, dtype=torch.uint8),
                "canonical": torch.zeros(self.bank.labels["canonical"].shape[1:]),
                "face_squares": torch.zeros(len(frames), 3),
                "sync_mel": torch.zeros(windows, 1, 80, 16),
            }
        clip, rows = self.clips[number], self.rows[number]
        pictures, landmarks = self.bank.pictures[rows], self.bank.labels["landmarks"][rows, :, :2]
        source = clip.portrait() if clip.metadata.get("portrait") else pictures[0]
        squares = smooth_squares(expert_boxes(landmarks))[frames]
        sound = sync_mel(clip.waveform())
        mel = mel_input(np.stack([mel_window(sound, start) for start in frames[:windows]])) if windows else None
        return {
            "has_pictures": torch.tensor(1.0),
            "source": torch.from_numpy(source.copy()).permute(2, 0, 1),
            "real": torch.from_numpy(pictures[frames]).permute(0, 3, 1, 2),
            "canonical": torch.from_numpy(self.bank.labels["canonical"][rows.start]).float(),
            "face_squares": torch.from_numpy(squares).float(),
            "sync_mel": torch.zeros(0, 1, 80, 16) if mel is None else mel,
        }


def weigh_pictures(batch: Batch) -> Batch:
    """Add the weight of every sample in a mean over those of the whole batch that have pictures."""
    if "has_pictures" not in batch:
        return batch
    has_pictures = batch["has_pictures"]
    return batch | {"picture_weight": has_pictures / has_pictures.mean().clamp_min(1 / len(has_pictures))}


def check_pictures(data_name: str, pictures: ClipPictures, pool: list[int]) -> None:
    """Raises UserError if no clip of the pool has pictures."""
    if not set(pool) & set(pictures.rows):
        raise UserError(f"No clip that this stage learns from in {data_name} has pictures, which its options ask for.")
