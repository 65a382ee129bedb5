"""Stage 1b: A2ET on latents (paper section 3.1, Eq. 6), without emotion; then on pictures as well (Eq. 7).

    accelerate launch -m training.stage_1b_a2et --corpus CORPUS --runs runs --output_dir runs/a2et
    accelerate launch -m training.stage_1b_a2et --corpus CORPUS --runs runs --output_dir runs/a2et_pictures \\
        --config official --stage a2et_pictures --initial runs/a2et/a2et

Clips that are not known to show an emotion only: emotion is what stage 2 adds. A weight of a term on pictures that is
not 0 has consecutive frames rendered by the frozen RePos-Net and compared with the real ones.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from eat_hf import A2ET, ExpressionBasis

from .data.clip_pictures import check_pictures, weigh_pictures
from .data.expression_clips import A2ETOptions, load_data
from .data.motion import A2ET_INPUTS, NEUTRAL, UNKNOWN, MotionData, keypoint_error
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, Losses
from .loop.trainer import train
from .losses.latent import LatentTerms, correlation, opening
from .losses.rendered import PictureTerms, load_picture_terms


class A2ETTask(nn.Module):
    """Eq. 6: errors of coefficients and of keypoints; and of pictures. Without emotion, so the EAMs are frozen."""

    def __init__(
        self,
        model: A2ET,
        basis: ExpressionBasis,
        latents: LatentTerms,
        options: A2ETOptions,
        pictures: PictureTerms | None = None,
    ):
        super().__init__()
        self.model, self.basis, self.latents, self.options, self.pictures = model, basis, latents, options, pictures
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("eam" not in name)

    def forward(self, batch: Batch) -> Losses:
        out = self.model(**{name: batch[name] for name in A2ET_INPUTS})
        target = batch["expression"]
        coefficients = (target - self.basis.mean) @ self.basis.directions
        expression = self.basis(out.coefficients)
        losses = self.latents(expression, batch)
        losses["pca"] = self.options.pca_weight * (out.coefficients - coefficients).square().mean()
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


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(A2ETOptions, "a2et", argv)
    basis = ExpressionBasis.from_pretrained(Path(options.runs) / "pca/expression_basis")
    torch.manual_seed(options.seed)
    model = A2ET.from_pretrained(options.initial) if options.initial else recipe.build("a2et")
    data, held_out = load_data(options, recipe, model.config.pose_size)
    pool, pool_held_out = (
        [n for n, clip in enumerate(split.clips) if clip.emotion in (NEUTRAL, UNKNOWN)] for split in (data, held_out)
    )
    pictures = load_picture_terms(options, Path(options.runs), recipe, options.frames)
    if data.pictures:
        check_pictures(options.corpus, data.pictures, pool)
    latents = LatentTerms.of(options, data.keypoint_names)
    train(
        A2ETTask(model, basis, latents, options, pictures),
        lambda rng, count: weigh_pictures(data.draw(rng, count, options.frames, pool)),
        options,
        {"a2et": model},
        lambda: evaluate(model, basis, held_out, pool_held_out[: options.evaluation_clips]),
    )


if __name__ == "__main__":
    run_script(main)
