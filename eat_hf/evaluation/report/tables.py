"""A report as a table, in a terminal and in Markdown."""

import io
import shutil
from collections.abc import Iterable
from typing import Any

from ..metrics.described import NOTHING, PROTOCOLS
from .results import EvaluationReport, once


def terminal_table(report: EvaluationReport, width: int | None = None, colour: bool = False) -> str:
    """All scores with the ground truth beside them, per-emotion accuracy and rejected clips, to be printed.

    Args:
        report: to show.
        width: in characters; None is the terminal's.
        colour: whether to write a terminal's colour codes.
    """
    from rich.console import Console

    width = width or shutil.get_terminal_size((100, 24)).columns
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, highlight=False, legacy_windows=False)
    for part in _terminal_parts(report):
        console.print(part)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def _terminal_parts(report: EvaluationReport) -> Iterable[Any]:
    """Whatever comes from the user goes in as Text, since rich reads square brackets in strings as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def table(title: str, first: str) -> Table:
        made = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        made.add_column(first, no_wrap=True)
        for method in report.methods:
            made.add_column(Text(method.name), justify="right", style="dim" if method.is_ground_truth else "")
        return made

    yield Text(report.title, style="bold underline")
    for note in report.notes:
        yield Text(f"! {note}", style="yellow")
    yield ""
    for protocol in report.protocols:
        shown = table(PROTOCOLS.get(protocol, (protocol,))[0], "")
        notes: dict[str, list[str]] = {}
        for metric in report.metrics(protocol):
            best, cells = report.best(protocol, metric.key), []
            for method in report.methods:
                score = method.value(protocol, metric.key)
                cell = metric.format(score.value if score else None)
                if score and score.note:
                    notes.setdefault(f"{metric.name}: {score.note}", []).append(method.name)
                cells.append(Text(cell, style="bold" if method.name in best else ""))
            unit = f", {metric.unit}" if metric.unit else ""
            shown.add_row(f"{metric.arrow} {metric.name}{unit}", *cells)
        shown.add_row("clips", *(str(len(method.clips)) for method in report.methods))
        yield shown
        yield from (Text(f"  {note} ({', '.join(names)})") for note, names in notes.items())
        yield ""
    judged = [method for method in report.methods if method.emotions and method.emotions.clips]
    if judged:
        shown = table("Emotion seen as asked for, % of clips", "")
        recalls = {method.name: method.emotions.recall for method in judged if method.emotions}
        for name in once(name for recall in recalls.values() for name in recall):
            cells = [recalls.get(method.name, {}).get(name) for method in report.methods]
            if any(cell is not None for cell in cells):
                shown.add_row(Text(name), *(NOTHING if cell is None else f"{cell:.0f}" for cell in cells))
        yield shown
    for method in report.methods:
        if method.rejected:
            total = len(method.clips) + len(method.rejected)
            yield Text(f"{method.name}: {len(method.rejected)} of {total} clips rejected", style="bold")
            yield from (Text(f"  {clip.name}: {clip.reason}") for clip in method.rejected)
    yield Text("↑ higher is better, ↓ lower is better, ≈ best near the ground truth", style="dim")


def markdown_table(report: EvaluationReport, protocol: str) -> str:
    """A GitHub table of a protocol, methods by metrics, for model cards; the best of several methods is bold.

    Raises:
        ValueError: the report lacks the protocol.
    """
    if protocol not in report.protocols:
        raise ValueError(f"The report has no protocol {protocol!r}, only {', '.join(report.protocols)}.")
    metrics = report.metrics(protocol)
    titles = [f"{m.name} ({m.unit}) {m.arrow}" if m.unit else m.title for m in metrics]
    lines = [["", *titles, "clips"], [":--", *["--:"] * (len(metrics) + 1)]]
    best = {metric.key: report.best(protocol, metric.key) for metric in metrics}
    for method in report.methods:
        cells = [_markdown(method.name)]
        for metric in metrics:
            score = method.value(protocol, metric.key)
            cell = metric.format(score.value if score else None)
            cells.append(f"**{cell}**" if method.name in best[metric.key] else cell)
        lines.append([*cells, str(len(method.clips))])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _markdown(text: str) -> str:
    for character in "\\|*_`<>[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
