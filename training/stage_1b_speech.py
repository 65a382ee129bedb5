"""The semantic encoder for checkpoints without DeepSpeech's own weights: phoneme classes of voices.

    accelerate launch -m training.stage_1b_speech --corpus VOICES --output_dir runs/speech

Its 29 outputs are phoneme classes instead of letters, learnt from the phoneme times of a corpus: that of voices
(`training.corpus.voices`), degraded here, or that of people, whose sound is degraded already (`--variants 0`). What
class the network has is the configuration's: `StreamingSpeechEncoder`, or DeepSpeech's own at any size. A network of
transformers (`TransformersSpeechEncoder`, as in the config official_hubert) has learnt elsewhere: it is fetched and put
where the later stages look for it, and no corpus is needed.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from torch import Tensor, nn
from tqdm import tqdm

from eat_hf import DeepSpeechEncoder, StreamingSpeechEncoder, TransformersSpeechEncoder
from eat_hf.inputs.audio import SEMANTIC_RATE

from .corpus.conditions import degrade, respeed
from .corpus.hearing import measure
from .corpus.visemes import frame_classes
from .data.augment import vary_bands
from .data.dataset import Clip, Corpus
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, LoopOptions, Losses
from .loop.trainer import train

TrainedEncoder = DeepSpeechEncoder | StreamingSpeechEncoder

# how often clips of a source are drawn: few real readers are worth many synthetic ones
SHARES = {"recording": 3.0, "flite": 2.0, "espeak": 2.0, "silence": 0.4}


@dataclass
class SpeechOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    rows: int = field(default=100, metadata={"help": "Length of a training window, 50 rows a second."})
    variants: int = field(default=0, metadata={"help": "Degraded copies of every clip; 0: clips as they are."})
    processes: int = field(default=2, metadata={"help": "That read and degrade clips."})


def read(clip: Clip, model: TrainedEncoder, variants: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Features (rows + delay, width) and phoneme classes (rows,) of a clip, or of degraded copies of it."""
    labels, waveform = clip.labels("phonemes", "phoneme_times"), clip.waveform()
    times = labels["phoneme_times"]
    spoken = [(str(n), float(begin), float(end)) for n, (begin, end) in zip(labels["phonemes"], times, strict=True)]
    rng, found = np.random.default_rng((seed, clip.metadata["frames"], len(waveform))), []
    for _ in range(max(1, variants)):
        heard, phones = waveform, spoken
        if variants:
            heard, phones = respeed(waveform, spoken, rng.uniform(0.85, 1.18))
            heard = degrade(heard, rng)
        features = model.features(torch.from_numpy(heard))
        names, times = [name for name, _, _ in phones], np.array([(begin, end) for _, begin, end in phones])
        classes = frame_classes(names, times, len(features) - model.delay, SEMANTIC_RATE)
        found.append((features if not variants else features.half(), torch.from_numpy(classes)))
    return found


def load(
    corpus: Corpus, split: str, model: TrainedEncoder, options: SpeechOptions
) -> list[list[tuple[Tensor, Tensor]]]:
    """For every source of clips, all it gives."""
    clips = corpus.clips(split=split, kind="speech")
    counts = {source: sum(_source(clip) == source for clip in clips) for source in map(_source, clips)}
    variants = {  # the fewer clips of a source there are, the more copies of each
        source: min(6 * options.variants, max(options.variants, options.variants * max(counts.values()) // count // 2))
        for source, count in counts.items()
    }
    bar = tqdm(clips, desc=f"features {split}", mininterval=10)
    made = Parallel(n_jobs=options.processes)(
        delayed(read)(clip, model, variants[_source(clip)], number) for number, clip in enumerate(bar)
    )
    return [
        [copy for clip, copies in zip(clips, made, strict=True) if _source(clip) == source for copy in copies]
        for source in counts
    ]


def _source(clip: Clip) -> str:
    return clip.metadata.get("source", "people")


class SpeechTask(nn.Module):
    """Cross-entropy of the phoneme class of every row."""

    def __init__(self, model: TrainedEncoder):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Losses:
        logits = self.model.logits(batch["features"]).float()
        return {"phonemes": F.cross_entropy(logits.flatten(0, 1), batch["classes"].flatten(), label_smoothing=0.05)}


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(SpeechOptions, "speech", argv)
    torch.manual_seed(options.seed)
    model = recipe.build("speech_encoder")
    if isinstance(model, TransformersSpeechEncoder):
        folder = Path(options.output_dir) / "speech_encoder"
        model.save_pretrained(folder)
        print(f"{folder}: rows of {model.config.classes}, as they are; there is nothing to train.")
        return
    corpus = Corpus(options.corpus)
    by_source = load(corpus, "train", model, options)
    names = list(dict.fromkeys(_source(clip) for clip in corpus.clips(split="train", kind="speech")))
    shares = np.array([SHARES.get(name, 1.0) for name in names])
    lengths = [np.array([len(classes) for _, classes in clips], float) for clips in by_source]

    def draw(rng: np.random.Generator, count: int) -> Batch:
        features, classes = [], []
        for source in rng.choice(len(names), size=count, p=shares / shares.sum()):
            x, y = by_source[source][rng.choice(len(lengths[source]), p=lengths[source] / lengths[source].sum())]
            start = rng.integers(max(1, len(y) - options.rows + 1))
            x, y = x[start : start + options.rows + model.delay].float(), y[start : start + options.rows]
            missing = options.rows - len(y)
            features.append(F.pad(x[None], (0, 0, 0, missing), "replicate")[0])
            classes.append(F.pad(y, (0, missing), value=-100))  # no class, so without a loss
        x = torch.stack(features)
        if isinstance(model, StreamingSpeechEncoder):
            x = vary_bands(x.unflatten(2, (2, -1))).flatten(2)
            x = x + 0.05 * torch.randn_like(x)
        else:
            x = F.dropout(x + 0.1 * torch.randn_like(x) + 0.1 * torch.randn(len(x), 1, 1), 0.1)
        return {"features": x, "classes": torch.stack(classes)}

    def evaluate() -> dict[str, float]:
        kinds = measure(model, corpus.clips(split="validation", kind="speech"))
        return {f"{kind}/{name}": value for kind, shares in kinds.items() for name, value in shares.items()}

    train(SpeechTask(model), draw, options, {"speech_encoder": model}, evaluate)


if __name__ == "__main__":
    run_script(main)
