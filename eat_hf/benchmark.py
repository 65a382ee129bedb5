"""How fast a model is on this machine, part by part, against the plain way to compute the same: `eat-hf benchmark`.

The plain way is how the authors' scripts work: one frame at a time, in float32, the portrait encoded again for every
frame, every window of speech by itself, and maps enlarged before they are convolved. All ratios are of one run.
"""

import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.io.wavfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .audio import frame_windows
from .errors import UserError
from .keypoints import logits_from_degrees, pose_picture_rotation
from .media import Recording, VideoWriter, read_audio, read_image
from .models import layers, spade
from .models.a2et import A2ET
from .models.edn import EDN
from .models.emotion_mapper import EmotionMapper
from .models.expression_basis import ExpressionBasis
from .models.keypoint_detector import CanonicalKeypointDetector
from .models.motion_estimator import MotionEstimator
from .models.repos_net import RePosNet
from .models.speech_encoder import DeepSpeechEncoder
from .performance import Performance, Portrait
from .pipeline import EATPipeline
from .pose_pictures import pose_pictures

TRAINING = "training-speed.json"
OFFICIAL = "official"  # the model of that name: the published sizes with random weights
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "av")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PLAIN_FRAMES = 4  # of the plain way, which is slow and the same for every frame
EMOTION = "happy"
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


@dataclass
class FreshProcess:
    """A new process that makes one video.

    Attributes:
        seconds: of sound.
        to_first_frame: seconds from the start of Python; from_loaded: from when the model was loaded, with the portrait
            and the recording still to be read.
        peak_megabytes: most memory at any time.
    """

    seconds: float
    to_first_frame: float
    from_loaded: float
    peak_megabytes: float


@dataclass
class Row:
    """A line of the table.

    Attributes:
        stage: what was computed; unit: what `per_second` counts.
        dtype, batch: empty and 0 where they play no part.
        share: of the machine's measured matrix peak in that precision, None where operations were not counted.
    """

    stage: str
    unit: str
    per_second: float
    dtype: str = ""
    batch: int = 0
    share: float | None = None


@dataclass
class BenchmarkReport:
    """What was found.

    Attributes:
        machine: processor or GPU, threads, versions, date.
        peak: {dtype: FLOP/s of a large matrix product}.
        rows: the table.
        flops_per_frame, flops_saved: of RePos-Net, the plain way, and how many of them are not needed.
        ratios: {what: times as fast as the plain way}.
        fresh: new processes.
        curves: {axis: [(x, seconds)]} to plot.
    """

    command: str
    model: str
    machine: dict[str, Any]
    peak: dict[str, float]
    flops_per_frame: float
    flops_saved: float
    rows: list[Row] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    fresh: list[FreshProcess] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "BenchmarkReport":
        """What `save` wrote."""
        found = json.loads(path.read_text(encoding="utf8"))
        found["rows"] = [Row(**row) for row in found["rows"]]
        found["fresh"] = [FreshProcess(**process) for process in found["fresh"]]
        found["curves"] = {axis: [tuple(point) for point in points] for axis, points in found["curves"].items()}
        return cls(**found)

    def save(self, folder: Path) -> list[Path]:
        """Write benchmark-MODEL.json, a plot where matplotlib is installed, and BENCHMARK.md with all that is there."""
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / f"benchmark-{self.model}.json"]
        written[0].write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf8")
        if self.curves and find_spec("matplotlib"):
            plot(self, folder / f"benchmark-{self.model}.png")
            written.append(folder / f"benchmark-{self.model}.png")
        return [*written, write_page(folder)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and lines."""
        lines = []
        for row in self.rows:
            speed = f"{row.per_second:.1f} {row.unit}" if row.per_second < 100 else f"{row.per_second:.0f} {row.unit}"
            share = "" if row.share is None else f"{row.share:.0%}"
            lines.append([row.stage, row.dtype, str(row.batch or ""), speed, share])
        return ["stage", "precision", "batch", "a second", "of the matrix peak"], lines

    def facts(self) -> list[str]:
        """All but the table, a sentence each."""
        peaks = ", ".join(f"{value / 1e9:.0f} GFLOP/s in {name}" for name, value in self.peak.items())
        found = [
            in_words(self.machine),
            f"Matrix products: {peaks}. A frame of RePos-Net: {self.flops_per_frame / 1e9:.2f} GFLOP the plain way, "
            f"{(self.flops_per_frame - self.flops_saved) / 1e9:.2f} as it is done here.",
            *(f"{what}: {ratio:.1f} times the plain way." for what, ratio in self.ratios.items()),
        ]
        found += [
            f"A new process, {process.seconds:g} s of sound: the first frame {process.to_first_frame:.1f} s after its "
            f"start, {process.from_loaded:.1f} s after the model was loaded; {process.peak_megabytes:.0f} MB at most."
            for process in self.fresh
        ]
        return found

    def markdown(self) -> str:
        """Its section of BENCHMARK.md."""
        head, lines = self.table()
        facts = "\n".join(f"- {fact}" for fact in self.facts())
        picture = (
            f"\n![Seconds against length, portraits and batch](benchmark-{self.model}.png)\n" if self.curves else ""
        )
        return f"## {self.model}\n\n`{self.command}`\n\n{facts}\n\n{_table(head, lines, text=2)}{picture}"


@dataclass
class TrainingSpeed:
    """A training stage.

    Attributes:
        stage, batch: which, and samples a step.
        samples_per_second: learnt from.
        loader_share: of the time, spent waiting for batches.
    """

    stage: str
    batch: int
    samples_per_second: float
    loader_share: float


@dataclass
class TrainingReport:
    """What `training.throughput` found: the command, the machine, a row for each stage."""

    command: str
    machine: dict[str, Any]
    rows: list[TrainingSpeed]

    @classmethod
    def load(cls, path: Path) -> "TrainingReport":
        """What `save` wrote."""
        found = json.loads(path.read_text(encoding="utf8"))
        return cls(**(found | {"rows": [TrainingSpeed(**row) for row in found["rows"]]}))

    def save(self, folder: Path) -> list[Path]:
        """Write training-speed.json, and BENCHMARK.md with all that is there."""
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / TRAINING
        written.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf8")
        return [written, write_page(folder)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and lines."""
        lines = [
            [row.stage, str(row.batch), f"{row.samples_per_second:.1f}", f"{row.loader_share:.0%}"] for row in self.rows
        ]
        return ["stage", "batch", "samples a second", "waiting for batches"], lines

    def markdown(self) -> str:
        """Its section of BENCHMARK.md."""
        return f"## Training\n\n`{self.command}`\n\n- {in_words(self.machine)}\n\n{_table(*self.table())}"


def write_page(folder: Path) -> Path:
    """BENCHMARK.md of all reports in a folder."""
    reports: list[BenchmarkReport | TrainingReport] = [
        BenchmarkReport.load(path) for path in sorted(folder.glob("benchmark-*.json"))
    ]
    if (folder / TRAINING).is_file():
        reports.append(TrainingReport.load(folder / TRAINING))
    page = folder / "BENCHMARK.md"
    page.write_text("\n".join(["# Speed\n", *(report.markdown() for report in reports)]), encoding="utf8")
    return page


def _table(head: list[str], lines: list[list[str]], text: int = 1) -> str:
    """In Markdown; so many columns are text, the others numbers."""
    rule = [":--"] * text + ["--:"] * (len(head) - text)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *lines))


