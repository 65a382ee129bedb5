"""All that is measured on a GPU, in under four minutes, on a machine with nothing but this package.

    python -m eat_hf.benchmark.gpu -o checkpoints_card/eat-demo

The bundled model first, then the published sizes with random weights, each written as soon as it is there.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import UserError
from ..pipeline.bundled import find_model, load_pipeline
from ..pipeline.pipeline_eat import EATPipeline
from ..shipped import shipped
from .measure import OFFICIAL, BenchmarkOptions, official_pipeline, run_benchmark

COMMAND = "python -m eat_hf.benchmark.gpu"
SECONDS = 220.0  # after which nothing more is begun
EXAMPLES = "examples/astronaut.jpg", "examples/speech.wav"


@dataclass(frozen=True)
class Part:
    """What is measured of a model.

    Attributes:
        name: of the report.
        load: makes the pipeline.
        model: its folder, or `OFFICIAL`.
        dtypes, batches, seconds, compiled: see `BenchmarkOptions`.
        takes: seconds, roughly; with less left it is left out.
    """

    name: str
    load: Callable[[], EATPipeline]
    model: str
    dtypes: tuple[str, ...]
    batches: tuple[int, ...]
    seconds: float
    compiled: bool
    takes: float


def parts() -> list[Part]:
    """In the order of their worth."""
    place = find_model(None)

    def bundled() -> EATPipeline:
        return load_pipeline(place)

    half = ("bfloat16",)
    return [
        Part("eat-demo-gpu", bundled, place, ("float32", *half), (1, 16, 64), 4, False, 25),
        Part("official-gpu", official_pipeline, OFFICIAL, ("float32", *half), (1, 8, 16), 2, False, 70),
        Part("eat-demo-gpu-compiled", bundled, place, half, (64,), 4, True, 90),
    ]


def measure(part: Part, device: torch.device, output: Path, image: str, audio: str) -> None:
    """Measure a part, show it and write it into a folder."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    pipe = part.load().to(device)
    given = BenchmarkOptions(
        image,
        audio,
        part.seconds,
        part.batches,
        part.dtypes,
        curves=False,
        compiled=part.compiled,
        repeats=1,
        fresh=False,
    )
    report = run_benchmark(pipe, part.model, given, COMMAND)
    report.model = part.name
    report.save(output)
    print(report.markdown(), flush=True)


def main(argv: list[str] | None = None, seconds: float = SECONDS) -> None:
    """Raises SystemExit: 2 where there is no such device, or an option is wrong."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="All that is measured on a GPU, in under four minutes.")
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs/gpu"), help="Folder of BENCHMARK.md.")
    parser.add_argument("--device", default="cuda", help="Such as cuda:1.")
    parser.add_argument("--image", default="", help="Portrait. Default: an example.")
    parser.add_argument("--audio", default="", help="Recording. Default: an example.")
    options = parser.parse_args(argv)
    files = [
        given or str(shipped(example) or example)
        for given, example in zip((options.image, options.audio), EXAMPLES, strict=True)
    ]
    try:
        device = torch.device(options.device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):  # of torch: no such kind of device, or none here
        parser.error(f"there is no device {options.device!r} on this machine")
    ends = time.monotonic() + seconds
    try:
        for part in parts():
            left = ends - time.monotonic()
            if left < part.takes:
                print(f"{part.name}: not measured, {left:.0f} s are left and it takes about {part.takes:.0f}.")
                continue
            measure(part, device, options.output, *files)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
