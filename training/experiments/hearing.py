"""What speech encoders hear of held-out voices: a table by kind of voice.

    python -m training.experiments.hearing --corpus voices --encoders checkpoints_card/eat-demo/speech_encoder RUN

Rows are 50 a second. Lip shapes: silence, closed (p b m), lip to teeth (f v), rounded, open, spread, other.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from eat_hf.media.files import write_atomically
from eat_hf.models.components import load_component

from ..corpus.hearing import measure
from ..data.dataset import Corpus
from ..loop.command_line import read_options, run_script

COLUMNS = ("rows", "rows_speech", "shapes", "shapes_speech", "closed", "silence")


@dataclass
class HearingOptions:
    """Options."""

    corpus: str = field(metadata={"help": "Corpus of voices, or of people."})
    encoders: tuple[str, ...] = field(metadata={"help": "Folders of speech encoders."})
    splits: tuple[str, ...] = field(default=("validation", "test"), metadata={"help": "Of the corpus."})
    output: str = field(default="", metadata={"help": "A JSON file of the numbers."})


def main(argv: list[str] | None = None) -> None:
    options = read_options(HearingOptions, argv)
    corpus = Corpus(options.corpus)
    clips = [clip for split in options.splits for clip in corpus.clips(split=split, kind="speech")]
    found = {folder: measure(load_component(Path(folder)), clips) for folder in options.encoders}
    for folder, kinds in found.items():
        print(f"\n{folder}\n{'per cent right':34}" + "".join(f"{name:>15}" for name in (*COLUMNS, "seconds")))
        for kind, shares in kinds.items():
            numbers = [f"{100 * shares[name]:.1f}" if name in shares else "-" for name in COLUMNS]
            print(f"{kind:34}" + "".join(f"{number:>15}" for number in (*numbers, shares["seconds"])))
    if options.output:
        write_atomically(options.output, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
