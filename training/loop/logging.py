"""What a training reports: trackers, pictures, speed."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import nn

from .options import Batch, LoopOptions

TRACKERS = ("tensorboard", "trackio")


PROJECT = "eat_hf"  # as trackers call it


SPEED = ("samples_per_second", "loader_share")  # in the log, since its last line; the share of time spent on batches


def timed(batches: Iterable[Batch], waits: list[float]) -> Iterator[Batch]:
    """The batches; notes how many seconds each of them was waited for."""
    iterator = iter(batches)
    while True:
        asked = time.time()
        batch = next(iterator, None)
        if batch is None:
            return
        waits.append(time.time() - asked)
        yield batch


def start_trackers(accelerator: Accelerator, options: LoopOptions, step: int) -> None:
    """Trackers that continue after a step; what an interrupted run reported beyond it is dropped where that can be."""
    known = (bool, int, float, str)
    settings = {name: value if isinstance(value, known) else str(value) for name, value in asdict(options).items()}
    run = Path(options.output_dir).name
    accelerator.init_trackers(
        PROJECT,
        config=settings,
        init_kwargs={"tensorboard": {"purge_step": step + 1}, "trackio": {"name": run, "resume": "allow"}},
    )


@contextmanager
def averaged_weights(average: EMAModel, task: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """The task with its averaged weights, in evaluation mode."""
    average.store(parameters)
    average.copy_to(parameters)
    task.eval()
    yield
    average.restore(parameters)


def log_pictures(accelerator: Accelerator, pictures: dict[str, np.ndarray], folder: Path, step: int) -> None:
    """Pictures (H, W, 3) uint8 by name, to a folder as PNG and to the trackers that take pictures."""
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}_{step:06d}.png")
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            batches = {name: picture[None] for name, picture in pictures.items()}
            tracker.log_images(batches, step, dataformats="NHWC")
