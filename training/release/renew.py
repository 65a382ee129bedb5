"""Put networks of stage 1a that were trained anew into a finished pipeline, and carry its adapters over to it.

    python -m training.release.renew --model checkpoints_card/eat-demo --repos_net runs/renderer/repos_net \
        --adapters examples/adapters/crying_hard

Keypoints have names and places of their own, so the networks above them need not be trained again. The EAM of a new
renderer is the identity, in the model and in every adapter, until stage 2 teaches it.
"""

import json
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import nn

from eat_hf import EATPipeline
from eat_hf.adapters.emotion_adapter import CONFIG, WEIGHTS, AdapterConfig, EmotionAdapter
from eat_hf.adapters.fingerprint import Base, fingerprint
from eat_hf.adapters.from_text import FOLDER
from eat_hf.errors import UserError
from eat_hf.media.files import write_atomically
from eat_hf.models.components import load_component
from eat_hf.models.eam import EmotionalAdaptationModule

from ..loop.command_line import parse_options, run_script
from .assemble import resting_lips

NETWORKS = ("keypoint_detector", "motion_estimator", "repos_net")
ALIGNMENT = ("template_landmarks", "landmark_reader")  # settings that a new detector takes over


@dataclass
class RenewOptions:
    """Options."""

    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder; it is changed."})
    keypoint_detector: str = field(default="", metadata={"help": "Folder of a new one; empty: as it is."})
    motion_estimator: str = field(default="", metadata={"help": "Folder of a new one; empty: as it is."})
    repos_net: str = field(default="", metadata={"help": "Folder of a new one; empty: as it is."})
    corpus: str = field(default="", metadata={"help": "Corpus that says how lips part (`rest_lips`); empty: as it is."})
    adapters: list[str] = field(default_factory=list, metadata={"help": "Folders of adapters of this model."})
    half: bool = field(default=True, metadata={"help": "Store float16, in half the space; it is read as float32."})


def renew(options: RenewOptions) -> None:
    """Raises UserError: a network has other keypoints than the model's, or an adapter was made for another model."""
    model, dtype = Path(options.model), torch.float16 if options.half else torch.float32
    given = {name: place for name in NETWORKS if (place := getattr(options, name))}
    keypoints = load_component(model / "a2et").config.keypoints
    for name, place in given.items():
        network = load_component(place)
        if network.config.keypoints != keypoints:
            raise UserError(f"{place} has {network.config.keypoints} keypoints, the model {keypoints}.")
        if name == "keypoint_detector":
            old = json.loads((model / name / "config.json").read_text())
            network.register_to_config(**{name: old[name] for name in ALIGNMENT if name in old})
        if name == "repos_net":
            network.volume_eam.reset_parameters()
        nn.Module.to(network, dtype)  # the network's own warns of parts to keep in float32: []
        network.save_pretrained(model / name)
    if options.corpus:
        place = model / "expression_basis" / "config.json"
        basis = json.loads(place.read_text())
        basis |= resting_lips(options.corpus, basis["hull_volume_exponent"])
        write_atomically(place, json.dumps(basis, indent=2, sort_keys=True) + "\n")
    base = EATPipeline.from_pretrained(model).base
    words = model / FOLDER / "adapter"
    for folder in (*map(Path, options.adapters), *([words] if words.is_dir() else [])):
        carry(folder, base, given, dtype)


def carry(folder: Path, base: Base, renewed: Collection[str], dtype: torch.dtype) -> None:
    """Make an adapter one of the base, which differs from its own in the renewed networks alone."""
    config = AdapterConfig.load(folder)
    present = fingerprint(base)
    known = {name: present[name] if name in renewed else digest for name, digest in config.base_fingerprint.items()}
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        (Path(copy) / CONFIG).write_text(config.changed(base_fingerprint=known).model_dump_json())
        adapter = EmotionAdapter.load(Path(copy), base)
        if "repos_net" in renewed:
            cast(EmotionalAdaptationModule, adapter.parts["repos_net.volume_eam"]).reset_parameters()
        for part in adapter.parts.values():
            nn.Module.to(part, dtype)
        adapter.save(copy)
        for name in (CONFIG, WEIGHTS):  # the card stays as it was
            shutil.copyfile(Path(copy) / name, folder / name)


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(RenewOptions, "renew", argv)
    renew(options)


if __name__ == "__main__":
    run_script(main)
