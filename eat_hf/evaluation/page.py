"""An evaluation report as one web page that stands alone: no network, nothing beside the file.

Here is what needs arithmetic (scales, positions, picture data); `page.html.j2` holds every word and shape.
"""

import base64
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from .metrics import DIRECTIONS, NOTHING, PROTOCOLS, ROLES, Metric, describe_metric
from .report import ClipResult, EvaluationReport, MethodResults, SyncCurve, write_atomically

TEMPLATE = Path(__file__).with_name("page.html.j2")
FIGURE_BYTES = 2_500_000  # of JPEG; a third more as text, which keeps the page of a usual test set below 5 MB
COLOURS = 6  # of methods, in the template
HIGHLIGHTS = ("psnr", "fid", "fd", "sync_confidence", "m_lmd", "acc_emo")
DISTRIBUTIONS = ("psnr", "m_lmd", "sync_confidence")
EXTREMES = 3  # best and worst clips named for each of the DISTRIBUTIONS
MAX_DOTS = 400  # in one row of a plot; beyond it, evenly spaced ones among the sorted values

CHART_WIDTH, MARGIN = 360, 12
RADIUS, HALF_ROW, LABEL_HEIGHT = 2.6, 20, 18
CURVE_HEIGHT, CURVE_LEFT, CURVE_BOTTOM = 210, 34, 36


@dataclass(frozen=True)
class Figure:
    """Frames of one clip under each other.

    Attributes:
        clip: its name.
        rows: (whose frames, JPEG), the real recording first; `frame_strip` makes the pictures.
        caption: one sentence, or "".
    """

    clip: str
    rows: tuple[tuple[str, bytes], ...]
    caption: str = ""


def frame_strip(frames: np.ndarray, columns: int = 6, side: int = 128, quality: int = 80) -> bytes:
    """Evenly spaced frames of (T, H, W, 3) uint8, each `side` pixels high, side by side as a JPEG."""
    chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    width = max(1, round(side * frames.shape[2] / frames.shape[1]))
    tiles = [Image.fromarray(frames[i]).resize((width, side), Image.Resampling.LANCZOS) for i in chosen]
    strip = Image.fromarray(np.hstack([np.asarray(tile) for tile in tiles]))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=quality, optimize=True)
    return data.getvalue()


def write_page(report: EvaluationReport, path: str | os.PathLike, figures: Iterable[Figure] = ()) -> Path:
    """Write the page; there is either the whole file or none.

    Args:
        report: what it shows.
        path: of the HTML file.
        figures: shown in this order until they weigh 2.5 MB; the page says how many it left out.

    Raises:
        UserError: it cannot be written.
    """
    write_atomically(path, render_page(report, figures))
    return Path(path)