def in_words(machine: dict[str, Any]) -> str:
    """What `describe_machine` found."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{machine['processor']}, {machine['threads']} threads, {machine['date']}; {versions}"


# The plain way --------------------------------------------------------------------------------------------------------


@contextmanager
def maps_enlarged_first() -> Iterator[None]:
    """Convolutions of enlarged maps as they are written down, for comparison."""

    def enlarge(conv: nn.Module, small: Tensor, scale: int) -> Tensor:
        return conv(F.interpolate(small, scale_factor=(*[1] * (small.dim() - 4), scale, scale)))

    with mock.patch.object(layers, "conv_of_enlarged", enlarge), mock.patch.object(spade, "conv_of_enlarged", enlarge):
        yield


@torch.no_grad()
def plain_frames(
    pipe: EATPipeline, recording: Recording, seen: Portrait, driving: Tensor, frames: Sequence[int]
) -> Tensor:
    """Frames (n, 3, 256, 256) of a clip with one emotion, each by itself, with nothing kept from one to the next.

    Args:
        driving: K_d (1, F, K, 3) of the whole clip; A2ET and EDN compute them again, and nothing is made of that.
    """
    speech = pipe.encode_audio(recording)
    semantic = torch.cat([speech.semantic, speech.semantic[-1:]])[: len(speech.mel)]
    pixel_values = pipe._pixel_values(seen.crop[None])
    prompts = pipe.draw_prompts(torch.Generator().manual_seed(0))
    prompt = prompts[pipe.emotion_mapper.config.emotions.index(EMOTION), None]
    radius = pipe.a2et.config.window // 2
    angles = [logits_from_degrees(angle.expand(2 * radius + 1)) for angle in (seen.yaw, seen.pitch, seen.roll)]
    made = []
    with maps_enlarged_first():
        for frame in frames:
            pictures = pose_pictures(pose_picture_rotation(*angles), seen.translation.expand(2 * radius + 1, -1))
            shown = pipe.a2et(
                frame_windows(semantic, radius, pipe.a2et.semantic_padding)[frame, None, None],
                frame_windows(speech.mel, radius, pipe.a2et.mel_padding)[frame, None, None],
                pictures[None, None],
                *(angle[None, :1] for angle in angles),
                seen.translation[None],
                seen.prediction_map,
                prompt,
            )
            pipe.expression_basis(shown.coefficients)
            pipe.edn(shown.face_features, prompt)
            own = driving[:, frame : frame + 1]
            made.append(pipe.repos_net(pixel_values, seen.keypoints, own, prompt[:, 0]).frames[0])
    return torch.cat(made)


# Measuring ------------------------------------------------------------------------------------------------------------


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
    """FLOP/s of a large matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / fastest(lambda: a @ b, 3 * repeats)


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


