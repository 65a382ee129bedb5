"""Options of every stage, and what a stage works on."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from eat_hf.errors import UserError

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


@dataclass
class LoopOptions:
    """Options of every stage."""

    output_dir: str = field(metadata={"help": "Where checkpoints, logs and the trained model go."})
    steps: int = field(default=1000, metadata={"help": "Optimiser steps."})
    batch_size: int = field(default=16, metadata={"help": "Samples a step, over all processes."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Parts of a batch, one after another."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak; warmed up, then a cosine to a hundredth."})
    warmup_steps: int = field(default=50, metadata={"help": "Linear warm-up."})
    betas: tuple[float, float] = field(default=(0.9, 0.99), metadata={"help": "Of AdamW."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Of AdamW."})
    clip_norm: float = field(default=5.0, metadata={"help": "Largest gradient norm."})
    ema_decay: float = field(default=0.995, metadata={"help": "Of the averaged weights that are saved; 0: the last."})
    seed: int = field(default=0, metadata={"help": "Of weights and batches."})
    workers: int = field(default=0, metadata={"help": "Processes that draw batches ahead; 0: drawn between steps."})
    checkpoint_every: int = field(default=500, metadata={"help": "Steps between checkpoints to resume from."})
    keep_checkpoints: int = field(default=2, metadata={"help": "The last so many are kept, at least 2."})
    log_every: int = field(default=50, metadata={"help": "Steps between log lines."})
    snapshot_every: int = field(default=0, metadata={"help": "Steps between networks kept as they are; 0: none."})
    sample_every: int = field(default=500, metadata={"help": "Steps between pictures, of stages that show some."})
    report_to: Literal["none", "tensorboard", "trackio", "all"] = field(
        default="none", metadata={"help": "Tracker beside log.jsonl; all: those that are installed."}
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = field(default="no", metadata={"help": "Of the networks."})


@dataclass
class LatentOptions(LoopOptions):
    """Options of stages that learn expressions from speech, see `training.losses.latent`."""

    latent_weight: float = field(default=200.0, metadata={"help": "Of the keypoint term of Eq. 6."})
    closure_weight: float = field(default=0.0, metadata={"help": "Of lips that touch, beyond the paper's losses."})
    lips_weight: float = field(
        default=0.0, metadata={"help": "Of how lips part and round, and how much they move, beyond the paper's losses."}
    )
    least_certain: float = field(
        default=1.0, metadata={"help": "Scores of phonemes are multiplied by a random number from this, above 0, to 1."}
    )

    def __post_init__(self) -> None:
        if not 0 < self.least_certain <= 1:
            raise UserError(f"least_certain must be above 0 and at most 1, not {self.least_certain}.")


@dataclass
class PictureOptions(LoopOptions):
    """Options of stages that may compare rendered pictures with real ones; with all weights 0 nothing is rendered."""

    perceptual_weight: float = field(default=0.0, metadata={"help": "Of each layer at each scale, on whole frames."})
    perceptual_backbone: str = field(
        default="vgg19", metadata={"help": "Network of the perceptual term, NAME or NAME=PLACE; none: without it."}
    )
    face_weight: float = field(default=0.0, metadata={"help": "Of the L1 error inside the face box."})
    sync_weight: float = field(default=0.0, metadata={"help": "Of the sync loss, Eq. 7."})
    sync_expert: str = field(default="", metadata={"help": "Its sync_expert folder, as train_sync leaves it."})

    def compare_pictures(self) -> bool:
        """Is any of the weights not 0?"""
        perceptual = self.perceptual_weight and self.perceptual_backbone != "none"
        return bool(perceptual or self.face_weight or self.sync_weight)
