"""The part that every stage's training loop shares: one step after another, resumable, on whatever Accelerate finds.

A stage gives `train` a task, which is a module that turns a batch into named losses, and a function that draws a batch.
The same command trains on a CPU, one GPU or, after `accelerate launch --num_processes N`, many:

- Everything random about samples (which ones, augmentation, noise) is drawn by `draw_batch` for the whole batch of a
  step, from (seed, step) alone, and every process then takes its share. So neither the number of processes nor an
  interruption changes what is learnt from; a run may even be resumed on another number of processes.
- The task is one module, because DistributedDataParallel synchronises gradients only of what its `forward` computes.
- Losses are means over samples, of equal shares, so their mean over processes is that of the batch. A mean over what
  only some samples have needs weights that `draw_batch` normalises over the whole batch.
- On GPUs batch norm sees the batch of all processes. On several CPU processes it sees the share of each, and the
  statistics that are saved are the main process': there, networks with batch norm learn a little less exactly. With
  gradient accumulation it sees a part of the batch at a time.
- Nothing else but dropout masks depends on the number of processes.
- An adversary (a discriminator's task) learns after the networks in every step, from what they have just made.
"""

import json
import math
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    ProjectConfiguration,
    parse_flag_from_env,
    send_to_device,
    set_seed,
)
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup

from eat_hf.errors import UserError
from eat_hf.media.files import write_atomically

from .checkpoints import resume, save_checkpoint, save_snapshot, training_record
from .logging import SPEED, TRACKERS, averaged_weights, log_pictures, start_trackers, timed
from .options import Batch, LoopOptions


class BatchShares(Dataset):
    """A process' share of the batch of every step; the index is the step, from 0."""

    def __init__(self, draw_batch: Callable[[np.random.Generator, int], Batch], options: LoopOptions, share: slice):
        self.draw_batch, self.options, self.share = draw_batch, options, share

    def __getitem__(self, step: int) -> Batch:
        torch.manual_seed(hash((self.options.seed, step, 0)) % 2**31)
        batch = self.draw_batch(np.random.default_rng((self.options.seed, step)), self.options.batch_size)
        return {name: value[self.share] for name, value in batch.items()}


def main_process_first() -> AbstractContextManager:
    """For reading data whose caches are made on first use: one process makes them, then the others read them."""
    patience = timedelta(hours=2)  # to decode a corpus can take longer than the ten minutes that processes usually wait
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=patience).main_process_first()


