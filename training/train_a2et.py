"""Stage 1b: A2ET on latents (paper section 3.1, Eq. 6), without emotion; then on pictures as well (Eq. 7).

    accelerate launch -m training.train_a2et --corpus CORPUS --runs runs --output_dir runs/a2et
    accelerate launch -m training.train_a2et --corpus CORPUS --runs runs --output_dir runs/a2et_pictures \\
        --config official --stage a2et_pictures --initial runs/a2et/a2et

Clips that are not known to show an emotion only: emotion is what stage 2 adds. A weight of a term on pictures that is
not 0 has consecutive frames rendered by the frozen RePos-Net and compared with the real ones.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from eat_hf import A2ET, CanonicalKeypointDetector, DeepSpeechEncoder, ExpressionBasis

from .corpus.dataset import keypoint_index
from .loop import Batch, Losses, main_process_first, train
from .motion_data import A2ET_INPUTS, NEUTRAL, UNKNOWN, MotionData, keypoint_error
from .options import Recipe, latent_folder, parse_options
from .picture_terms import (
    ClipPictures,
    PictureOptions,
    PictureTerms,
    check_pictures,
    load_picture_terms,
    weigh_pictures,
)

INNER_LIPS = ("inner_lip_upper_middle", "inner_lip_lower_middle")


@dataclass
class A2ETOptions(PictureOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    runs: str = field(
        default="runs", metadata={"help": "Folder with the runs detector or enhancement, speech and pca."}
    )
    initial: str = field(default="", metadata={"help": "An a2et folder to start from."})
    frames: int = field(default=8, metadata={"help": "Frames drawn from each clip."})
    latent_weight: float = field(default=200.0, metadata={"help": "Of the keypoint term of Eq. 6."})
    pca_weight: float = field(default=10.0, metadata={"help": "Of the coefficient term of Eq. 6."})


def load_data(options: A2ETOptions, recipe: Recipe, pose_size: int) -> tuple[MotionData, MotionData]:
    """The training and the validation split."""
    runs = Path(options.runs)
    speech_encoder = DeepSpeechEncoder.from_pretrained(runs / "speech/speech_encoder")
    detector = CanonicalKeypointDetector.from_pretrained(latent_folder(runs, "keypoint_detector"))
    exponent = recipe.pipeline["hull_volume_exponent"]
    with main_process_first():
        data, held_out = (
            MotionData(options.corpus, split, speech_encoder, detector, pose_size, exponent)
            for split in ("train", "validation")
        )
        if options.compare_pictures():
            data.pictures = ClipPictures(options.corpus, "train")
    keypoint_index(data.keypoint_names, *INNER_LIPS)  # a mistake should show before the training, not after it
    return data, held_out


def mouth_weights(names: list[str]) -> Tensor:
    """(3K,) the mouth and the lids move little in units of the face, but everybody looks at them."""
    weights = torch.tensor([3.0 if "lip" in n or "mouth" in n or "lid" in n else 1.0 for n in names])
    return (weights / weights.mean()).repeat_interleave(3)


def opening(expression: Tensor, names: list[str]) -> Tensor:
    """Vertical distance that the middle of the inner lips has opened: (..., 3K) -> (...)."""
    upper, lower = keypoint_index(names, *INNER_LIPS)
    return expression[..., 3 * lower + 1] - expression[..., 3 * upper + 1]


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def latent_term(expression: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    """The keypoint term of Eq. 6: squared distance of expressions (B, F, 3K), in units of V ** p, to the batch's."""
    keypoints = (expression - batch["expression"]) * batch["scale"][:, None, None]
    return (keypoints.square() * weights).mean()


class A2ETTask(nn.Module):
    """Eq. 6: errors of coefficients and of keypoints; and of pictures. Without emotion, so the EAMs are frozen."""

    def __init__(
        self,
        model: A2ET,
        basis: ExpressionBasis,
        weights: Tensor,
        options: A2ETOptions,
        pictures: PictureTerms | None = None,
    ):
        super().__init__()
        self.model, self.basis, self.options, self.pictures = model, basis, options, pictures
        self.register_buffer("weights", weights, persistent=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("eam" not in name)

    def forward(self, batch: Batch) -> Losses:
        out = self.model(**{name: batch[name] for name in A2ET_INPUTS})
        target = batch["expression"]
        coefficients = (target - self.basis.mean) @ self.basis.directions
        expression = self.basis(out.coefficients)
        losses = {
            "pca": self.options.pca_weight * (out.coefficients - coefficients).square().mean(),
            "latent": self.options.latent_weight * latent_term(expression, batch, self.weights),
        }
        return losses if self.pictures is None else losses | self.pictures(batch, expression)


@torch.no_grad()
def evaluate(model: A2ET, basis: ExpressionBasis, data: MotionData, pool: list[int]) -> dict[str, float]:
    """Keypoint error (pixels of the 256 frame) and correlation of the mouth's opening, mean over whole clips."""
    errors, still, openings = [], [], []
    for number in pool:
        clip = data.clips[number]
        batch = data.windows(clip, np.arange(len(clip.mel)))
        out = model(**{name: batch[name][None].to(model.device) for name in A2ET_INPUTS})
        predicted = basis(out.coefficients)[0].cpu()
        errors.append(keypoint_error(clip, predicted))
        still.append(keypoint_error(clip, 0.0))
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
    basis = ExpressionBasis.from_pretrained(Path(options.runs) / "pca/expression_basis")
    torch.manual_seed(options.seed)
    model = A2ET.from_pretrained(options.initial) if options.initial else A2ET(**recipe.components["a2et"])
    data, held_out = load_data(options, recipe, model.config.pose_size)
    pool, pool_held_out = (
        [n for n, clip in enumerate(split.clips) if clip.emotion in (NEUTRAL, UNKNOWN)] for split in (data, held_out)
    )
    pictures = load_picture_terms(options, Path(options.runs), recipe, options.frames)
    if data.pictures:
        check_pictures(options.corpus, data.pictures, pool)
    train(
        A2ETTask(model, basis, mouth_weights(data.keypoint_names), options, pictures),
        lambda rng, count: weigh_pictures(data.draw(rng, count, options.frames, pool)),
        options,
        {"a2et": model},
        lambda: evaluate(model, basis, held_out, pool_held_out[:40]),
    )


if __name__ == "__main__":
    main()
