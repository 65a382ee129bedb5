"""Put trained components together as a pipeline folder, a complete Hub repository but for its model card.

What every stage measured on held-out data, and how long it took, goes along as training.json.

python -m training.release.assemble --corpus CORPUS --runs runs --output checkpoints_card/eat-demo
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eat_hf import (
    EATPipeline,
)
from eat_hf.inputs.landmarks import MIRROR
from eat_hf.keypoints import hull_volume
from eat_hf.media.files import write_atomically
from eat_hf.models.components import load_component
from eat_hf.models.eye_decoder import DEGREE

from ..data.dataset import Corpus
from ..data.frames import FrameBank
from ..loop.command_line import latent_folder, parse_options, run_script
from .precision import keep_in

LIPS = ("inner_lip_upper_middle", "inner_lip_lower_middle")


@dataclass
class AssembleOptions:
    """Options."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder, for the template that faces align to."})
    runs: str = field(default="runs", metadata={"help": "Folder with the runs of all stages."})
    emotion: str = field(default="emotion", metadata={"help": "Which of the runs is that of stage 2."})
    output: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Where the pipeline goes."})
    half: bool = field(default=True, metadata={"help": "Store float16, in half the space; it is read as float32."})


def template_landmarks(bank: FrameBank) -> np.ndarray:
    """(68, 2) pixels: the mean face over identities, from calm frames, symmetrical."""
    calm = bank.labels["landmarks"][bank.calm][..., :2]
    mean = np.mean([calm[bank.identity[bank.calm] == i].mean(0) for i in np.unique(bank.identity[bank.calm])], 0)
    mirrored = mean[MIRROR] * [-1, 1]
    return ((mean + mirrored) / 2 + 1) * 128 - 0.5


def blink_deformation(corpus: str, exponent: float, clips: int = 200) -> list[float] | None:
    """(3K,) what a blink adds to the lids' keypoints, in units of V ** exponent, mean over people; None if the corpus
    does not say when people blink."""
    found = []
    source = Corpus(corpus)
    for clip in source.clips(split="train", kind="speech")[:clips]:
        labels = clip.labels()
        if "arkit" not in labels:
            return None
        units = list(labels["arkit_names"])
        closure = labels["arkit"][:, [units.index("eyeBlinkLeft"), units.index("eyeBlinkRight")]].min(1)
        if closure.max() < 0.95 or closure.min() > 0.05:
            continue
        change = labels["expression"][closure.argmax()] - labels["expression"][closure < 0.05].mean(0)
        volume = hull_volume(torch.from_numpy(labels["canonical"])[None]).item()
        found.append(change / volume**exponent)
    if not found:
        return None
    lids = np.array(["lid" in name for name in source.info["keypoint_names"]])  # other keypoints move by chance
    return np.where(lids[:, None], np.mean(found, 0), 0).flatten().round(5).tolist()


def gaze_deformation(corpus: str, exponent: float, clips: int = 400) -> list[list[float]] | None:
    """(2, 3K) what an eye that turns by a degree to the picture's right, and up, adds to the keypoints of pupils and
    lids, in units of V ** exponent; None if the corpus does not say where people look, or nobody looks about.

    Least squares over frames of people whose pupils move, beside all other units. A degree is as far as a pupil moves
    on an eyeball.
    """
    source = Corpus(corpus)
    names = source.info["keypoint_names"]
    pupils, outer, inner = (
        [names.index(f"{name}_{side}") for side in ("left", "right") if f"{name}_{side}" in names]
        for name in ("pupil", "eye_outer_corner", "eye_inner_corner")
    )
    causes, found, widths = [], [], []
    for clip in source.clips(split="train")[:clips]:
        labels = clip.labels()
        if "arkit" not in labels or not pupils:
            return None
        if np.ptp(labels["expression"][:, pupils, 0], 0).max() < 1e-3:
            continue
        units = dict(zip(labels["arkit_names"], labels["arkit"].T, strict=True))
        look = {name: units.pop(name) for name in list(units) if name.startswith("eyeLook")}
        # the person's left eye is on the right of the picture
        right = look["eyeLookOutLeft"] + look["eyeLookInRight"] - look["eyeLookInLeft"] - look["eyeLookOutRight"]
        up = sum(look[f"eyeLookUp{side}"] - look[f"eyeLookDown{side}"] for side in ("Left", "Right"))
        scale = hull_volume(torch.from_numpy(labels["canonical"])[None]).item() ** exponent
        causes.append(np.stack([right, up, *units.values(), np.ones_like(right)], 1))
        found.append((labels["expression"] / scale).reshape(len(right), -1))
        widths.append(np.linalg.norm(labels["canonical"][outer] - labels["canonical"][inner], axis=-1).mean() / scale)
    if not causes:
        return None
    effects = np.linalg.lstsq(np.concatenate(causes), np.concatenate(found), rcond=None)[0][:2].reshape(2, -1, 3)
    degree = DEGREE * np.mean(widths)
    moved = [effects[0, pupils, 0].mean(), -effects[1, pupils, 1].mean()]
    if min(moved) < degree:  # hardly anybody looks about
        return None
    parts = np.array(["lid" in name or "pupil" in name for name in names])  # others move by chance
    effects = np.where(parts[:, None], effects, 0) * (degree / np.array(moved))[:, None, None]
    return effects.reshape(2, -1).astype(float).round(6).tolist()


