"""Put emotions in words beside a finished pipeline, as its folder `words`.

python -m training.release.add_text --model checkpoints_card/eat-demo --words runs/words/words --sync_expert EXPERT
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from eat_hf import EATPipeline
from eat_hf.adapters.from_text import FOLDER, TextToEmotion, load_sync_expert

from ..loop.command_line import parse_options, run_script
from .precision import keep_in


@dataclass
class AddWordsOptions:
    """Options."""

    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder."})
    words: str = field(
        default="runs/words/words", metadata={"help": "Folder `words` that `training.text.train_mapper` left."}
    )
    sync_expert: str = field(
        default="", metadata={"help": "SyncExpert of the sync loss of tuning, folder or Hub id; empty: without."}
    )
    half: bool = field(default=True, metadata={"help": "Store float16, in half the space; it is read as float32."})


def add_words(options: AddWordsOptions) -> None:
    """Raises UserError: the words are incomplete, or were made for another model."""
    words = TextToEmotion.load(Path(options.words), EATPipeline.from_pretrained(options.model).base)
    if options.sync_expert:
        words = replace(words, sync_expert=load_sync_expert(options.sync_expert))
    for network in (words.clip.model, words.mapper, words.sync_expert, *words.shows.parts.values()):
        if network is not None:
            keep_in(options.half, network, type(network).__name__)
    words.save(Path(options.model) / FOLDER)


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(AddWordsOptions, "add_words", argv)
    add_words(options)


if __name__ == "__main__":
    run_script(main)
