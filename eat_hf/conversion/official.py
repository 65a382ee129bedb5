"""From the authors' release to a Hub-ready folder that `EATPipeline.from_pretrained` loads.

Strict: every tensor of the release is either used or listed in `conversion.json` with the reason why not.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..errors import ConversionError
from ..media.files import whole_folder
from ..models.a2et import A2ET
from ..models.edn import EDN
from ..models.emotion_mapper import EmotionMapper
from ..models.expression_basis import ExpressionBasis
from ..models.keypoint_detector import CanonicalKeypointDetector
from ..models.layers import gaussian_kernel
from ..models.motion_estimator import MotionEstimator
from ..models.repos_net import RePosNet
from ..models.speech_encoder import DeepSpeechEncoder
from ..models.transformer import sinusoid_positions
from .deepspeech_graph import load_graph_constants
from .files import check_output_folder, existing, load_array, load_checkpoint, load_padding
from .names import SPECTRAL_NORM, official_names

__all__ = ["ConversionError", "convert_official", "load_official", "load_deepspeech"]

REPORT_FILE = "conversion.json"
MAX_NAMED = 20  # an error message names this many tensors of each kind; `ConversionError.problems` has them all

# component -> class and its name in the release
EAT_NETWORKS: dict[str, tuple[type[nn.Module], str]] = {
    "keypoint_detector": (CanonicalKeypointDetector, "kp_detector"),
    "emotion_mapper": (EmotionMapper, "emotionprompt"),
    "a2et": (A2ET, "audio2kptransformer"),
    "edn": (EDN, "sidetuning"),
    "repos_net": (RePosNet, "generator"),
}
LATENT_NETWORKS: dict[str, tuple[type[nn.Module], str]] = {"motion_estimator": (MotionEstimator, "he_estimator")}

# tensors that a release without emotional adaptation (stage 1) lacks
ADAPTATION = {"a2et": "face_eam.", "repos_net": "volume_eam."}


@dataclass(frozen=True)
class Unneeded:
    """A tensor of the release that nothing here needs: why, and what it must be for that to hold (if anything)."""

    reason: str
    constant: Callable[[Tensor], Tensor] | None = None


_POSITIONS = Unneeded("fixed sinusoid, computed", lambda t: sinusoid_positions(*t.shape[-2:]).expand_as(t))
_PITCH_HEADS = Unneeded("a classifier of the pretrained pitch network, which EAT never runs")
UNNEEDED: dict[str, dict[str, Unneeded]] = {  # by component, by what the names of such tensors start with
    "keypoint_detector": {
        "down.weight": Unneeded("fixed Gaussian, computed", lambda t: gaussian_kernel(t.shape[-1]).expand_as(t))
    },
    "a2et": {
        "embedding.weight": Unneeded("no layer of the network reads it"),
        "pos_enc.pos_table": _POSITIONS,
        "f0_model.detector_conv.": _PITCH_HEADS,
        "f0_model.bilstm_classifier.": _PITCH_HEADS,
        "f0_model.bilstm_detector.": _PITCH_HEADS,
        "f0_model.classifier.": _PITCH_HEADS,
        "f0_model.detector.": _PITCH_HEADS,
    },
    "edn": {"pos_enc.pos_table": _POSITIONS},
}


@dataclass
class Report:
    """What a conversion used and what it left out; becomes `conversion.json`."""

    files: dict[str, dict] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_file(self, role: str, path: str | Path) -> None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.files[role] = {"name": Path(path).name, "bytes": os.path.getsize(path), "sha256": digest}

    def drop(self, file: str, tensor: str, reason: str) -> None:
        self.dropped.append({"file": file, "tensor": tensor, "reason": reason})


def _unneeded(component: str, name: str) -> Unneeded | None:
    """Why a tensor of the release is not needed, if it is not."""
    rules = UNNEEDED.get(component, {}).items()
    return next((rule for start, rule in rules if name.startswith(start)), None)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _raise(problems: dict[str, list[str]]) -> None:
    """One ConversionError for everything that was found, if anything was."""
    parts = []
    for kind, names in problems.items():
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            parts.append(f"{kind}: {', '.join(names[:MAX_NAMED])}{more}")
    if parts:
        found = {kind: names for kind, names in problems.items() if names}
        raise ConversionError("The checkpoint is not the released EAT network. " + "; ".join(parts) + ".", found)


def _new_problems() -> dict[str, list[str]]:
    return {"Missing tensors": [], "Unknown tensors": [], "Wrong shapes": [], "Not the expected constant": []}


def _translate(
    component: str,
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    problems: dict[str, list[str]],
    prefix: str,
    stage1: bool = False,
) -> dict[str, Tensor]:
    """The release's tensors of one network -> our state dict; what does not fit goes to `problems`."""
    absent = ADAPTATION.get(component) if stage1 else None
    unneeded = {name: rule for name in tensors if (rule := _unneeded(component, name))}
    left = set(tensors) - set(unneeded)
    state: dict[str, Tensor] = {}

    def take(name: str, expected: torch.Size | None) -> Tensor | None:
        left.discard(name)
        if name not in tensors:
            problems["Missing tensors"].append(prefix + name)
            return None
        tensor = tensors[name]
        if expected is not None and tensor.shape != expected:
            wanted = "x".join(map(str, expected)) or "scalar"
            problems["Wrong shapes"].append(f"{prefix}{name} is {_shape(tensor)}, not {wanted}")
            return None
        return tensor

    own = model.state_dict()
    for ours, theirs in official_names(component, own).items():
        if absent and ours.startswith(absent):
            continue
        shape = own[ours].shape
        if component == "repos_net" and SPECTRAL_NORM.match(theirs):
            rows, columns = shape[:1], torch.Size([shape.numel() // shape[0]])
            weight, u, v = take(theirs + "_orig", shape), take(theirs + "_u", rows), take(theirs + "_v", columns)
            if weight is None or u is None or v is None:
                continue
            tensor: Tensor | None = weight / (u @ (weight.flatten(1) @ v))
        else:
            tensor = take(theirs, shape)
        if tensor is not None:
            state[ours] = tensor.to(own[ours].dtype)

    for name, rule in unneeded.items():
        if rule.constant:
            constant = tensors[name].float()
            if not torch.allclose(constant, rule.constant(constant), atol=1e-6):
                problems["Not the expected constant"].append(prefix + name)
    problems["Unknown tensors"] += sorted(prefix + name for name in left)
    return state


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the "module." that DataParallel puts before each of them."""
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def load_official(component: str, model: nn.Module, tensors: Mapping[str, Tensor], stage1: bool = False) -> nn.Module:
    """Load one network's tensors of the release, by the release's names.

    Args:
        component: pipeline attribute, such as "a2et".
        model: of that component's class; its tensors are replaced by the release's (not copied).
        stage1: the release is from before emotional adaptation and lacks the adaptation modules outside the acoustic
            encoder; the model's own stay.

    Raises:
        ConversionError: names every tensor that is missing, unknown or of the wrong shape.
    """
    problems = _new_problems()
    state = _translate(component, model, _without_prefix(tensors), problems, f"{component}: ", stage1)
    _raise(problems)
    # what is not the checkpoint's: padding vectors and, before adaptation, the adaptation modules
    model.load_state_dict(model.state_dict() | state, assign=True)
    return model.eval()


def _walk(content: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dictionaries and lists with its dotted path."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _walk(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, list | tuple):
        for i, value in enumerate(content):
            yield from _walk(value, f"{path}.{i}")


def _find_networks(content: Mapping, wanted: list[str], what: str) -> tuple[Mapping, str]:
    """The dictionary that holds the wanted networks: the checkpoint itself or one of its entries; and its path."""
    candidates = [(content, "")]
    candidates += [(value, f"{key}.") for key, value in content.items() if isinstance(value, Mapping)]
    for networks, path in candidates:
        if all(isinstance(networks.get(name), Mapping) for name in wanted):
            return networks, path
    missing = [name for name in wanted if not isinstance(content.get(name), Mapping)]
    held = ", ".join(map(str, content)) or "nothing"
    raise ConversionError(f"The {what} lacks the networks {', '.join(missing)}; it holds {held}.")


def _convert_checkpoint(
    content: Mapping,
    networks: dict[str, tuple[type[nn.Module], str]],
    role: str,
    report: Report,
    problems: dict[str, list[str]],
    elsewhere: Mapping[str, str],
) -> dict[str, nn.Module]:
    """Build the networks of one checkpoint. `elsewhere`: networks it holds as well but that are not taken from it."""
    found, path = _find_networks(content, [name for _, name in networks.values()], f"{role} checkpoint")
    models, taken = {}, set()
    for component, (model_class, name) in networks.items():
        with init_empty_weights(include_buffers=False):
            model = model_class()
        tensors = _without_prefix(found[name])
        state = _translate(component, model, tensors, problems, f"{name}.")
        report.used[component] = len(tensors)
        for tensor in tensors:
            if rule := _unneeded(component, tensor):
                report.used[component] -= 1
                report.drop(role, f"{path}{name}.{tensor}", rule.reason)
        if not any(problems.values()):
            model.load_state_dict(model.state_dict() | state, assign=True)
            models[component] = model.eval()
        taken.add(f"{path}{name}.")
    for name, _ in _walk(content):
        if any(name.startswith(prefix) for prefix in taken):
            continue
        top = name.removeprefix(path).split(".")[0]
        if top in elsewhere:
            reason = elsewhere[top]
        elif "optim" in top or "scheduler" in top:
            reason = "state of the training, not needed to generate"
        else:
            reason = "a network that only training uses"
        report.drop(role, name, reason)
    return models


_CELLS = {"": "bidirectional_rnn/fw/basic_lstm_cell/", "_reverse": "bidirectional_rnn/bw/basic_lstm_cell/"}
_DENSE = (1, 2, 3, 5, 6)
DEEPSPEECH_CONSTANTS = (
    *(f"{letter}{i}" for i in _DENSE for letter in "hb"),
    *(cell + part for cell in _CELLS.values() for part in ("kernel", "bias")),
)


def load_deepspeech(path: str | Path) -> tuple[DeepSpeechEncoder, list[str]]:
    """The frozen DeepSpeech 0.1.0 graph -> the speech encoder and the names of the constants it does not use.

    TensorFlow keeps the gates i, j, f, o of an LSTM in one kernel over [input; hidden] and adds 1 to the forget gate
    at run time; torch keeps i, f, g (= j), o in two matrices, and here the 1 is part of the bias.

    Raises:
        ConversionError: the graph cannot be read or is not DeepSpeech 0.1.0.
    """
    constants = load_graph_constants(path)
    missing = [name for name in DEEPSPEECH_CONSTANTS if name not in constants]
    if missing:
        raise ConversionError(f"The DeepSpeech graph {path} lacks {', '.join(missing)}; DeepSpeech 0.1.0 has them.")

    lstm_hidden = constants[_CELLS[""] + "bias"].size // 4
    try:
        model = DeepSpeechEncoder(
            hidden=constants["b1"].size,
            lstm_input=constants["b3"].size,
            lstm_hidden=lstm_hidden,
            classes=constants["b6"].size,
        )
        state = {}
        for i in _DENSE:
            state[f"dense{i}.weight"] = torch.from_numpy(constants[f"h{i}"]).T.contiguous()
            state[f"dense{i}.bias"] = torch.from_numpy(constants[f"b{i}"])
        for suffix, cell in _CELLS.items():
            kernel, bias = (torch.from_numpy(constants[cell + part]) for part in ("kernel", "bias"))
            i, j, f, o = kernel.T.split(lstm_hidden)
            weight = torch.cat([i, f, j, o])
            i, j, f, o = bias.split(lstm_hidden)
            state[f"lstm.weight_ih_l0{suffix}"] = weight[:, :-lstm_hidden].contiguous()
            state[f"lstm.weight_hh_l0{suffix}"] = weight[:, -lstm_hidden:].contiguous()
            state[f"lstm.bias_ih_l0{suffix}"] = torch.cat([i, f + 1, j, o])
            state[f"lstm.bias_hh_l0{suffix}"] = torch.zeros_like(bias)
        model.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"The layers of the DeepSpeech graph {path} do not fit together: {error}") from error
    return model.eval(), sorted(set(constants) - set(DEEPSPEECH_CONSTANTS))


def _load_basis(pca_dir: str | Path, report: Report) -> ExpressionBasis:
    folder = existing(pca_dir, "PCA folder")
    if (folder / "expPCAnorm_fin").is_dir():
        folder = folder / "expPCAnorm_fin"
    basis = ExpressionBasis()
    rows, count = basis.directions.shape
    directions = load_array(folder / "U_mead.npy", "PCA directions file", (rows, -1))
    if directions.shape[1] < count:
        raise ConversionError(f"U_mead.npy has {directions.shape[1]} directions, but the network predicts {count}.")
    basis.directions.copy_(directions[:, :count])
    basis.mean.copy_(load_array(folder / "mean_mead.npy", "PCA mean file", (rows,)))
    for name in ("U_mead.npy", "mean_mead.npy"):
        report.add_file(name, folder / name)
    report.used["expression_basis"] = 2
    if directions.shape[1] > count:
        report.drop("pca", f"U_mead.npy[:, {count}:]", "smaller principal components that A2ET does not predict")
    return basis


MODEL_CARD = """\
---
license: cc-by-nc-4.0
library_name: diffusers
tags:
- talking-head
- emotional-talking-head
- audio-driven
- eat
---

# EAT: emotional adaptation for audio-driven talking heads (converted)

The weights that the authors of *Efficient Emotional Adaptation for Audio-Driven Talking-Head Generation* (Gan, Yang,
Yue, Sun, Yang; ICCV 2023) released with <https://github.com/yuangan/EAT_code>, converted to safetensors by `eat_hf`.
The numbers are the authors'; only names and layout changed, and the spectral norm of the decoder was folded in.

```python
from eat_hf import EATPipeline

pipe = EATPipeline.from_pretrained("path/to/this/folder")
pipe("portrait.jpg", "speech.wav", emotion="happy").save("out.mp4")
```

Portraits are cut out by dlib's landmarks, as the authors did: `pip install 'eat_hf[dlib]'`.

## License

The authors release their weights under **CC BY-NC 4.0**: no commercial use, and credit is due to them. This copy
carries the same terms.
{license_notes}
## Use it fairly

This model makes people say things they never said. Animate a face only with the consent of the person it belongs to,
and tell viewers that the video is generated.

## Conversion

{notes}
`conversion.json` lists the source files with their checksums and every tensor that was left out:

{dropped}
"""


def _model_card(report: Report, with_speech: bool) -> str:
    groups: dict[tuple[str, str], int] = {}
    for entry in report.dropped:
        key = entry["file"], entry["reason"]
        groups[key] = groups.get(key, 0) + 1
    dropped = "\n".join(f"- {file}: {count} ({reason})" for (file, reason), count in groups.items()) or "- nothing"
    notes = "\n".join(f"- {note}" for note in report.notes)
    license_notes = "The speech encoder is Mozilla's DeepSpeech 0.1.0 (MPL 2.0).\n" if with_speech else ""
    return MODEL_CARD.format(license_notes=license_notes, notes=f"{notes}\n" if notes else "", dropped=dropped)


def _convert_checkpoints(checkpoint: str | Path, latent_checkpoint: str | Path, report: Report) -> dict[str, nn.Module]:
    """All networks of both checkpoints; one error for whatever is wrong with either."""
    problems = _new_problems()
    content = load_checkpoint(checkpoint, "checkpoint")
    latent = load_checkpoint(latent_checkpoint, "latent checkpoint")
    newer = {name: "the EAT checkpoint holds the copy that was trained further" for _, name in EAT_NETWORKS.values()}
    older = {name: "taken from the latent checkpoint" for _, name in LATENT_NETWORKS.values()}
    components = _convert_checkpoint(content, EAT_NETWORKS, "eat", report, problems, older)
    components |= _convert_checkpoint(latent, LATENT_NETWORKS, "latent", report, problems, newer)
    _raise(problems)
    return components


def _load_speech_encoder(graph: str | Path | None, report: Report) -> DeepSpeechEncoder | None:
    if graph is None:
        report.notes.append("No DeepSpeech graph was given: the pipeline has no speech encoder and cannot read audio.")
        return None
    encoder, unused = load_deepspeech(graph)
    report.add_file("deepspeech", graph)
    report.used["speech_encoder"] = len(DEEPSPEECH_CONSTANTS)
    for name in unused:
        report.drop("deepspeech", name, "a constant of the graph that is not a weight of the network")
    return encoder


def _load_settings(
    components: dict[str, Any], padding: str | Path | None, template: str | Path | None, report: Report
) -> None:
    """Put the padding into A2ET's buffers, and into the detector's configuration what portraits are aligned to."""
    a2et = components["a2et"]
    if padding is None:
        report.notes.append("No pad.npy was given: silence before and after a clip is zeros, as in training.")
    else:
        mel, semantic = load_padding(padding)
        a2et.mel_padding.copy_(mel)
        a2et.semantic_padding.copy_(semantic)
        report.add_file("padding", padding)
    if template is None:
        report.notes.append("No alignment template was given: portraits are aligned to the pipeline's own.")
        return
    report.add_file("template", template)
    landmarks = load_array(template, "alignment template", (68, 2)).tolist()
    components["keypoint_detector"].register_to_config(template_landmarks=landmarks)


def _write(pipeline: DiffusionPipeline, report: Report, output: Path) -> None:
    with whole_folder(output) as folder:
        pipeline.save_pretrained(folder)
        (folder / REPORT_FILE).write_text(json.dumps(vars(report), indent=1) + "\n")
        (folder / "README.md").write_text(_model_card(report, pipeline.speech_encoder is not None))


def convert_official(
    checkpoint: str | Path,
    latent_checkpoint: str | Path,
    pca_dir: str | Path,
    deepspeech_graph: str | Path | None = None,
    padding: str | Path | None = None,
    template: str | Path | None = None,
    *,
    output_dir: str | Path,
) -> Path:
    """Convert the authors' release to a folder for `EATPipeline.from_pretrained` or the Hub.

    Args:
        checkpoint: the emotional EAT checkpoint (.pth.tar).
        latent_checkpoint: the enhanced latent representation, for its head pose and expression estimator.
        pca_dir: folder with U_mead.npy and mean_mead.npy, or the one that holds expPCAnorm_fin.
        deepspeech_graph: frozen graph of DeepSpeech 0.1.0 (.pb); without it the pipeline has no speech encoder.
        padding: pad.npy, what the network hears before and after a clip; zeros without it.
        template: M003_template.npy, the 68 landmarks that portraits are aligned to; the pipeline's own without it.
        output_dir: must not exist yet or be empty. It appears complete or not at all.

    Returns:
        output_dir.

    Raises:
        ConversionError: a file is missing or is not the released network; the message names the tensors.
    """
    from ..pipeline.pipeline_eat import EATPipeline  # here, because the pipeline imports half the package

    output = Path(output_dir)
    check_output_folder(output)

    given = {
        "checkpoint": checkpoint,
        "latent checkpoint": latent_checkpoint,
        "PCA folder": pca_dir,
        "DeepSpeech graph": deepspeech_graph,
        "padding file": padding,
        "alignment template": template,
    }
    for what, path in given.items():  # before any of the slow work
        if path is not None:
            existing(path, what)

    report = Report()
    with tqdm(total=4, desc="Reading the checkpoints", unit="step") as progress:
        components: dict[str, Any] = dict(_convert_checkpoints(checkpoint, latent_checkpoint, report))
        progress.update()
        progress.set_description("Reading the other files")
        components["expression_basis"] = _load_basis(pca_dir, report)
        components["speech_encoder"] = _load_speech_encoder(deepspeech_graph, report)
        _load_settings(components, padding, template, report)
        progress.update()
        progress.set_description("Noting where everything came from")
        report.add_file("eat", checkpoint)
        report.add_file("latent", latent_checkpoint)
        progress.update()
        progress.set_description("Writing the pipeline")
        _write(EATPipeline(**components), report, output)
        progress.update()
    return output