def resting_lips(corpus: str, exponent: float, clips: int = 400) -> dict[str, Any]:
    """The settings of `ExpressionBasis` that shut the lips of canonical keypoints, from rendered people; none if the
    corpus has no such keypoints. How other keypoints move as lips part is least squares over all frames."""
    source = Corpus(corpus)
    names = source.info["keypoint_names"]
    if not set(LIPS) <= set(names):
        return {}
    upper, lower = (names.index(name) for name in LIPS)
    apart, gaps, expressions = [], [], []
    for clip in source.clips(split="train")[:clips]:
        labels = clip.labels("canonical", "expression")
        scale = hull_volume(torch.from_numpy(labels["canonical"])[None]).item() ** exponent
        apart.append((labels["canonical"][lower, 1] - labels["canonical"][upper, 1]) / scale)
        expressions.append(labels["expression"])
        gaps.append(labels["expression"][:, lower, 1] - labels["expression"][:, upper, 1])
    gap, expression = np.concatenate(gaps), np.concatenate(expressions)
    gap = gap - gap.mean()
    parting = (gap[:, None, None] * (expression - expression.mean(0))).sum(0) / (gap**2).sum()
    return {
        "lips": (upper, lower),
        "lips_apart": round(float(np.mean(apart)), 5),
        "parting_deformation": parting.flatten().astype(float).round(4).tolist(),
    }


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(AssembleOptions, "assemble", argv)
    runs = Path(options.runs)
    emotion = runs / options.emotion
    # stage 2 leaves a renderer only if pictures taught it emotion
    taught = emotion / "repos_net"
    components = {
        **{name: load_component(latent_folder(runs, name)) for name in ("keypoint_detector", "motion_estimator")},
        **{name: load_component(emotion / name) for name in ("emotion_mapper", "a2et", "edn")},
        "repos_net": load_component(taught if taught.exists() else latent_folder(runs, "repos_net")),
        "speech_encoder": load_component(runs / "speech/speech_encoder"),
        "expression_basis": load_component(runs / "pca/expression_basis"),
    }
    landmarks = template_landmarks(FrameBank.load(options.corpus, "train")).round(2).tolist()
    components["keypoint_detector"].register_to_config(template_landmarks=landmarks, landmark_reader="network")
    basis = components["expression_basis"]
    exponent = basis.config.hull_volume_exponent
    basis.register_to_config(
        blink_deformation=blink_deformation(options.corpus, exponent),
        gaze_deformation=gaze_deformation(options.corpus, exponent),
        **resting_lips(options.corpus, exponent),
    )
    pipeline = EATPipeline(**components)
    for name, component in pipeline.components.items():
        keep_in(options.half, component, name)
    pipeline.save_pretrained(options.output)
    stages = {path.parent.name: json.loads(path.read_text()) for path in sorted(runs.glob("*/results.json"))}
    write_atomically(Path(options.output) / "training.json", json.dumps(stages, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