def train(
    task: nn.Module,
    draw_batch: Callable[[np.random.Generator, int], Batch],
    options: LoopOptions,
    components: dict[str, ModelMixin],
    evaluate: Callable[[], dict[str, float]] | None = None,
    show: Callable[[], dict[str, np.ndarray]] | None = None,
    adversary: nn.Module | None = None,
) -> dict[str, float]:
    """Train the parameters of `task` that require a gradient, leave averaged weights in it, measure and save.

    Args:
        task: batch -> weighted losses by name, means over the batch; their sum is minimised. It is moved, with the
            networks inside it, to the device that Accelerate finds.
        draw_batch: (random generator, size of the global batch) -> CPU tensors, first axis the batch. Torch's own
            generator is seeded for it, too.
        components: networks to save in `options.output_dir`, by the name of their folder there. Every
            `options.snapshot_every` steps they are also saved, averaged so far, in `snapshots/step_N`.
        evaluate: measures the averaged networks at the end; called in evaluation mode, by the main process alone.
        show: pictures (H, W, 3) uint8 by name of what the averaged networks can do so far; called in the same way every
            `options.sample_every` steps. They go to the folder `samples` and to trackers that take pictures.
        adversary: a task that learns against `task`, every parameter of it, with an optimiser of its own under the same
            options. `task` then gives its losses and a batch of detached tensors, from which the adversary learns in
            the same step, once the networks have. While they learn, its parameters take no gradient. `task` may call
            networks of the adversary, but must not have them among its modules. Checkpoints hold the adversary, too;
            its weights are not averaged.

    Returns:
        What `evaluate` returned, on the main process. It is also in results.json.

    Raises:
        UserError: processes and gradient accumulation do not divide the batch, fewer than two checkpoints would be
            kept, or the tracker is not installed.
        FloatingPointError: a loss or the gradient is not finite, on whichever process; all processes stop, before it
            can reach the weights. The message names the loss and the step.
    """
    accelerator = make_accelerator(options)
    torch.backends.cudnn.benchmark = True  # every batch has the same sizes
    share = share_of_batch(options, accelerator.num_processes)
    kind = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else platform.machine()
    device = f"{accelerator.num_processes} x {kind}, {torch.get_num_threads()} threads"
    set_seed(options.seed)
    output = Path(options.output_dir)
    output.mkdir(parents=True, exist_ok=True)

    # 1. What learns
    networks = prepare(accelerator, task, options)
    opponent = prepare(accelerator, adversary, options) if adversary else None
    trainable = networks.parameters
    average = EMAModel(trainable, decay=options.ema_decay, use_ema_warmup=True, power=0.75)
    accelerator.register_for_checkpointing(average)

    # 2. Where an earlier run has got to
    reached = resume(accelerator, [task, adversary] if adversary else [task], output)
    average.to(accelerator.device)  # what a checkpoint holds of it is read to the CPU
    start, seconds_before, sums = reached["step"], reached["seconds"], defaultdict(float, reached["sums"])
    start_trackers(accelerator, options, start)

    # 3. Steps
    first = accelerator.process_index * share
    batches = DataLoader(
        BatchShares(draw_batch, options, slice(first, first + share)),
        batch_size=None,
        sampler=range(start, options.steps),
        num_workers=options.workers,
        pin_memory=accelerator.device.type == "cuda" and options.workers > 0,  # else they may be there already
    )
    part = share // options.gradient_accumulation_steps
    bar = tqdm(batches, disable=not accelerator.is_main_process, mininterval=10, initial=start, total=options.steps)
    began = time.time()
    waits: list[float] = []
    logged, logged_at = start, began
    for step, batch in enumerate(timed(bar, waits), start + 1):
        torch.manual_seed(hash((options.seed, step - 1, 1 + accelerator.process_index)) % 2**31)  # of dropout
        parts = [
            {name: value[begin : begin + part] for name, value in batch.items()} for begin in range(0, share, part)
        ]
        if opponent:
            # not only to save time: DistributedDataParallel would take their gradients for the adversary's own
            opponent.task.requires_grad_(False)
        means, judged = learn(accelerator, networks, parts, options, step)
        average.step(trainable)
        if opponent:
            opponent.task.requires_grad_(True)
            means |= learn(accelerator, opponent, judged, options, step)[0]

        for name, value in means.items():
            sums[name] += value
        if step % options.log_every == 0:
            passed = time.time() - logged_at
            speed = (step - logged) * options.batch_size / passed, sum(waits) / passed
            found = dict(zip(SPEED, (round(value, 3) for value in speed), strict=True))
            logged, logged_at = step, time.time()
            waits.clear()
            found |= {name: round(value / options.log_every, 5) for name, value in sums.items()}
            sums.clear()
            if accelerator.is_main_process:
                with (output / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"step": step} | found) + "\n")
            accelerator.log(found | {"learning_rate": networks.schedule.get_last_lr()[0]}, step)
        if show and step % options.sample_every == 0 and accelerator.is_main_process:
            with averaged_weights(average, task, trainable):
                log_pictures(accelerator, show(), output / "samples", step)
        if options.snapshot_every and step % options.snapshot_every == 0 and accelerator.is_main_process:
            record = training_record(step, options, seconds_before + time.time() - began, device)
            with averaged_weights(average, task, trainable):
                save_snapshot(output / "snapshots" / f"step_{step}", components, record)
        if step % options.checkpoint_every == 0:
            seconds = seconds_before + time.time() - began
            save_checkpoint(accelerator, {"step": step, "seconds": seconds, "sums": sums})

    # 4. Results
    seconds = seconds_before + time.time() - began
    average.copy_to(trainable)
    task.eval()
    results = {}
    if accelerator.is_main_process:
        for name, component in components.items():
            component.save_pretrained(output / name)
        results = evaluate() if evaluate else {}
        record = training_record(options.steps, options, seconds, device)
        write_atomically(output / "results.json", json.dumps(results | {"training": record}, indent=2))
        print(json.dumps(results, indent=2))
    accelerator.log({f"held_out/{name}": value for name, value in results.items()}, options.steps)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return results


