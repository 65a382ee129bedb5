"""The charts of a report's page, as SVG in the page's own colours, light or dark."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..metrics.described import Metric, describe_metric
from .results import EvaluationReport, MethodResults, SyncCurve

DISTRIBUTIONS = ("psnr", "m_lmd", "sync_confidence")
WIDTH = 5.0  # inches of 72 units; the page scales it to its column
MAX_DOTS = 400  # in one row of a chart; beyond it, evenly spaced ones among the sorted values
GOLDEN = 0.618  # its multiples, but for whole numbers, lie apart however many there are
# Variables of the page's style sheet, and the colours that stand for them while a chart is drawn
VARIABLES = ("ink", "quiet", "grid", "surface", "truth", "m0", "m1", "m2", "m3", "m4", "m5")
COLOURS = {name: f"#ab00{number:02x}" for number, name in enumerate(VARIABLES)}
ADDRESSES = (' xmlns:xlink="http://www.w3.org/1999/xlink"', ' xmlns="http://www.w3.org/2000/svg"')  # a page needs none
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["quiet"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "grid.color": COLOURS["grid"],
    "xtick.color": COLOURS["quiet"],
    "ytick.color": COLOURS["quiet"],
    "xtick.bottom": False,
    "ytick.left": False,
}


@dataclass(frozen=True)
class Distribution:
    """How a metric is spread over clips.

    Attributes:
        metric: which.
        medians: (method, median) of every row, from the top.
        svg: a row a method, a dot a clip, a line at the median.
    """

    metric: Metric
    medians: tuple[tuple[str, float], ...]
    svg: str


@dataclass(frozen=True)
class SyncChart:
    """Distance of lips and voice by offset.

    Attributes:
        protocol: that measured it.
        methods: those that have a curve.
        svg: a line a method, with a dot at the lowest point.
    """

    protocol: str
    methods: tuple[str, ...]
    svg: str


def draw_distributions(report: EvaluationReport, protocol: str, colours: Mapping[str, str]) -> list[Distribution]:
    """Those of `DISTRIBUTIONS` that any method but the ground truth has.

    Args:
        colours: {method: one of `VARIABLES`}.
    """
    found = []
    for key in DISTRIBUTIONS:
        rows = [(method, [value for _, value in method.clip_values(protocol, key)]) for method in report.methods]
        rows = [(method, values) for method, values in rows if values]
        if any(not method.is_ground_truth for method, _ in rows):
            found.append(_distribution(describe_metric(key), rows, colours))
    return found


def _distribution(
    metric: Metric, rows: Sequence[tuple[MethodResults, list[float]]], colours: Mapping[str, str]
) -> Distribution:
    with _style(metric.key):
        figure, axes = _empty_chart(0.4 + 0.55 * len(rows))
        for row, (method, values) in enumerate(rows):
            values = sorted(values)
            if len(values) > MAX_DOTS:
                values = [values[i] for i in np.linspace(0, len(values) - 1, MAX_DOTS).round().astype(int)]
            heights = row + 0.7 * (GOLDEN * np.arange(len(values)) % 1 - 0.5)
            colour = COLOURS[colours[method.name]]
            axes.scatter(values, heights, 22, color=colour, alpha=0.55, linewidths=0)
            axes.vlines(median(values), row - 0.42, row + 0.42, COLOURS["ink"], linewidth=1.6)
        axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
        svg = _svg(figure)
    return Distribution(metric, tuple((method.name, median(values)) for method, values in rows), svg)


def draw_sync_curves(report: EvaluationReport, colours: Mapping[str, str]) -> list[SyncChart]:
    """One chart for every protocol with curves; `colours` as for `draw_distributions`."""
    found = []
    for protocol in report.protocols:
        results = [(m, m.protocols[protocol].sync_curve) for m in report.methods if protocol in m.protocols]
        curves = [(method, curve) for method, curve in results if curve is not None]
        if curves:
            found.append(_sync_chart(protocol, curves, colours))
    return found


def _sync_chart(
    protocol: str, curves: Sequence[tuple[MethodResults, SyncCurve]], colours: Mapping[str, str]
) -> SyncChart:
    with _style(protocol):
        figure, axes = _empty_chart(2.9)
        for method, curve in curves:
            axes.plot(
                curve.offsets,
                curve.distances,
                "--o" if method.is_ground_truth else "-o",
                color=COLOURS[colours[method.name]],
                linewidth=2,
                markevery=[int(np.argmin(curve.distances))],
                markersize=8,
                markeredgecolor=COLOURS["surface"],
                markeredgewidth=1.5,
            )
        axes.set_xlabel("offset in frames")
        svg = _svg(figure)
    return SyncChart(protocol, tuple(method.name for method, _ in curves), svg)


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """The looks of the page, whatever a user has set matplotlib to. The salt goes into the names of a chart's parts."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"svg.hashsalt": salt})
        yield


def _empty_chart(height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    """What goes into a page: the same for the same figure, in the page's colours, with no address in it."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for address in ADDRESSES:
        svg = svg.replace(address, "")
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
