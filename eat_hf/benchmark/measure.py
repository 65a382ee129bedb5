"""Measure every stage of a pipeline on this machine."""

import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io.wavfile
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ..animation.clip_plan import ClipPlan
from ..animation.expression import draw_prompts, emotional_deformation, read_windows, speech_deformation
from ..animation.head_pose import pose_head
from ..animation.portrait import to_pixel_values
from ..animation.rendering import render_frames
from ..errors import UserError
from ..inputs.faces import SIZE
from ..media.pictures import read_image
from ..media.recordings import Recording, read_audio
from ..media.videos import VideoWriter
from ..models.components import build_component
from ..pipeline.pipeline_eat import EATPipeline
from .plain import EMOTION, plain_frames, plain_network
from .report import BenchmarkReport, FreshProcess, Row

OFFICIAL = "official"  # the model of that name: the published sizes with random weights
PUBLISHED: dict[str, dict[str, Any]] = {  # networks of the paper, each in its published size
    "keypoint_detector": {"class": "CanonicalKeypointDetector"},
    "motion_estimator": {"class": "MotionEstimator"},
    "emotion_mapper": {"class": "EmotionMapper"},
    "a2et": {"class": "A2ET"},
    "edn": {"class": "EDN"},
    "repos_net": {"class": "RePosNet"},
    "speech_encoder": {"class": "DeepSpeechEncoder"},
    "expression_basis": {"class": "ExpressionBasis"},
}
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "av")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# what peaks are measured on: side of square matrices; number and side of maps of 512 channels
PEAK_SIZES = {"cuda": (8192, 64, 64), "cpu": (2048, 1, 64)}
PLAIN_FRAMES = 4  # of the plain way, which is slow and the same for every frame
COMPILED = ", compiled"


@dataclass
class BenchmarkOptions:
    """What is measured.

    Attributes:
        image, audio: files to work on.
        seconds: of the recording that are used.
        batches: frames computed at a time.
        dtypes: of the renderer, names of `DTYPES`.
        curves: plot time against the length of the sound, up to `seconds`, and against portraits and batch.
        compiled: measure the renderer after `EATPipeline.compile`, too.
        repeats: of every measurement; the fastest counts, for other programs only ever slow it down.
        fresh: start new processes, for peak memory and the time to the first frame.
        long: seconds of sound of more such processes; the recording is repeated.
    """

    image: str
    audio: str
    seconds: float = 4.0
    batches: tuple[int, ...] = (1, 4, 8, 16)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    curves: bool = True
    compiled: bool = False
    repeats: int = 2
    fresh: bool = True
    long: tuple[int, ...] = ()


