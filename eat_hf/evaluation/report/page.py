"""An evaluation report as one web page that stands alone: no network, nothing beside the file.

Here is what needs arithmetic, in `charts` what is drawn; `page.html.j2` holds every word.
"""

import base64
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...media.files import write_atomically
from ..metrics.described import DIRECTIONS, NOTHING, PROTOCOLS, ROLES, Metric, describe_metric
from .charts import DISTRIBUTIONS, draw_distributions, draw_sync_curves
from .results import ClipResult, EvaluationReport, MethodResults

TEMPLATE = Path(__file__).with_name("page.html.j2")
FIGURE_BYTES = 2_500_000  # of JPEG; a third more as text, which keeps the page of a usual test set below 5 MB
COLOURS = 6  # of methods, in the template
HIGHLIGHTS = ("psnr", "fid", "fd", "sync_confidence", "m_lmd", "acc_emo")
EXTREMES = 3  # best and worst clips named for each of the DISTRIBUTIONS


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
    colours = _colours(report)
    figures = list(figures)
    shown = _within_budget(figures)
    methods = [method for method in report.methods if not method.is_ground_truth]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        methods=methods,
        colours=colours,
        protocols=[(name, *PROTOCOLS.get(name, (name, ""))) for name in report.protocols],
        legend=_legend(report),
        directions=DIRECTIONS,
        roles=ROLES,
        nothing=NOTHING,
        highlights=_highlights(report),
        clips=_clips(report),
        emotions=sorted({clip.emotion for method in report.methods for clip in method.clips if clip.emotion}),
        judged=[method for method in report.methods if method.emotions and method.emotions.clips],
        emotion_bars=_emotion_bars(report),
        distributions={name: draw_distributions(report, name, colours) for name in report.protocols},
        curves=draw_sync_curves(report, colours),
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
    """{method: its class and variable in the style sheet}; the ground truth is grey: colour is for what was made."""
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
