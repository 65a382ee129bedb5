"""From the public checkpoints of the networks that judge or train a talking head to Hub-ready folders.

Strict, as `official` is: every tensor of a checkpoint is used, or it is known why it is not needed.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import ConversionError
from ..media.files import whole_folder
from ..models.judges.emotion_fan import EmotionFAN
from ..models.judges.inception import InceptionV3, Variant
from ..models.judges.sync_expert import SyncExpert
from ..models.judges.syncnet import SyncNet
from ..models.judges.vgg import VGGFeatures
from .files import check_output_folder, existing, load_checkpoint

__all__ = ["JUDGES", "ConversionError", "convert_judge", "judge_of_tensors"]

MAX_NAMED = 8  # an error message names this many tensors of each kind; `ConversionError.problems` has them all
BATCH_COUNTER = "num_batches_tracked"  # checkpoints from before torch 0.4.1 lack it, and no statistics depend on it

_INCEPTION_VARIANTS: dict[int, Variant] = {1000: "imagenet", 1008: "fid"}  # by the classes of the last layer


@dataclass(frozen=True)
class Release:
    """A network that somebody else trained and published.

    Attributes:
        title: what it is called in messages and cards.
        build: an empty model from the tensors, by the checkpoint's names.
        purpose, origin, license_note: sentences of the card.
        license: the Hub's identifier.
        unneeded: what the names of tensors that nothing here needs start with, and why.
    """

    title: str
    build: Callable[[Mapping[str, Tensor]], ModelMixin]
    purpose: str
    origin: str
    license: str
    license_note: str
    unneeded: Mapping[str, str] = field(default_factory=dict)


def _build_inception(tensors: Mapping[str, Tensor]) -> InceptionV3:
    classes = len(tensors["fc.weight"]) if "fc.weight" in tensors else None
    if classes not in _INCEPTION_VARIANTS:
        found = "has no fc.weight" if classes is None else f"has {classes} classes"
        raise ConversionError(
            f"The checkpoint is not a known Inception-v3: it {found}, where torchvision's has 1000 classes and "
            "pytorch-fid's 1008."
        )
    return InceptionV3(_INCEPTION_VARIANTS[classes])


_CLASSIFIER = "classifies objects; only the features before it are compared"

JUDGES: dict[str, Release] = {
    "syncnet": Release(
        title="SyncNet-v2",
        build=lambda _: SyncNet(),
        purpose="Judges how well lips and speech go together (LSE-C and LSE-D, the confidence that papers report).",
        origin="`syncnet_v2.model` of <https://github.com/joonson/syncnet_python>, by Joon Son Chung and Andrew "
        "Zisserman (*Out of time: automated lip sync in the wild*, 2016).",
        license="mit",
        license_note="The repository is under the MIT licence, copyright (c) 2016-present Joon Son Chung.",
    ),
    "sync-expert": Release(
        title="Lip-sync expert",
        build=lambda _: SyncExpert(),
        purpose="Compares lips and speech in the sync loss that A2ET is trained with (Eq. 7 of the EAT paper).",
        origin="The expert of <https://github.com/yuangan/EAT_code> (Gan et al., *Efficient Emotional Adaptation for "
        "Audio-Driven Talking-Head Generation*, ICCV 2023), a network designed for Wav2Lip (Prajwal et al., 2020).",
        license="cc-by-nc-4.0",
        license_note="EAT's authors release their weights under CC BY-NC 4.0: no commercial use. A checkpoint of the "
        "same layout from elsewhere, such as Wav2Lip's, carries its own terms instead.",
    ),
    "emotion-fan": Release(
        title="Emotion-FAN",
        build=lambda _: EmotionFAN(),
        purpose="Judges which of eight emotions the face in a clip shows (Acc_emo).",
        origin="The frame attention network of <https://github.com/Open-Debin/Emotion-FAN> (Meng et al., ICIP 2019), "
        "as EAT's authors trained it on MEAD for <https://github.com/yuangan/evaluation_eat>.",
        license="other",
        license_note="The network's code is under the MIT licence. No licence is stated with the weights; they were "
        "trained on MEAD, whose terms allow non-commercial research only.",
        unneeded={
            "pred_fc1.": "the head for clips without the second attention",
            "fc.": "the head of the network that training started from",
        },
    ),
    "inception": Release(
        title="Inception-v3",
        build=_build_inception,
        purpose="Gives the features whose distributions the Frechet inception distance (FID) compares.",
        origin="torchvision's ImageNet weights (<https://github.com/pytorch/vision>) if `variant` in `config.json` is "
        '"imagenet"; if it is "fid", the weights of the original FID code as converted for '
        "<https://github.com/mseitzer/pytorch-fid>.",
        license="other",
        license_note="torchvision is under BSD-3-Clause, pytorch-fid under Apache-2.0.",
        unneeded={"fc.": _CLASSIFIER, "AuxLogits.": "a classifier that only training uses"},
    ),
    "vgg19": Release(
        title="VGG-19",
        build=lambda _: VGGFeatures(),
        purpose="Gives the features in which perceptual distances and the perceptual loss are measured.",
        origin="torchvision's ImageNet weights (<https://github.com/pytorch/vision>).",
        license="bsd-3-clause",
        license_note="torchvision is under BSD-3-Clause.",
        unneeded={
            **dict.fromkeys(("classifier.", "pre_logits.", "head."), _CLASSIFIER),
            **dict.fromkeys(("features.30.", "features.32.", "features.34."), "lies behind relu5_1"),
        },
    ),
}


def _release(kind: str) -> Release:
    if kind not in JUDGES:
        raise ConversionError(f"There is no judge {kind!r} to convert; choose one of {', '.join(JUDGES)}.")
    return JUDGES[kind]


def _shape(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _read(path: Path) -> dict:
    if path.suffix != ".safetensors":
        return load_checkpoint(path, "checkpoint")
    try:
        return load_file(existing(path, "checkpoint"))
    except (SafetensorError, OSError) as error:
        raise ConversionError(f"The checkpoint {path} cannot be read as safetensors: {error}") from error


def _state_dict(content: Mapping, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may lie under "state_dict" and have DataParallel's "module." in front."""
    tensors = content.get("state_dict", content)
    if not (isinstance(tensors, Mapping) and tensors and all(isinstance(t, Tensor) for t in tensors.values())):
        held = ", ".join(map(str, content)) or "nothing"
        raise ConversionError(
            f"The checkpoint {path} is no dictionary of tensors and has none under 'state_dict'; it holds {held}."
        )
    tensors = {str(name): tensor for name, tensor in tensors.items()}
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def judge_of_tensors(kind: str, tensors: Mapping[str, Tensor]) -> ModelMixin:
    """A judge with the tensors of its public checkpoint, ready to judge.

    Args:
        kind: a key of `JUDGES`.
        tensors: by the checkpoint's names; of any precision, they become float32.

    Raises:
        ConversionError: tensors are missing, unknown or of the wrong shape; the message names them.
    """
    release = _release(kind)
    with init_empty_weights(include_buffers=False):
        model = release.build(tensors)
    own = model.state_dict()
    needed = {name: t for name, t in tensors.items() if not name.startswith(tuple(release.unneeded))}
    found = {
        "Missing tensors": [n for n in own if n not in needed and not n.endswith(BATCH_COUNTER)],
        "Unknown tensors": sorted(needed.keys() - own.keys()),
        "Wrong shapes": [
            f"{name} is {_shape(tensor.shape)}, not {_shape(own[name].shape)}"
            for name, tensor in needed.items()
            if name in own and tensor.shape != own[name].shape
        ],
    }
    problems = {what: names for what, names in found.items() if names}
    if problems:
        parts = []
        for what, names in problems.items():
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            parts.append(f"{what}: {', '.join(names[:MAX_NAMED])}{more}")
        raise ConversionError(f"The checkpoint is not that of {release.title}. {'; '.join(parts)}.", problems)
    state = own | {name: tensor.detach().to(own[name].dtype).contiguous() for name, tensor in needed.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


MODEL_CARD = """\
---
license: {license}
library_name: diffusers
tags:
- talking-head
- evaluation
---

# {title} (converted)

{purpose}

```python
from {module} import {model}

judge = {model}.from_pretrained("path/to/this/folder")
```

## Origin

{origin}

Converted by `eat_hf` from `{file}` (SHA-256 `{digest}`). The numbers are the authors'; nothing was trained or changed.

Left out:

{dropped}

## License

{license_note} This copy carries the same terms.
"""


def _model_card(release: Release, model: ModelMixin, checkpoint: Path, tensors: Mapping[str, Tensor]) -> str:
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    dropped = [
        f"- `{prefix}*` ({reason})"
        for prefix, reason in release.unneeded.items()
        if any(name.startswith(prefix) for name in tensors)
    ]
    return MODEL_CARD.format(
        license=release.license,
        title=release.title,
        purpose=release.purpose,
        module=type(model).__module__,
        model=type(model).__name__,
        origin=release.origin,
        file=checkpoint.name,
        digest=digest,
        dropped="\n".join(dropped) or "- nothing",
        license_note=release.license_note,
    )


def convert_judge(kind: str, checkpoint: str | Path, output_dir: str | Path) -> Path:
    """Convert a public checkpoint to a folder for `from_pretrained` or the Hub.

    Args:
        kind: "syncnet" (`syncnet_v2.model`), "sync-expert", "emotion-fan", "inception" (torchvision's or pytorch-fid's,
            told apart by their number of classes) or "vgg19" (torchvision's).
        checkpoint: a file of torch or safetensors with a dictionary of tensors, perhaps under "state_dict". Nothing but
            data is unpickled.
        output_dir: must not exist yet or be empty. It appears complete or not at all.

    Returns:
        output_dir.

    Raises:
        ConversionError: an unknown kind, a file that is missing or unreadable, or tensors that are not the network's.
    """
    release, checkpoint, output = _release(kind), Path(checkpoint), Path(output_dir)
    check_output_folder(output)
    tensors = _state_dict(_read(checkpoint), checkpoint)
    model = judge_of_tensors(kind, tensors)
    card = _model_card(release, model, checkpoint, tensors)

    with whole_folder(output) as folder:
        model.save_pretrained(folder)
        (folder / "README.md").write_text(card)
    return output