def render_page(report: EvaluationReport, figures: Iterable[Figure] = ()) -> str:
    """The page's HTML; equal for equal arguments."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["bare"] = lambda number: f"{number:.1f}".removesuffix(".0")
    figures = list(figures)
    shown = _within_budget(figures)
    methods = [method for method in report.methods if not method.is_ground_truth]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        methods=methods,
        colours=_colours(report),
        protocols=[(name, *PROTOCOLS.get(name, (name, ""))) for name in report.protocols],
        legend=_legend(report),
        directions=DIRECTIONS,
        roles=ROLES,
        nothing=NOTHING,
        width=CHART_WIDTH,
        highlights=_highlights(report),
        clips=_clips(report),
        emotions=sorted({clip.emotion for method in report.methods for clip in method.clips if clip.emotion}),
        judged=[method for method in report.methods if method.emotions and method.emotions.clips],
        emotion_bars=_emotion_bars(report),
        swarms={name: _swarms(report, name) for name in report.protocols},
        curves=_curves(report),
        extremes={name: [(m, _extremes(m, name)) for m in methods] for name in report.protocols},
        clip_metrics={name: _clip_metrics(report, name) for name in report.protocols},
        figures=[(figure, [(label, _data_uri(jpeg)) for label, jpeg in figure.rows]) for figure in shown],
        figures_left_out=len(figures) - len(shown),
        networks=[(m, sum(part.parameters for part in m.parameters)) for m in report.methods if m.parameters],
        tuned=[method for method in report.methods if method.tuning],
        rejected=sum(len(method.rejected) for method in report.methods),
    )


# Words and numbers ---------------------------------------------------------------------------------------------------


def _colours(report: EvaluationReport) -> dict[str, str]:
    """{method: CSS class}; the ground truth is grey, so that colour means something that was made."""
    made = [method.name for method in report.methods if not method.is_ground_truth]
    classes = {name: f"m{i % COLOURS}" for i, name in enumerate(made)}
    return {method.name: classes.get(method.name, "truth") for method in report.methods}


def _legend(report: EvaluationReport) -> list[Metric]:
    """Every metric of the page once."""
    metrics = {metric.key: metric for protocol in report.protocols for metric in report.metrics(protocol)}
    return list(metrics.values())


def _highlights(report: EvaluationReport) -> tuple[MethodResults, str, list[tuple[Metric, float, float | None]]] | None:
    """The last method's most telling numbers under the first protocol, (metric, value, ground truth)."""
    made = [method for method in report.methods if not method.is_ground_truth and method.protocols]
    if not made:
        return None
    method = made[-1]
    protocol = next(name for name in report.protocols if name in method.protocols)
    truth, chosen = report.ground_truth_of(method), []
    for metric in report.metrics(protocol):
        score = method.value(protocol, metric.key)
        if metric.key.partition(" (")[0] in HIGHLIGHTS and score is not None and score.value is not None:
            real = truth.value(protocol, metric.key) if truth else None
            # a distance of the ground truth to itself is 0, which says nothing
            told = real.value if real and real.value and math.isfinite(real.value) else None
            chosen.append((metric, score.value, told))
    return (method, protocol, chosen) if chosen else None


def _emotion_bars(report: EvaluationReport) -> list[tuple[str, list[tuple[str, float, int]]]]:
    """(emotion, [(method, share of its clips seen as it in per cent, number of clips)])."""
    rows: dict[str, list[tuple[str, float, int]]] = {}
    for method in report.methods:
        if method.emotions is None:
            continue
        counts = map(sum, method.emotions.confusion)
        for (name, share), count in zip(method.emotions.recall.items(), counts, strict=True):
            if share is not None:
                rows.setdefault(name, []).append((method.name, share, count))
    return list(rows.items())


def _clips(report: EvaluationReport) -> list[tuple[str, list[tuple[MethodResults, ClipResult]]]]:
    """(clip, its results by method), so that what belongs together stands together."""
    names: dict[str, list[tuple[MethodResults, ClipResult]]] = {}
    for method in report.methods:
        for clip in method.clips:
            names.setdefault(clip.name, []).append((method, clip))
    return sorted(names.items())


def _clip_metrics(report: EvaluationReport, protocol: str) -> list[Metric]:
    """The metrics that clips have one by one, in the order of the table."""
    found = {key for m in report.methods for clip in m.clips for key in clip.values.get(protocol, {})}
    ordered = [metric.key for metric in report.metrics(protocol) if metric.key in found]
    return [describe_metric(key) for key in [*ordered, *sorted(found.difference(ordered))]]


def _extremes(method: MethodResults, protocol: str) -> list[tuple[Metric, list, list]]:
    """(metric, best clips, worst clips), each clip as (name, value)."""
    rows = []
    for key in DISTRIBUTIONS:
        metric = describe_metric(key)
        pairs = [(clip.name, value) for clip, value in method.clip_values(protocol, key)]
        pairs.sort(key=lambda pair: pair[1], reverse=metric.better == "higher")
        count = min(EXTREMES, len(pairs) // 2)  # no clip is both
        if count:
            rows.append((metric, pairs[:count], pairs[: -count - 1 : -1]))
    return rows


def _within_budget(figures: Sequence[Figure]) -> list[Figure]:
    shown, size = [], 0
    for figure in figures:
        size += sum(len(jpeg) for _, jpeg in figure.rows)
        if size > FIGURE_BYTES:
            break
        shown.append(figure)
    return shown


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


# Plots ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SwarmRow:
    """One method's clips in a plot: y of its middle, dots (x, y, what a pointer reads) and the median."""

    method: str
    middle: float
    dots: list[tuple[float, float, str]]
    median: float
    median_x: float


@dataclass(frozen=True)
class Swarm:
    """How a metric is spread over clips: a dot a clip, a row a method. Lengths are SVG units."""

    metric: Metric
    height: float
    ticks: list[tuple[float, str]]
    rows: list[SwarmRow]


@dataclass(frozen=True)
class Line:
    """One method's curve: SVG points and its lowest point."""

    method: str
    points: str
    lowest: tuple[float, float]
    offset: int


@dataclass(frozen=True)
class Curves:
    """Distance of lips and voice by offset."""

    protocol: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


def _axis(values: Iterable[float], start: float, end: float, count: int = 6):
    """A scale from the least to the greatest value: (function from value to position, [(position, label)])."""
    values = list(values)
    low, high = min(values), max(values)
    if high - low < 1e-6 * max(1.0, abs(low)):  # all alike: make room around them
        low, high = low - max(0.5, abs(low) / 20), high + max(0.5, abs(high) / 20)
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * count >= (high - low) * 0.999)
    ticks = [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))

    def place(value: float) -> float:
        return start + (end - start) * (value - low) / (high - low)

    return place, [(place(tick), f"{tick + 0.0:.{digits}f}".replace("-", "−")) for tick in ticks]


