"""What benchmarks found, as numbers and as BENCHMARK.md."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..media.files import write_atomically

TRAINING = "training-speed.json"


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
        peak: {dtype: FLOP/s of large matrix products or convolutions}.
        rows: the table.
        flops_per_frame, flops_saved: of RePos-Net, the plain way, and how many of them are not needed.
        ratios: {what: times as fast as the plain way}.
        fresh: new processes.
        gpu_megabytes: most memory of the GPU at any time, 0 without one.
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
    gpu_megabytes: float = 0.0
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
        """Write benchmark-MODEL.json, a plot if there are curves, and BENCHMARK.md with all that is there."""
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / f"benchmark-{self.model}.json"]
        write_atomically(written[0], json.dumps(asdict(self), indent=1) + "\n")
        if self.curves:
            plot(self, folder / f"benchmark-{self.model}.png")
            written.append(folder / f"benchmark-{self.model}.png")
        return [*written, write_page(folder)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and lines."""
        lines = []
        for row in self.rows:
            rate = row.per_second
            speed = f"{rate:.3g} {row.unit}" if rate < 100 else f"{rate:.0f} {row.unit}"
            share = "" if row.share is None else f"{row.share:.0%}"
            lines.append([row.stage, row.dtype, str(row.batch or ""), speed, share])
        return ["stage", "precision", "batch", "a second", "of the matrix peak"], lines

    def facts(self) -> list[str]:
        """All but the table, a sentence each."""
        peaks = ", ".join(f"{value / 1e9:.0f} GFLOP/s in {name}" for name, value in self.peak.items())
        found = [
            in_words(self.machine),
            f"The fastest that was seen of matrix products and convolutions (the matrix peak): {peaks}.",
            f"A frame of RePos-Net: {self.flops_per_frame / 1e9:.2f} GFLOP the plain way, "
            f"{(self.flops_per_frame - self.flops_saved) / 1e9:.2f} as it is done here.",
            *(f"{what}: {ratio:.2f} times the plain way." for what, ratio in self.ratios.items()),
        ]
        found += [
            f"A new process, {process.seconds:g} s of sound: the first frame {process.to_first_frame:.1f} s after its "
            f"start, {process.from_loaded:.1f} s after the model was loaded; {process.peak_megabytes:.0f} MB at most."
            for process in self.fresh
        ]
        if self.gpu_megabytes:
            found.append(f"Memory of the GPU: {self.gpu_megabytes:.0f} MB at most.")
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
    """What `training.experiments.throughput` found: the command, the machine, a row for each stage."""

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
        write_atomically(written, json.dumps(asdict(self), indent=1) + "\n")
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
    write_atomically(page, "\n".join(["# Speed\n", *(report.markdown() for report in reports)]))
    return page


def _table(head: list[str], lines: list[list[str]], text: int = 1) -> str:
    """In Markdown; so many columns are text, the others numbers."""
    rule = [":--"] * text + ["--:"] * (len(head) - text)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *lines))


def in_words(machine: dict[str, Any]) -> str:
    """What `describe_machine` found."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{machine['processor']}, {machine['threads']} threads, {machine['date']}; {versions}"


def plot(report: BenchmarkReport, path: Path) -> None:
    """A curve for each axis."""
    figure = Figure((9, 2.8), layout="constrained")
    for axis, (name, points) in zip(figure.subplots(1, len(report.curves)), report.curves.items(), strict=True):
        axis.plot(*zip(*points, strict=True), marker="o")
        axis.set(xlabel=name, ylabel="seconds", ylim=(0, None))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
