"""The semantic encoder for checkpoints without DeepSpeech's own weights: phoneme classes of synthetic speech.

    accelerate launch -m training.train_speech --corpus CORPUS --output_dir runs/speech

The same network as DeepSpeech, smaller; its 29 outputs are phoneme classes instead of letters, learnt from the exact
phoneme times of the corpus.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from tqdm import tqdm

from eat_hf import DeepSpeechEncoder
from eat_hf.audio import SEMANTIC_RATE, deepspeech_features

from .corpus.dataset import Clip, Corpus
from .corpus.visemes import frame_classes
from .loop import Batch, LoopOptions, train
from .options import parse_options


@dataclass
class SpeechOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    rows: int = field(default=100, metadata={"help": "Length of a training window, 50 rows a second."})


def read(clip: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (rows, 494) and phoneme classes (rows,) of a clip."""
    features, labels = deepspeech_features(clip.waveform()), clip.labels()
    phonemes = [str(symbol) for symbol in labels["phonemes"]]
    classes = frame_classes(phonemes, labels["phoneme_times"], len(features), SEMANTIC_RATE)
    return features, torch.from_numpy(classes)


def load(corpus: Corpus, split: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    clips = corpus.clips(split=split, kind="speech")
    return Parallel(n_jobs=2)(delayed(read)(clip) for clip in tqdm(clips, desc=f"features {split}", mininterval=10))


@torch.no_grad()
def evaluate(model: DeepSpeechEncoder, clips: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Share of rows whose phoneme class is right, of all rows and of those with speech."""
    hits = [(model.logits(features[None])[0, :, :-1].argmax(-1) == classes, classes) for features, classes in clips]
    right, classes = torch.cat([h for h, _ in hits]).float(), torch.cat([c for _, c in hits])
    return {"accuracy": right.mean().item(), "accuracy_speech": right[classes > 0].mean().item()}


def main() -> None:
    options, recipe = parse_options(SpeechOptions, "speech")
    corpus = Corpus(options.corpus)
    clips = [clip for clip in load(corpus, "train") if len(clip[0]) >= options.rows]
    torch.manual_seed(options.seed)
    model = DeepSpeechEncoder(**recipe.components["speech_encoder"])

    def draw(rng: np.random.Generator, count: int) -> Batch:
        features, classes = [], []
        for number in rng.integers(len(clips), size=count):
            x, y = clips[number]
            start = rng.integers(len(x) - options.rows + 1)
            features.append(x[start : start + options.rows])
            classes.append(y[start : start + options.rows])
        return {"features": torch.stack(features), "classes": torch.stack(classes)}

    def losses(network: torch.nn.Module, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        network = getattr(network, "module", network)
        x = batch["features"]
        x = x + 0.1 * torch.randn_like(x) + 0.1 * torch.randn(len(x), 1, 1)
        logits = network.logits(F.dropout(x, 0.1))
        return {"phonemes": F.cross_entropy(logits.flatten(0, 1), batch["classes"].flatten(), label_smoothing=0.05)}

    held_out = load(corpus, "validation")
    results = train(model, draw, losses, options, lambda network: evaluate(network, held_out))
    print(json.dumps(results, indent=2))
    model.save_pretrained(Path(options.output_dir) / "speech_encoder")


if __name__ == "__main__":
    main()