def official_pipeline() -> EATPipeline:
    """The published sizes with random weights."""
    torch.manual_seed(0)
    return EATPipeline(
        keypoint_detector=CanonicalKeypointDetector(),
        motion_estimator=MotionEstimator(),
        emotion_mapper=EmotionMapper(),
        a2et=A2ET(),
        edn=EDN(),
        repos_net=RePosNet(),
        speech_encoder=DeepSpeechEncoder(),
        expression_basis=ExpressionBasis(),
    )


NEW_PROCESS = """
import json, resource, sys, time
from eat_hf import EATPipeline
from eat_hf.media import VideoWriter, read_audio
model, image, audio, output = sys.argv[1:]
pipe = EATPipeline.from_pretrained(model)
pipe.set_progress_bar_config(disable=True)
loaded = time.time()
recording = read_audio(audio)
with VideoWriter(output, recording) as video:
    for number, chunk in enumerate(pipe.stream(image, recording, "happy", generator=0)):
        if not number:
            first = time.time()
        video.write(chunk)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"first": first, "loaded": loaded, "peak_megabytes": peak}))
"""


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
            for chunk in pipe.stream(image, recording, EMOTION, generator=0, batch_size=batch):
                video.write(chunk)


def with_own_renderer(pipe: EATPipeline, dtype: torch.dtype) -> EATPipeline:
    """The same networks, with a copy of the renderer in some precision; rounding does not come back."""
    view = copy.copy(pipe)
    view.__dict__["repos_net"] = copy.deepcopy(pipe.repos_net).to(dtype)
    return view


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
    recording = read_audio(options.audio).first(options.seconds)
    whole = read_audio(options.audio)

    def perform(view: EATPipeline) -> Performance:
        return view.perform(image, recording, EMOTION, head_motion="still", generator=0)

    peak = {name: matrix_peak(device, DTYPES[name], repeats) for name in options.dtypes}
    performance = perform(pipe)
    count, seen = len(performance), performance.portrait
    driving = performance.driving
    middle = driving[:, count // 2, None]
    with torch.no_grad():
        with maps_enlarged_first():
            pixel_values = pipe._pixel_values(seen.crop[None])
            flops = count_flops(lambda: pipe.repos_net(pixel_values, seen.keypoints, middle))
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
        pose = pipe.pose_head(seen, pipe.prepare_motion("still", count, speech.energy))
        prompts = pipe.draw_prompts(torch.Generator().manual_seed(0))
        prompt = prompts[pipe.emotion_mapper.config.emotions.index(EMOTION), None]
        windows = pipe.read_speech(speech, pose)
        own = pipe.adaptations[0]
        face, _ = pipe.emotional_deformation(seen, own, prompt)
        add("EDN", "emotions", 1, lambda: pipe.emotional_deformation(seen, own, prompt))
        for batch in options.batches:

            def speak(batch: int = batch) -> None:
                pipe.read_speech(speech, pose, batch)
                for index in torch.arange(count).split(batch):
                    pipe.speech_deformation(windows, index, own, face, prompt)

            add("A2ET", "frames", count, speak, dtype="float32", batch=batch)

    with tempfile.TemporaryDirectory() as folder:
        views = {("", dtype): with_own_renderer(pipe, DTYPES[dtype]) for dtype in options.dtypes}
        if options.compiled:
            views |= {(COMPILED, d): with_own_renderer(pipe, DTYPES[d]).compile() for d in options.dtypes}
        for (how, dtype), view in views.items():
            performance = perform(view)  # the portrait's features in this precision
            given = performance.portrait, performance.driving, performance.guidance
            for batch in options.batches:
                work = partial(exhaust, view.render, *given, batch)
                rate = add("RePos-Net" + how, "frames", count, work, dtype=dtype, batch=batch)
                report.rows[-1].share = rate * (flops - flops_saved) / peak[dtype]
        frames = next(pipe.render_performance(perform(pipe), 8))

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
    return report


def plot(report: BenchmarkReport, path: Path) -> None:
    """A curve for each axis; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure((9, 2.8), layout="constrained")
    for axis, (name, points) in zip(figure.subplots(1, len(report.curves)), report.curves.items(), strict=True):
        axis.plot(*zip(*points, strict=True), marker="o")
        axis.set(xlabel=name, ylabel="seconds", ylim=(0, None))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
