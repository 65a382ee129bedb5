"""The part that every stage's training loop shares: one step after another, resumable, on whatever Accelerate finds.

A stage gives `train` its model, a function that draws a batch, and a function that turns a batch into named losses.
Batches are drawn from (seed, step), so a resumed run sees the batches an uninterrupted one would have seen, and a run
on several processes splits the batches of a run on one.
"""

import json
import math
import platform
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


@dataclass
class LoopOptions:
    """Options of every stage."""

    output_dir: str = field(metadata={"help": "Where checkpoints, logs and the trained model go."})
    steps: int = field(default=1000, metadata={"help": "Optimiser steps."})
    batch_size: int = field(default=16, metadata={"help": "Samples a step, over all processes."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak; warmed up, then a cosine to 1 % of it."})
    warmup_steps: int = field(default=50, metadata={"help": "Linear warm-up."})
    betas: tuple[float, float] = field(default=(0.9, 0.99), metadata={"help": "Of AdamW."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Of AdamW."})
    clip_norm: float = field(default=5.0, metadata={"help": "Largest gradient norm."})
    ema_decay: float = field(default=0.995, metadata={"help": "Of the averaged weights that are saved."})
    seed: int = field(default=0, metadata={"help": "Of weights and batches."})
    checkpoint_every: int = field(default=500, metadata={"help": "Steps between checkpoints to resume from."})
    log_every: int = field(default=50, metadata={"help": "Steps between log lines."})
    mixed_precision: str = field(default="no", metadata={"help": "no, bf16 or fp16."})


def cosine_with_warmup(step: int, options: LoopOptions) -> float:
    """Share of the peak learning rate at a step."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    progress = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(
    model: nn.Module,
    draw_batch: Callable[[np.random.Generator, int], Batch],
    compute_losses: Callable[[nn.Module, Batch, int], Losses],
    options: LoopOptions,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> dict[str, float]:
    """Train the parameters of `model` that require a gradient; leaves averaged weights in it.

    Args:
        draw_batch: (random generator, size of the global batch) -> tensors, first axis the batch.
        compute_losses: (model, batch, step) -> weighted losses by name; their sum is minimised.
        evaluate: measures the averaged model at the end.

    Returns:
        What `evaluate` returned; also written, with the log, to `options.output_dir`.

    Raises:
        FloatingPointError: a loss is not finite; the message names it.
    """
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    kind = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else platform.machine()
    device = f"{accelerator.num_processes} x {kind}, {torch.get_num_threads()} threads"
    set_seed(options.seed)
    output = Path(options.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=options.learning_rate, betas=tuple(options.betas), weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_with_warmup(step, options))
    prepared, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(schedule)
    average = EMAModel(trainable, decay=options.ema_decay, use_ema_warmup=True, power=0.75)
    average.to(accelerator.device)
    accelerator.register_for_checkpointing(average)

    checkpoint, start, seconds_before = output / "checkpoint", 0, 0.0
    if checkpoint.exists():
        accelerator.load_state(str(checkpoint))
        reached = json.loads((checkpoint / "step.json").read_text())
        start, seconds_before = reached["step"], reached.get("seconds", 0.0)
        accelerator.print(f"Resuming {output} at step {start}.")

    def save_checkpoint(step: int) -> None:
        fresh = output / "checkpoint.new"
        accelerator.save_state(str(fresh))
        if accelerator.is_main_process:
            seconds = seconds_before + time.time() - began
            (fresh / "step.json").write_text(json.dumps({"step": step, "seconds": seconds}))
            if checkpoint.exists():
                checkpoint.rename(output / "checkpoint.old")
            fresh.rename(checkpoint)
            shutil.rmtree(output / "checkpoint.old", ignore_errors=True)
        accelerator.wait_for_everyone()

    share = options.batch_size // accelerator.num_processes
    first = accelerator.process_index * share
    sums: dict[str, float] = defaultdict(float)
    began = time.time()
    bar = tqdm(
        range(start, options.steps),
        disable=not accelerator.is_main_process,
        mininterval=10,
        initial=start,
        total=options.steps,
    )
    for step in bar:
        batch = draw_batch(np.random.default_rng((options.seed, step)), options.batch_size)
        batch = {name: value[first : first + share].to(accelerator.device) for name, value in batch.items()}
        torch.manual_seed(hash((options.seed, step, accelerator.process_index)) % 2**31)
        prepared.train()
        with accelerator.autocast():
            losses = compute_losses(prepared, batch, step)
        for name, value in losses.items():
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"Loss {name!r} became {value.item()} at step {step}; lower the learning rate."
                )
        accelerator.backward(sum(losses.values()))
        accelerator.clip_grad_norm_(trainable, options.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        average.step(trainable)
        for name, value in losses.items():
            sums[name] += value.item()
        if (step + 1) % options.log_every == 0:
            rate = (step + 1 - start) * options.batch_size / (time.time() - began)
            line = {"step": step + 1, "samples_per_second": round(rate, 1)}
            line |= {name: round(total / options.log_every, 5) for name, total in sums.items()}
            sums.clear()
            if accelerator.is_main_process:
                with (output / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
        if (step + 1) % options.checkpoint_every == 0:
            save_checkpoint(step + 1)

    seconds = seconds_before + time.time() - began
    average.copy_to(trainable)
    model.eval()
    results = evaluate(model) if evaluate else {}
    if accelerator.is_main_process:
        record = {"steps": options.steps, "batch_size": options.batch_size, "seconds": round(seconds), "device": device}
        (output / "results.json").write_text(json.dumps(results | {"training": record}, indent=2))
    return results
