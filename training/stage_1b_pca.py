"""The expression basis: principal components of the corpus' expressions (paper section 3.1).

python -m training.stage_1b_pca --corpus CORPUS --output_dir runs/pca
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from eat_hf.keypoints import hull_volume
from eat_hf.media.files import write_atomically

from .data.dataset import Corpus
from .loop.command_line import parse_options, run_script


@dataclass
class PCAOptions:
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    output_dir: str = field(default="runs/pca", metadata={"help": "Where the basis goes."})
    clips: int = field(default=2500, metadata={"help": "At most so many speech clips (the paper's number)."})


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(PCAOptions, "pca", argv)
    exponent = recipe.components["expression_basis"]["hull_volume_exponent"]
    rows = []
    for clip in Corpus(options.corpus).clips(split="train", kind="speech")[: options.clips]:
        labels = clip.labels("canonical", "expression")
        scale = hull_volume(torch.from_numpy(labels["canonical"])[None]).item() ** exponent
        rows.append(labels["expression"].reshape(clip.length, -1) / scale)
    expressions = np.concatenate(rows).astype(np.float64)
    mean = expressions.mean(0)
    variances, components = np.linalg.eigh(np.cov(expressions.T))
    order = np.argsort(variances)[::-1]
    basis = recipe.build("expression_basis")
    count = basis.config.coefficients
    basis.directions.copy_(torch.from_numpy(components[:, order[:count]].copy()))
    basis.mean.copy_(torch.from_numpy(mean))
    output = Path(options.output_dir)
    basis.save_pretrained(output / "expression_basis")
    report = {"frames": len(expressions), "explained_variance": variances[order[:count]].sum() / variances.sum()}
    write_atomically(output / "results.json", json.dumps(report, indent=2))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    run_script(main)
