"""What an evaluation found: numbers, what they mean, and their forms for files, terminals and model cards.

A report sets methods side by side. The ground truth is one of them: real videos, put through the same measurements.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...media.files import write_atomically
from ...models.parameters import ParameterShare
from ..metrics.described import METRICS, PROTOCOLS, Metric, describe_metric, in_order

GROUND_TRUTH = "ground truth"
FORMAT = 1  # of the JSON file; a reader refuses any other
DIGITS = 6  # that numbers are rounded to, so that summing in another order gives the same file


def _clean(value: float | None) -> float | None:
    """A plain number, rounded; None for a value that is not a number."""
    if value is None or math.isnan(value):
        return None
    return round(float(value), DIGITS) + 0.0  # + 0.0 makes a negative zero positive


@dataclass(frozen=True)
class MetricValue:
    """One score.

    Attributes:
        value: infinite for a perfect PSNR; None where there is none, which the note explains.
        clips: how many clips went into it.
        note: what a reader must know about this number, or "".
    """

    value: float | None
    clips: int
    note: str = ""

    def __post_init__(self):
        value = _clean(self.value)
        if value is None and not self.note:
            object.__setattr__(self, "note", "could not be measured")
        object.__setattr__(self, "value", value)


@dataclass(frozen=True)
class SyncCurve:
    """Mean distance of lips and voice, shifted against each other; the lowest point is the sync offset.

    Attributes:
        offsets: in frames, as `sync_offset` counts them, in rising order.
        distances: one an offset.
    """

    offsets: tuple[int, ...]
    distances: tuple[float, ...]

    def __post_init__(self):
        if len(self.offsets) != len(self.distances) or not self.offsets:
            raise ValueError(f"{len(self.offsets)} offsets do not match {len(self.distances)} distances.")
        if not all(map(math.isfinite, self.distances)):
            raise ValueError("The distances of lips and voice must be finite.")
        pairs = sorted((int(o), round(float(d), DIGITS)) for o, d in zip(self.offsets, self.distances, strict=True))
        object.__setattr__(self, "offsets", tuple(offset for offset, _ in pairs))
        object.__setattr__(self, "distances", tuple(distance for _, distance in pairs))


@dataclass(frozen=True)
class ProtocolResults:
    """What one protocol says of one method: {metric: value}, and how lip-sync depends on the offset."""

    metrics: dict[str, MetricValue]
    sync_curve: SyncCurve | None = None

    def __post_init__(self):
        for key in self.metrics:
            describe_metric(key)


@dataclass(frozen=True)
class ClipResult:
    """What was measured on one clip.

    Attributes:
        name: as the user's folder calls it.
        emotion: the one that was asked for, or "".
        predicted_emotion: the one that the judge saw, or "".
        values: {protocol: {metric: value}}; None where a value could not be measured.
        frames: compared.
        frames_without_face: left out of them, for want of a face.
    """

    name: str
    emotion: str
    values: dict[str, dict[str, float | None]]
    frames: int
    frames_without_face: int = 0
    predicted_emotion: str = ""

    def __post_init__(self):
        values = {
            protocol: {key: _clean(value) for key, value in metrics.items()}
            for protocol, metrics in self.values.items()
        }
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class RejectedClip:
    """A clip that could not be scored, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class EmotionScores:
    """How often the judge saw which emotion.

    Attributes:
        classes: C names.
        confusion: C rows, the emotion asked for, of C clip counts, the emotion seen.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    def __post_init__(self):
        rows = tuple(tuple(int(count) for count in row) for row in self.confusion)
        if len(rows) != len(self.classes) or any(len(row) != len(rows) for row in rows):
            raise ValueError(f"A confusion matrix of {len(self.classes)} emotions needs as many rows and columns.")
        object.__setattr__(self, "confusion", rows)

    @property
    def clips(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float | None:
        """Share of clips seen as asked for, in per cent; None without clips."""
        hits = sum(row[i] for i, row in enumerate(self.confusion))
        return _clean(100 * hits / self.clips) if self.clips else None

    @property
    def recall(self) -> dict[str, float | None]:
        """{emotion: share of its clips seen as it, in per cent}; None for one without clips."""
        shares = (100 * row[i] / sum(row) if sum(row) else None for i, row in enumerate(self.confusion))
        return {name: _clean(share) for name, share in zip(self.classes, shares, strict=True)}


@dataclass(frozen=True)
class Tuning:
    """What emotional adaptation took: hours, on which machine, with which data."""

    hours: float
    hardware: str = ""
    data: str = ""

    def __post_init__(self):
        object.__setattr__(self, "hours", _clean(self.hours))


@dataclass(frozen=True)
class Judge:
    """A network that scores.

    Attributes:
        name: of the network.
        source: where its weights come from.
        standard: whether it is the one that papers use; scores of another compare within this report only.
        note: what else a reader should know, or "".
    """

    name: str
    source: str = ""
    standard: bool = True
    note: str = ""


@dataclass(frozen=True)
class MethodResults:
    """Everything about one method, or about the ground truth.

    Attributes:
        name: unique in a report.
        protocols: {protocol: results}.
        clips: those that were scored.
        rejected: those that were not.
        emotions: None without an emotion judge or labels.
        ground_truth: name of the method that this one is held against; None for the ground truth itself.
        parameters: parts of the network, if known.
        tuning: None if unknown.
    """

    name: str
    protocols: dict[str, ProtocolResults]
    clips: tuple[ClipResult, ...] = ()
    rejected: tuple[RejectedClip, ...] = ()
    emotions: EmotionScores | None = None
    ground_truth: str | None = GROUND_TRUTH
    parameters: tuple[ParameterShare, ...] = ()
    tuning: Tuning | None = None

    def __post_init__(self):
        object.__setattr__(self, "clips", tuple(sorted(self.clips, key=lambda clip: clip.name)))
        object.__setattr__(self, "rejected", tuple(sorted(self.rejected, key=lambda clip: (clip.name, clip.reason))))

    @property
    def is_ground_truth(self) -> bool:
        return self.ground_truth is None

    def value(self, protocol: str, key: str) -> MetricValue | None:
        """A score, or None if the method has none of that name."""
        results = self.protocols.get(protocol)
        return results.metrics.get(key) if results else None

    def clip_values(self, protocol: str, key: str) -> list[tuple[ClipResult, float]]:
        """Every clip that has a finite value of the metric, with it."""
        pairs = ((clip, clip.values.get(protocol, {}).get(key)) for clip in self.clips)
        return [(clip, value) for clip, value in pairs if value is not None and math.isfinite(value)]


@dataclass(frozen=True)
class EvaluationReport:
    """Methods side by side, and how they were judged.

    Attributes:
        title: of the report.
        methods: ground truth first.
        judges: {role: network}; roles are the keys of `ROLES`.
        versions: {package: version}.
        commands: that made the report, one a method.
        seed: of everything random, if anything was.
        notes: sentences that the reader must know before the numbers.
    """

    title: str
    methods: tuple[MethodResults, ...]
    judges: dict[str, Judge] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    seed: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        methods = tuple(sorted(self.methods, key=lambda method: not method.is_ground_truth))
        names = [method.name for method in methods]
        if len(set(names)) < len(names):
            raise ValueError(f"Methods need different names, not {', '.join(names)}.")
        object.__setattr__(self, "methods", methods)

    @property
    def protocols(self) -> list[str]:
        """Names of all protocols that any method has, in order."""
        return in_order((name for method in self.methods for name in method.protocols), PROTOCOLS)

    def metrics(self, protocol: str) -> list[Metric]:
        """All metrics that any method has under a protocol, in order."""
        found = (method.protocols[protocol].metrics for method in self.methods if protocol in method.protocols)
        return [describe_metric(key) for key in in_order((key for metrics in found for key in metrics), METRICS)]

    def ground_truth_of(self, method: MethodResults) -> MethodResults | None:
        """The ground truth that a method is held against, if the report has it."""
        return next((other for other in self.methods if other.name == method.ground_truth), None)

    def best(self, protocol: str, key: str) -> set[str]:
        """Names of the methods that do best at a metric; empty where all do alike, or there is but one."""
        metric, distances = describe_metric(key), {}
        for method in self.methods:
            score = method.value(protocol, key)
            if method.is_ground_truth or score is None or score.value is None:
                continue
            if metric.better == "near":
                truth = self.ground_truth_of(method)
                target = truth.value(protocol, key) if truth else None
                if target is None or target.value is None:
                    continue
                distances[method.name] = abs(score.value - target.value)
            else:
                distances[method.name] = score.value if metric.better == "lower" else -score.value
        if len(set(distances.values())) < 2:
            return set()
        return {name for name, distance in distances.items() if distance == min(distances.values())}

    def to_json(self) -> str:
        """The same text for the same results, whatever computed them; infinity is written as "inf"."""
        used = {metric.key: metric for protocol in self.protocols for metric in self.metrics(protocol)}
        content = {
            "eat_hf_evaluation": FORMAT,
            "metrics": {  # for those who read the file without this package; `from_json` takes them from the table
                key: {"name": m.name, "unit": m.unit, "better": m.better, "explanation": m.explanation}
                for key, m in used.items()
            },
            "report": _plain(asdict(self)),
        }
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike) -> None:
        """Write the JSON; there is either the whole file or none.

        Raises:
            UserError: it cannot be written.
        """
        write_atomically(path, self.to_json())

    @classmethod
    def from_json(cls, text: str) -> "EvaluationReport":
        """Read what `to_json` wrote.

        Raises:
            UserError: it is something else.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            content = json.loads(text)
        except ValueError:
            raise UserError("This is not an evaluation report: it is not JSON.") from None
        found = content.get("eat_hf_evaluation") if isinstance(content, dict) else None
        if found is None:
            raise UserError("This is not an evaluation report; give a file that `eat-hf evaluate` wrote.")
        if found != FORMAT:
            raise UserError(f"This report has format {found}, not {FORMAT}; read it with the version that wrote it.")
        try:
            return TypeAdapter(cls).validate_python(content.get("report"))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "report"
            raise UserError(f"The evaluation report is damaged at {place}: {first['msg']}.") from None

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EvaluationReport":
        """Read a file that `save` wrote.

        Raises:
            UserError: there is none, or it is something else.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"The report {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
        try:
            return cls.from_json(text)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def merge(reports: Sequence[EvaluationReport], title: str | None = None) -> EvaluationReport:
    """Several reports' methods side by side.

    One ground truth is kept where all reports agree on it. Where they do not (some clip was rejected in one report
    only), each keeps its own, named after the method it belongs to.

    Args:
        reports: made with the same judges.
        title: None keeps the first report's.

    Raises:
        UserError: nothing to merge, a method that occurs twice, or judges that differ.
    """
    if not reports:
        raise UserError("There is no report to merge.")
    first = reports[0]
    judges: dict[str, Judge] = {}
    for report in reports:
        for role, judge in report.judges.items():
            if judges.setdefault(role, judge) != judge:
                raise UserError(
                    f"The reports cannot be compared: for {role!r} one used {judges[role].name} and another "
                    f"{judge.name} or other weights of it; evaluate again with the same judges."
                )
    truths = [method for report in reports for method in report.methods if method.is_ground_truth]
    agreed = all(truth == truths[0] for truth in truths)
    methods = truths[:1] if agreed else []
    for report in reports:
        owners = ", ".join(method.name for method in report.methods if not method.is_ground_truth)
        for method in report.methods:
            if agreed and method.is_ground_truth:
                continue
            if method.is_ground_truth:
                method = replace(method, name=f"{method.name} ({owners})")
            elif not agreed:
                method = replace(method, ground_truth=f"{method.ground_truth} ({owners})")
            if any(method.name == other.name for other in methods):
                raise UserError(f"Two of the reports have a method {method.name!r}; give one of them another name.")
            methods.append(method)
    return EvaluationReport(
        title=first.title if title is None else title,
        methods=tuple(methods),
        judges=judges,
        versions=_joined(report.versions for report in reports),
        commands=once(command for report in reports for command in report.commands),
        seed=first.seed if all(report.seed == first.seed for report in reports) else None,
        notes=once(note for report in reports for note in report.notes),
    )


def _joined(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for mapping in versions:
        for package, version in mapping.items():
            found.setdefault(package, {})[version] = None
    return {package: ", ".join(each) for package, each in found.items()}


def once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
