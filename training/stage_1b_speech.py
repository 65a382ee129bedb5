"""The semantic encoder for checkpoints without DeepSpeech's own weights: phoneme classes of synthetic speech.

    accelerate launch -m training.stage_1b_speech --corpus CORPUS --output_dir runs/speech

The same network as DeepSpeech, smaller; its 29 outputs are phoneme classes instead of letters, learnt from the exact
phoneme times of the corpus.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from torch import nn
from tqdm import tqdm

from eat_hf import DeepSpeechEncoder
from eat_hf.inputs.audio import SEMANTIC_RATE, deepspeech_features

from .corpus.visemes import frame_classes
from .data.dataset import Clip, Corpus
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, LoopOptions, Losses
from .loop.trainer import train


@dataclass
class SpeechOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    rows: int = field(default=100, metadata={"help": "Length of a training window, 50 rows a second."})


def read(clip: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (rows, 494) and phoneme classes (rows,) of a clip."""
    features, labels = deepspeech_features(clip.waveform()), clip.labels("phonemes", "phoneme_times")
    phonemes = [str(symbol) for symbol in labels["phonemes"]]
    classes = frame_classes(phonemes, labels["phoneme_times"], len(features), SEMANTIC_RATE)
    return features, torch.from_numpy(classes)


def load(corpus: Corpus, split: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    clips = corpus.clips(split=split, kind="speech")
    return Parallel(n_jobs=2)(delayed(read)(clip) for clip in tqdm(clips, desc=f"features {split}", mininterval=10))


class SpeechTask(nn.Module):
    """Cross-entropy of the phoneme class of every row."""

    def __init__(self, model: DeepSpeechEncoder):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Losses:
        logits = self.model.logits(batch["features"])
        return {"phonemes": F.cross_entropy(logits.flatten(0, 1), batch["classes"].flatten(), label_smoothing=0.05)}


@torch.no_grad()
def evaluate(model: DeepSpeechEncoder, clips: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Share of rows whose phoneme class is right, of all rows and of those with speech."""
    guesses = [model.logits(features[None].to(model.device))[0, :, :-1].argmax(-1).cpu() for features, _ in clips]
    classes = torch.cat([classes for _, classes in clips])
    right = (torch.cat(guesses) == classes).float()
    return {"accuracy": right.mean().item(), "accuracy_speech": right[classes > 0].mean().item()}


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(SpeechOptions, "speech", argv)
    corpus = Corpus(options.corpus)
    clips = [clip for clip in load(corpus, "train") if len(clip[0]) >= options.rows]
    held_out = load(corpus, "validation")
    torch.manual_seed(options.seed)
    model = recipe.build("speech_encoder")

    def draw(rng: np.random.Generator, count: int) -> Batch:
        features, classes = [], []
        for number in rng.integers(len(clips), size=count):
            x, y = clips[number]
            start = rng.integers(len(x) - options.rows + 1)
            features.append(x[start : start + options.rows])
            classes.append(y[start : start + options.rows])
        x = torch.stack(features)
        x = x + 0.1 * torch.randn_like(x) + 0.1 * torch.randn(len(x), 1, 1)
        return {"features": F.dropout(x, 0.1), "classes": torch.stack(classes)}

    train(SpeechTask(model), draw, options, {"speech_encoder": model}, lambda: evaluate(model, held_out))


if __name__ == "__main__":
    run_script(main)