@dataclass
class Learner:
    """A task with what updates it.

    Attributes:
        task: as the stage made it.
        prepared: the same, wrapped for the machine.
        parameters: of the task, those that learn.
    """

    task: nn.Module
    prepared: nn.Module
    parameters: list[nn.Parameter]
    optimizer: AcceleratedOptimizer
    schedule: AcceleratedScheduler


def prepare(accelerator: Accelerator, task: nn.Module, options: LoopOptions) -> Learner:
    """Move a task to its device and give it an optimiser and a schedule."""
    if accelerator.num_processes > 1 and accelerator.device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(task)  # inside the task, in place; there is none for CPUs
    parameters = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=options.betas, weight_decay=options.weight_decay
    )
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, options.warmup_steps, options.steps, min_lr_rate=0.01
    )
    prepared, optimizer, schedule = accelerator.prepare(task, optimizer, schedule)
    return Learner(task, prepared, parameters, optimizer, schedule)


def learn(
    accelerator: Accelerator, learner: Learner, parts: list[Batch], options: LoopOptions, step: int
) -> tuple[dict[str, float], list[Batch]]:
    """One step of a learner's optimiser.

    Returns:
        Losses, means over the batch of all processes; and what the task gives an adversary, part by part.
    """
    learner.prepared.train()
    total = torch.zeros((), device=accelerator.device)
    given: list[Batch] = []
    for inputs in parts:
        with accelerator.accumulate(learner.prepared):
            losses = learner.prepared(send_to_device(inputs, accelerator.device, non_blocking=True))
            if isinstance(losses, tuple):
                losses, for_adversary = losses
                given.append(for_adversary)
            accelerator.backward(sum(losses.values()))
        total = total + torch.stack([loss.detach().float() for loss in losses.values()]) / len(parts)
    means = dict(zip(losses, accelerator.reduce(total, "mean").tolist(), strict=True))
    norm = accelerator.clip_grad_norm_(learner.parameters, options.clip_norm)
    check_finite(means, norm if accelerator.scaler is None else None, step)
    learner.optimizer.step()
    learner.schedule.step()
    learner.optimizer.zero_grad()
    return means, given


def make_accelerator(options: LoopOptions) -> Accelerator:
    """Accelerate with the settings that `train` counts on.

    Raises:
        UserError: fewer than two checkpoints would be kept, or the tracker is not installed.
    """
    if options.keep_checkpoints < 2:
        raise UserError(
            f"keep_checkpoints must be at least 2, not {options.keep_checkpoints}: an old checkpoint is deleted before "
            "the new one is whole."
        )
    wanted = {"none": (), "all": TRACKERS}.get(options.report_to, (options.report_to,))
    trackers = [name for name in wanted if name in map(str, get_available_trackers())]
    if wanted and not trackers:
        raise UserError(
            f"--report_to {options.report_to} needs a package that is not installed: pip install {' or '.join(wanted)}"
        )
    return Accelerator(
        mixed_precision=options.mixed_precision,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        log_with=trackers or None,
        project_config=ProjectConfiguration(
            options.output_dir,
            logging_dir=options.output_dir,
            automatic_checkpoint_naming=True,
            total_limit=options.keep_checkpoints,
        ),
        # the batch is the global one: the schedule goes one step on at a time, however many processes there are
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # M has a head for every emotion, and a share of a batch need not have all emotions
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def share_of_batch(options: LoopOptions, processes: int) -> int:
    """Samples of a batch for each of so many processes. Raises UserError where equal parts are impossible."""
    if options.batch_size % (processes * options.gradient_accumulation_steps):
        raise UserError(
            f"batch_size {options.batch_size} cannot be divided equally among {processes} process(es) in "
            f"{options.gradient_accumulation_steps} part(s) each (gradient_accumulation_steps)."
        )
    return options.batch_size // processes


def check_finite(losses: dict[str, float], gradient_norm: Tensor | None, step: int) -> None:
    """Raises FloatingPointError by name. `gradient_norm` is None for fp16, which skips steps that overflow."""
    values = {f"Loss {name!r}": value for name, value in losses.items()}
    if gradient_norm is not None:
        values["The norm of the gradient"] = gradient_norm.item()
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} became {value} at step {step}, so training stops; lower the learning rate. Started again, "
                "it continues from the last checkpoint."
            )
