"""Stage 1b: A2ET on latents (paper section 3.1, Eq. 6), without emotion.

    accelerate launch -m training.train_a2et --corpus CORPUS --runs runs --output_dir runs/a2et

Neutral clips only: emotion is what stage 2 adds.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from eat_hf import A2ET, CanonicalKeypointDetector, DeepSpeechEncoder, ExpressionBasis
from eat_hf.models.emotion_mapper import EMOTIONS

from .loop import Batch, LoopOptions, Losses, train
from .motion_data import A2ET_INPUTS, MotionData
from .options import Recipe, parse_options


@dataclass
class A2ETOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    runs: str = field(default="runs", metadata={"help": "Folder with the runs detector, speech and pca."})
    frames: int = field(default=8, metadata={"help": "Frames drawn from each clip."})
    latent_weight: float = field(default=200.0, metadata={"help": "Of the keypoint term of Eq. 6."})
    pca_weight: float = field(default=10.0, metadata={"help": "Of the coefficient term of Eq. 6."})


def load_data(options: A2ETOptions, recipe: Recipe, split: str) -> MotionData:
    runs = Path(options.runs)
    return MotionData(
        options.corpus,
        split,
        DeepSpeechEncoder.from_pretrained(runs / "speech/speech_encoder"),
        CanonicalKeypointDetector.from_pretrained(runs / "detector/keypoint_detector"),
        recipe.components["a2et"]["pose_size"],
        recipe.pipeline["hull_volume_exponent"],
    )


def mouth_weights(names: list[str]) -> Tensor:
    """(3K,) the mouth and the lids move little in units of the face, but everybody looks at them."""
    weights = torch.tensor([3.0 if "lip" in n or "mouth" in n or "lid" in n else 1.0 for n in names])
    return (weights / weights.mean()).repeat_interleave(3)


def opening(expression: Tensor, names: list[str]) -> Tensor:
    """Vertical distance that the middle of the inner lips has opened: (..., 3K) -> (...)."""
    upper, lower = (names.index(f"inner_lip_{side}_middle") for side in ("upper", "lower"))
    return expression[..., 3 * lower + 1] - expression[..., 3 * upper + 1]


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


@torch.no_grad()
def evaluate(model: nn.Module, basis: ExpressionBasis, data: MotionData, pool: list[int]) -> dict[str, float]:
    """Keypoint error (pixels of the 256 frame) and correlation of the mouth's opening, mean over whole clips."""
    errors, still, openings = [], [], []
    for number in pool:
        clip = data.clips[number]
        batch = data.windows(clip, np.arange(len(clip.mel)))
        out = model(**{name: batch[name][None] for name in A2ET_INPUTS})
        predicted = basis(out.coefficients)[0]
        difference = (predicted - clip.expression).unflatten(-1, (-1, 3))[..., :2] * clip.scale * 128
        errors.append(difference.norm(dim=-1).mean().item())
        still.append(clip.expression.unflatten(-1, (-1, 3))[..., :2].mul(clip.scale * 128).norm(dim=-1).mean().item())
        truth = opening(clip.expression, data.keypoint_names)
        if truth.std() > 1e-3:
            openings.append(correlation(opening(predicted, data.keypoint_names), truth))
    return {
        "keypoints_px": float(np.mean(errors)),
        "keypoints_if_still_px": float(np.mean(still)),
        "opening_correlation": float(np.mean(openings)),
    }


def main() -> None:
    options, recipe = parse_options(A2ETOptions, "a2et")
    data, held_out = load_data(options, recipe, "train"), load_data(options, recipe, "validation")
    basis = ExpressionBasis.from_pretrained(Path(options.runs) / "pca/expression_basis")
    torch.manual_seed(options.seed)
    model = A2ET(**recipe.components["a2et"])
    weights = mouth_weights(data.keypoint_names)
    neutral = EMOTIONS.index("neutral")
    pool = [number for number, clip in enumerate(data.clips) if clip.emotion == neutral]

    def losses(network: nn.Module, batch: Batch, step: int) -> Losses:
        out = network(**{name: batch[name] for name in A2ET_INPUTS})
        target = batch["expression"]
        coefficients = (target - basis.mean) @ basis.directions
        keypoints = (basis(out.coefficients) - target) * batch["scale"][:, None, None]
        return {
            "pca": options.pca_weight * (out.coefficients - coefficients).square().mean(),
            "latent": options.latent_weight * (keypoints.square() * weights).mean(),
        }

    for name, parameter in model.named_parameters():
        parameter.requires_grad_("eam" not in name)
    pool_held_out = [number for number, clip in enumerate(held_out.clips) if clip.emotion == neutral][:40]
    results = train(
        model,
        lambda rng, count: data.draw(rng, count, options.frames, pool),
        losses,
        options,
        lambda network: evaluate(network, basis, held_out, pool_held_out),
    )
    print(json.dumps(results, indent=2))
    model.save_pretrained(Path(options.output_dir) / "a2et")


if __name__ == "__main__":
    main()