def fastest(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some runs, after one that warms up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


def exhaust(make: Callable[..., Iterator], *arguments: Any) -> None:
    for _ in make(*arguments):
        pass


def count_flops(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def matrix_peak(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    """FLOP/s of a large matrix product or of a 3 x 3 convolution in either layout, whichever is fastest.

    They come from different libraries, which do not know all processors equally well.
    """
    size, count, side = PEAK_SIZES["cuda" if device.type == "cuda" else "cpu"]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    pixels = torch.randn(count, 512, side, side, device=device).to(dtype)
    kernel = torch.randn(512, 512, 3, 3, device=device).to(dtype)
    rates = [2 * size**3 / fastest(lambda: a @ b, 3 * repeats)]
    for layout in (torch.contiguous_format, torch.channels_last):
        x, weight = (tensor.contiguous(memory_format=layout) for tensor in (pixels, kernel))
        seconds = fastest(lambda x=x, weight=weight: F.conv2d(x, weight, padding=1), 3 * repeats)
        rates.append(2 * 9 * 512 * pixels.numel() / seconds)
    return max(rates)


def describe_machine(device: torch.device) -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    elif Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        flags = " ".join(line for line in lines if line.startswith("flags")).split()
        processor = f"{named[0] if named else processor} ({os.cpu_count()} cores"
        processor += "".join(f", {flag}" for flag in ("amx_bf16", "avx512_bf16") if flag in flags) + ")"
    return {
        "processor": processor,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "date": date.today().isoformat(),
    }


def official_pipeline(sections: Mapping[str, Mapping[str, Any]] = PUBLISHED) -> EATPipeline:
    """A model with random weights, the same ones every time, that is only run.

    Args:
        sections: class and settings of every component; the published ones by default.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EATPipeline(**{name: build_component(section).eval() for name, section in sections.items()})


NEW_PROCESS = """
import json, sys, time
from eat_hf import EATPipeline
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import VideoWriter
model, image, audio, output = sys.argv[1:]
pipe = EATPipeline.from_pretrained(model)
pipe.set_progress_bar_config(disable=True)
loaded = time.time()
recording = read_audio(audio)
with VideoWriter(output, recording) as video:
    for number, chunk in enumerate(pipe.stream(image, recording, "happy", generator=0, size=256)):
        if not number:
            first = time.time()
        video.write(chunk)
from eat_hf.benchmark import peak_megabytes
print(json.dumps({"first": first, "loaded": loaded, "peak_megabytes": peak_megabytes()}))
"""


def peak_megabytes() -> float:
    """The most memory that this process has had so far.

    On Linux, `getrusage` would count what the parent process had before it started this one, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def measure_new_process(model: str, image: str, recording: Recording, seconds: float) -> FreshProcess:
    """A process that animates a portrait with so much of a recording, repeated as often as that takes."""
    with tempfile.TemporaryDirectory() as folder:
        sound, rate = Path(folder) / "sound.wav", recording.sampling_rate
        values = np.resize((recording.samples.mean(0) * 32767).astype(np.int16), round(seconds * rate))
        scipy.io.wavfile.write(sound, rate, values)
        start = time.time()
        arguments = [model, image, str(sound), str(Path(folder) / "out.mp4")]
        done = subprocess.run([sys.executable, "-c", NEW_PROCESS, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"A new process could not make a video: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    first = found["first"]
    return FreshProcess(seconds, first - start, first - found["loaded"], found["peak_megabytes"])


def make_videos(pipe: EATPipeline, image: Any, recording: Recording, batch: int, folder: str, count: int = 1) -> None:
    """Portrait in, mp4 out, one after the other."""
    for _ in range(count):
        with VideoWriter(Path(folder) / "out.mp4", recording) as video:
            for chunk in pipe.stream(image, recording, EMOTION, generator=0, batch_size=batch, size=SIZE):
                video.write(chunk)


def with_own_renderer(pipe: EATPipeline, dtype: torch.dtype) -> EATPipeline:
    """The same networks, with a copy of the renderer in some precision; rounding does not come back."""
    view = copy.copy(pipe)
    view.__dict__["repos_net"] = copy.deepcopy(pipe.repos_net)
    return view.to(dtype)


def run_benchmark(pipe: EATPipeline, model: str, options: BenchmarkOptions, command: str = "") -> BenchmarkReport:
    """Measure everything.

    Raises:
        UserError: image or audio cannot be used, or a precision is unknown.
    """
    unknown = [name for name in options.dtypes if name not in DTYPES]
    if unknown:
        raise UserError(f"Unknown precision {unknown[0]!r}; choose {', '.join(DTYPES)}.")
    pipe.set_progress_bar_config(disable=True)
    image, device, repeats = read_image(options.image), pipe.device, options.repeats
    whole = read_audio(options.audio)
    recording = whole.first(options.seconds)

    def plan(view: EATPipeline) -> ClipPlan:
        return view.plan_clip(image, recording, EMOTION, head_motion="still", generator=0, size=SIZE)

    peak = {name: matrix_peak(device, DTYPES[name], repeats) for name in options.dtypes}
    clip = plan(pipe)
    count, seen, driving = len(clip), clip.portrait, clip.driving
    middle = driving[:, count // 2, None]
    with torch.no_grad():
        pixel_values = to_pixel_values(torch.from_numpy(seen.aligned.crop[None]).to(device))
        plainly = plain_network(pipe.repos_net)
        flops = count_flops(lambda: plainly(pixel_values, seen.keypoints, middle))
        flops_saved = flops - count_flops(lambda: pipe.repos_net.render(seen.features, seen.keypoints, middle))
    report = BenchmarkReport(command, Path(model).name, describe_machine(device), peak, flops, flops_saved)

    def add(stage: str, unit: str, number: float, work: Callable[[], Any], **given: Any) -> float:
        rate = number / fastest(work, repeats)
        report.rows.append(Row(stage, unit, rate, **given))
        return rate

    some = np.linspace(0, count - 1, min(PLAIN_FRAMES, count)).astype(int).tolist()
    plain = add(
        "the plain way",
        "frames",
        len(some),
        partial(plain_frames, pipe, recording, seen, driving, some),
        dtype="float32",
        batch=1,
    )
    report.rows[-1].share = plain * flops / peak["float32"] if "float32" in peak else None

    with torch.no_grad():
        add("audio features", "frames", count, lambda: pipe.encode_audio(recording))
        add("portrait", "portraits", 1, lambda: pipe.prepare_portrait(image))
        speech = pipe.encode_audio(recording)
        pose = pose_head(seen, pipe.prepare_motion("still", count, speech.energy))
        own = pipe.networks.own
        prompts = draw_prompts(pipe.networks, [own], torch.Generator().manual_seed(0), device)
        prompt = prompts[own.emotions.index(EMOTION), None]
        windows = read_windows(pipe.a2et, speech, pose)
        face, _ = emotional_deformation(seen, own, prompt)
        add("EDN", "emotions", 1, lambda: emotional_deformation(seen, own, prompt))
        for batch in options.batches:

            def speak(batch: int = batch) -> None:
                read_windows(pipe.a2et, speech, pose, batch)
                for index in torch.arange(count, device=device).split(batch):
                    speech_deformation(pipe.expression_basis, windows, index, own, face, prompt)

            add("A2ET", "frames", count, speak, dtype="float32", batch=batch)

    with tempfile.TemporaryDirectory() as folder:
        views = {("", dtype): with_own_renderer(pipe, DTYPES[dtype]) for dtype in options.dtypes}
        if options.compiled:
            views |= {(COMPILED, d): with_own_renderer(pipe, DTYPES[d]).compile() for d in options.dtypes}
        for (how, dtype), view in views.items():
            clip = plan(view)  # the portrait's features in this precision
            given = view.repos_net, clip.portrait, clip.driving, clip.guidance
            for batch in options.batches:
                work = partial(exhaust, render_frames, *given, batch)
                rate = add("RePos-Net" + how, "frames", count, work, dtype=dtype, batch=batch)
                report.rows[-1].share = rate * (flops - flops_saved) / peak[dtype]
        frames = next(pipe.render_clip(plan(pipe)))

        def encode() -> None:
            with VideoWriter(Path(folder) / "encoded.mp4", None) as video:
                for _ in range(8):
                    video.write(frames)

        add("encoding", "frames", 8 * len(frames), encode)
        batch = max(options.batches)
        for (how, dtype), view in views.items():
            rate = add(
                "all, from files to mp4" + how,
                "frames",
                count,
                partial(make_videos, view, options.image, recording, batch, folder),
                dtype=dtype,
                batch=batch,
            )
            report.ratios[f"All, in {dtype}{how}"] = rate / plain
        if options.curves:
            make = partial(make_videos, pipe, image, batch=batch, folder=folder)
            parts = [recording.first(share * recording.seconds) for share in (0.25, 0.5, 1)]
            rendered = [row for row in report.rows if row.stage == "RePos-Net" and row.dtype == options.dtypes[0]]
            report.curves = {
                "seconds of sound": [(part.seconds, fastest(partial(make, part), 1)) for part in parts],
                "portraits": [(n, fastest(partial(make, parts[0], count=n), 1)) for n in (1, 2, 3)],
                "batch": [(row.batch, count / row.per_second) for row in rendered],
            }
    if options.fresh and model != OFFICIAL:
        report.fresh = [
            measure_new_process(model, options.image, whole, seconds) for seconds in (recording.seconds, *options.long)
        ]
    if device.type == "cuda":
        report.gpu_megabytes = torch.cuda.max_memory_allocated(device) / 2**20
    return report
