"""What speech encoders hear of held-out voices, and what a model's lips make of it: tables by kind of voice.

    python -m training.experiments.hearing --corpus voices --encoders checkpoints_card/eat-demo/speech_encoder RUN

Rows are 50 a second. Lip shapes: silence, closed (p b m), lip to teeth (f v), rounded, open, spread, other. With
`--model`, its A2ET follows each of the encoders: the share of pairs of an open vowel and a p, b or m in which the lips
are further apart in the vowel, and their mean distance in both and in silence, in pixels of the 256 frame.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import skimage.data
import torch

from eat_hf import EATPipeline
from eat_hf.animation.networks import SpeechEncoder
from eat_hf.constants import FPS, SAMPLING_RATE
from eat_hf.media.files import write_atomically
from eat_hf.models.components import load_component
from eat_hf.pipeline.bundled import find_model

from ..corpus.heads import KEYPOINT_NAMES
from ..corpus.hearing import kind_of_voice, measure
from ..corpus.visemes import LIP_SHAPES, class_of, shape_of_class
from ..data.dataset import Clip, Corpus
from ..loop.command_line import read_options, run_script
from ..losses.latent import opening

HEARD = ("rows", "rows_speech", "shapes", "shapes_speech", "closed", "silence", "seconds")
FOLLOWED = ("wider", "open", "closed", "silence", "pairs")
LIPS_SECONDS = 6.0  # of a clip whose lips are looked at


@dataclass
class HearingOptions:
    """Options."""

    corpus: str = field(metadata={"help": "Corpus of voices, or of people."})
    encoders: tuple[str, ...] = field(metadata={"help": "Folders of speech encoders."})
    splits: tuple[str, ...] = field(default=("validation", "test"), metadata={"help": "Of the corpus."})
    model: str = field(default="", metadata={"help": "A model whose lips follow the encoders; empty: none."})
    lip_clips: int = field(default=6, metadata={"help": "Clips of each kind of voice that the lips follow."})
    output: str = field(default="", metadata={"help": "A JSON file of the numbers."})


def follow(pipeline: EATPipeline, clips: Iterable[Clip]) -> dict[str, dict[str, float]]:
    """How far a model's lips are apart where a phoneme is in its middle, by `kind_of_voice`."""
    gaps: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        waveform = clip.waveform()[: round(LIPS_SECONDS * SAMPLING_RATE)]
        plan = pipeline.plan_clip(
            skimage.data.astronaut(), (waveform, SAMPLING_RATE), emotion="neutral", head_motion="still", generator=0
        )
        distance = 128 * opening(plan.driving[0].flatten(1), list(KEYPOINT_NAMES)).numpy()
        labels = clip.labels("phonemes", "phoneme_times")
        for phoneme, (start, end) in zip(labels["phonemes"], labels["phoneme_times"], strict=True):
            frame = round((start + end) / 2 * FPS)
            if frame < len(distance):
                shape = LIP_SHAPES[shape_of_class(np.array(class_of(str(phoneme))))]
                gaps[kind_of_voice(clip)][shape].append(float(distance[frame]))
    found = {}
    for kind, by_shape in sorted(gaps.items()):
        vowels, closures = np.array(by_shape["open"]), np.array(by_shape["closed"])
        means = {shape: round(float(np.mean(by_shape[shape])), 2) for shape in FOLLOWED[1:4] if by_shape[shape]}
        wider = {"wider": round(float((vowels[:, None] > closures).mean()), 4)} if vowels.size and closures.size else {}
        found[kind] = wider | means | {"pairs": vowels.size * closures.size}
    return found


def table(folder: str, columns: tuple[str, ...], kinds: dict[str, dict[str, float]]) -> str:
    lines = [folder, f"{'':34}" + "".join(f"{name:>15}" for name in columns)]
    for kind, shares in kinds.items():
        lines.append(f"{kind:34}" + "".join(f"{shares.get(name, float('nan')):15.4g}" for name in columns))
    return "\n".join(lines) + "\n"


def exchanged(pipeline: EATPipeline, encoder: SpeechEncoder) -> EATPipeline:
    """The pipeline, hearing with another encoder."""
    pipeline.register_modules(speech_encoder=encoder)
    return pipeline


def main(argv: list[str] | None = None) -> None:
    options = read_options(HearingOptions, argv)
    corpus = Corpus(options.corpus)
    clips = [clip for split in options.splits for clip in corpus.clips(split=split, kind="speech")]
    few: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        few[kind_of_voice(clip)] += [clip] * (len(few[kind_of_voice(clip)]) < options.lip_clips)
    pipeline = EATPipeline.from_pretrained(find_model(options.model)) if options.model else None
    if pipeline:
        pipeline.set_progress_bar_config(disable=True)
    found: dict[str, dict[str, dict]] = {}
    for folder in options.encoders:
        encoder = load_component(Path(folder))
        torch.manual_seed(0)
        found[folder] = {"heard": measure(encoder, clips)}
        print(table(folder, HEARD, found[folder]["heard"]))
        if pipeline:
            found[folder]["lips"] = follow(exchanged(pipeline, encoder), [c for each in few.values() for c in each])
            print(table(folder, FOLLOWED, found[folder]["lips"]))
    if options.output:
        write_atomically(options.output, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