def _swarms(report: EvaluationReport, protocol: str) -> list[Swarm]:
    swarms = (_swarm(report, protocol, describe_metric(key)) for key in DISTRIBUTIONS)
    return [swarm for swarm in swarms if swarm]


def _swarm(report: EvaluationReport, protocol: str, metric: Metric) -> Swarm | None:
    found = [(method, method.clip_values(protocol, metric.key)) for method in report.methods]
    found = [(method, pairs) for method, pairs in found if pairs]
    if all(method.is_ground_truth for method, _ in found):
        return None
    place, ticks = _axis((value for _, pairs in found for _, value in pairs), 2 * MARGIN, CHART_WIDTH - 2 * MARGIN)
    rows, y = [], 0.0
    for method, pairs in found:
        middle = y + LABEL_HEIGHT + HALF_ROW
        pairs = sorted(pairs, key=lambda pair: (pair[1], pair[0].name))
        centre = median(value for _, value in pairs)
        if len(pairs) > MAX_DOTS:
            pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, MAX_DOTS).round().astype(int)]
        heights = _stacked([place(value) for _, value in pairs])
        dots = [
            (place(value), middle + height, f"{clip.name}: {metric.format(value)} {metric.unit}".rstrip())
            for (clip, value), height in zip(pairs, heights, strict=True)
        ]
        rows.append(SwarmRow(method.name, middle, dots, centre, place(centre)))
        y = middle + HALF_ROW + 4
    return Swarm(metric, y, ticks, rows)


def _stacked(positions: Sequence[float]) -> list[float]:
    """Distances from the row's middle that keep dots of (nearly) one position apart, in the order given."""
    bins: dict[int, int] = {}
    places = []
    for position in positions:
        column = round(position / (2 * RADIUS))
        places.append(bins.get(column, 0))
        bins[column] = bins.get(column, 0) + 1
    step = min(2 * RADIUS, 2 * HALF_ROW / max(bins.values()))
    return [step * ((place + 1) // 2) * (1 if place % 2 else -1) for place in places]  # 0, +1, -1, +2, ...


def _curves(report: EvaluationReport) -> list[Curves]:
    found = []
    for protocol in report.protocols:
        curves = [(m.name, m.protocols[protocol].sync_curve) for m in report.methods if protocol in m.protocols]
        drawn: list[tuple[str, SyncCurve]] = [(name, curve) for name, curve in curves if curve is not None]
        if drawn:
            found.append(_curve(protocol, drawn))
    return found


def _curve(protocol: str, curves: Sequence[tuple[str, SyncCurve]]) -> Curves:
    across, x_ticks = _axis((x for _, curve in curves for x in curve.offsets), CURVE_LEFT, CHART_WIDTH - MARGIN)
    down, y_ticks = _axis((y for _, c in curves for y in c.distances), CURVE_HEIGHT - CURVE_BOTTOM - 6, MARGIN)
    lines = []
    for name, curve in curves:
        pairs = list(zip(curve.offsets, curve.distances, strict=True))
        offset, distance = min(pairs, key=lambda pair: pair[1])
        points = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in pairs)
        lines.append(Line(name, points, (across(offset), down(distance)), offset))
    return Curves(protocol, x_ticks, y_ticks, lines)
