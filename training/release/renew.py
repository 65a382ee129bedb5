"""Put networks that were trained anew into a finished pipeline, and carry its adapters over to it.

    python -m training.release.renew --model checkpoints_card/eat-demo --repos_net runs/renderer/repos_net \
        --adapters examples/adapters/crying_hard

Keypoints have names and places of their own, and phonemes their classes, so the networks above those of stage 1a and
the speech encoder need not be trained again. The EAM of a new renderer is the identity, in the model and in every
adapter, until stage 2 teaches it.
"""

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from eat_hf import EATPipeline
from eat_hf.adapters.emotion_adapter import CARD, CONFIG, AdapterConfig, EmotionAdapter
from eat_hf.adapters.fingerprint import Base, fingerprint
from eat_hf.adapters.from_text import FOLDER
from eat_hf.errors import UserError
from eat_hf.media.files import replaced_folder, write_atomically
from eat_hf.models.components import load_component
from eat_hf.models.eam import EmotionalAdaptationModule

from ..loop.command_line import parse_options, run_script
from .assemble import resting_lips
from .precision import keep_in

NETWORKS = ("keypoint_detector", "motion_estimator", "repos_net", "speech_encoder")
ALIGNMENT = ("template_landmarks", "landmark_reader")  # settings that a new detector takes over


@dataclass
class RenewOptions:
    """Options."""

    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder; it is changed."})
    keypoint_detector: str = field(default="", metadata={"help": "Folder of a new one; empty: as it is."})
    motion_estimator: str = field(default="", metadata={"help": "Folder of a new one; empty: as it is."})
    repos_net: str = field(default="", metadata={"help": "Folder of a new one; empty: as it is."})
    speech_encoder: str = field(default="", metadata={"help": "Folder of a new one; empty: as it is."})
    corpus: str = field(default="", metadata={"help": "Corpus that says how lips part (`rest_lips`); empty: as it is."})
    adapters: list[str] = field(default_factory=list, metadata={"help": "Folders of adapters of this model."})
    half: bool = field(default=True, metadata={"help": "Store float16, in half the space; it is read as float32."})


def renew(options: RenewOptions) -> None:
    """Everything is made before anything is exchanged: on any error, model and adapters stay as they were.

    Raises:
        UserError: a network has other keypoints than the model's, or an adapter was made for another model.
    """
    model = Path(options.model)
    given = {name: place for name in NETWORKS if (place := getattr(options, name))}
    networks = {name: load_component(place) for name, place in given.items()}
    keypoints = load_component(model / "a2et").config.keypoints
    for name, network in networks.items():
        if network.config.get("keypoints", keypoints) != keypoints:
            raise UserError(f"{given[name]} has {network.config.keypoints} keypoints, the model {keypoints}.")
    with contextlib.ExitStack() as folders:
        new = folders.enter_context(copied(model, "model_index.json"))
        index = json.loads((new / "model_index.json").read_text())
        for name, network in networks.items():
            if name == "keypoint_detector":
                old = json.loads((model / name / "config.json").read_text())
                network.register_to_config(**{setting: old[setting] for setting in ALIGNMENT if setting in old})
            if name == "repos_net":
                network.volume_eam.reset_parameters()
            keep_in(options.half, network, name)
            shutil.rmtree(new / name)
            network.save_pretrained(new / name)
            index[name][1] = type(network).__name__
        write_atomically(new / "model_index.json", json.dumps(index, indent=2) + "\n")
        if options.corpus:
            place = new / "expression_basis" / "config.json"
            basis = json.loads(place.read_text())
            basis |= resting_lips(options.corpus, basis["hull_volume_exponent"])
            write_atomically(place, json.dumps(basis, indent=2, sort_keys=True) + "\n")
        base = EATPipeline.from_pretrained(new).base
        for adapter in (Path(place).resolve() for place in options.adapters):
            if adapter.is_relative_to(model.resolve()):  # it was copied with the model
                copy = new / adapter.relative_to(model.resolve())
            else:
                copy = folders.enter_context(copied(adapter, CONFIG))
            carry(copy, base, given, options.half)
        if (words := new / FOLDER / "adapter").is_dir():
            carry(words, base, given, options.half)


@contextlib.contextmanager
def copied(folder: Path, marker: str) -> Iterator[Path]:
    """A copy of a folder, to be changed; then it takes the folder's place, see `replaced_folder`."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    with replaced_folder(folder, marker) as copy:
        shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
        yield copy


def carry(folder: Path, base: Base, renewed: Collection[str], half: bool) -> None:
    """Make an adapter one of the base, which differs from its own in the renewed networks alone."""
    config = AdapterConfig.load(folder)
    present = fingerprint(base)
    known = {name: present[name] if name in renewed else digest for name, digest in config.base_fingerprint.items()}
    (folder / CONFIG).write_text(config.changed(base_fingerprint=known).model_dump_json())
    adapter = EmotionAdapter.load(folder, base)
    card = (folder / CARD).read_bytes() if (folder / CARD).is_file() else None
    if "repos_net" in renewed:
        cast(EmotionalAdaptationModule, adapter.parts["repos_net.volume_eam"]).reset_parameters()
    for name, part in adapter.parts.items():
        keep_in(half, part, name)
    adapter.save(folder)
    if card is not None:  # it stays as it was
        (folder / CARD).write_bytes(card)


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(RenewOptions, "renew", argv)
    renew(options)


if __name__ == "__main__":
    run_script(main)
