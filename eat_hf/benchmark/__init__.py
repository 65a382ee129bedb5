"""How fast a model is on this machine, part by part, against the plain way to compute the same: `eat-hf benchmark`.

The plain way is how the authors' scripts work: one frame at a time, in float32, the portrait encoded again for every
frame, every window of speech by itself, and maps enlarged before they are convolved. All ratios are of one run.
"""

from .measure import OFFICIAL, BenchmarkOptions, describe_machine, official_pipeline, peak_megabytes, run_benchmark
from .plain import plain_frames, plain_network
from .report import BenchmarkReport, TrainingReport, TrainingSpeed

__all__ = [
    "OFFICIAL",
    "BenchmarkOptions",
    "BenchmarkReport",
    "TrainingReport",
    "TrainingSpeed",
    "describe_machine",
    "official_pipeline",
    "peak_megabytes",
    "plain_frames",
    "plain_network",
    "run_benchmark",
]
