"""The plots of a report's page."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..metrics.described import Metric, describe_metric
from .results import EvaluationReport, SyncCurve

CHART_WIDTH, MARGIN = 360, 12
RADIUS, HALF_ROW, LABEL_HEIGHT = 2.6, 20, 18
CURVE_HEIGHT, CURVE_LEFT, CURVE_BOTTOM = 210, 34, 36
DISTRIBUTIONS = ("psnr", "m_lmd", "sync_confidence")


MAX_DOTS = 400  # in one row of a plot; beyond it, evenly spaced ones among the sorted values


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


def draw_swarms(report: EvaluationReport, protocol: str) -> list[Swarm]:
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


def draw_curves(report: EvaluationReport) -> list[Curves]:
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
