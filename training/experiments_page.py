"""How results of `training.experiments` are shown: tables beside the paper's, sentences about both, plots, one page."""

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eat_hf.evaluation.metrics import METRICS, NOTHING, describe_metric, in_order
from eat_hf.evaluation.report import GROUND_TRUTH, write_atomically

# as in the paper's tables; the distance of distributions is FID or what stands in for it
COLUMNS = ("psnr", "ssim", "fid", "fd", "sync_confidence", "m_lmd", "f_lmd", "acc_emo")
OURS, PAPER, TRUTH = "#4063d8", "#b8b8b8", "#2b2b2b"
SHADES = {0.25: "#a9c4f5", 0.5: "#6a8de0", 1.0: "#1f3fa8"}
EXPERIMENTS = {
    "table3": (
        "Table 3: the latent, with and without enhancement",
        "OSFV is trained like the enhanced latent, but with a deformation prior (5) and without a head pose teacher. "
        "The paper's numbers stand beside frames rendered from the latents of the real frames: they exceed what its "
        "whole method reaches in Table 5, which speech alone could not. Later stages learn from the corpus' own "
        "labels. This takes far longer than the other tables.",
    ),
    "table4": (
        "Table 4: prompts",
        "Without EDN and EAM. Without prompts nothing is adapted: that line is A2ET as stage 1 left it.",
    ),
    "table5": ("Table 5: parts of the adaptation", "Every line adds a part to the line before."),
    "table6": ("Table 6: losses of the adaptation", "Every line adds a loss to the line before."),
    "figure5": (
        "Figure 5: quality against tuning time and data",
        "One run for each share of the emotional clips. The points on a curve are averaged networks that this run kept "
        "on its way, under one cosine schedule over its whole length, so all but the last were still at a high "
        "learning rate. Time is that of training alone, on the device below.",
    ),
    "figure6": (
        "Figure 6: parameters that the adaptation adds",
        "The frozen network is RePos-Net, the keypoint detector and A2ET, as the paper counts.",
    ),
}
# share of the emotional data: hours after which the paper's model was better than all others, of 5 to 6 in all
PAPER_TUNING = {0.25: 2.0, 0.5: 1.0}
PAPER_STATE_OF_THE_ART = 49.85 / 75.43  # Acc_emo of the best method before, as a part of the whole model's
PAPER_SHARES = {"emotion_mapper": 5.30, "edn": 1.17, "EAM": 0.38}  # per cent
PARTS = {
    "repos_net": "RePos-Net",
    "keypoint_detector": "keypoint detector",
    "a2et": "A2ET",
    "emotion_mapper": "deep prompts",
    "edn": "EDN",
    "EAM": "EAM",
}

Result = dict[str, Any]


def write_results(folder: Path, experiment: str, result: Result) -> None:
    """The JSON and the plot of an experiment, and the page anew, with all experiments that the folder has."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{experiment}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    save_plot(PLOTS.get(experiment, plot_bars)(result), folder / f"{experiment}.svg")
    found = {name: json.loads(path.read_text()) for name in EXPERIMENTS if (path := folder / f"{name}.json").exists()}
    write_atomically(folder / "README.md", page(found))
    print(f"{folder / 'README.md'}, {experiment}.json and {experiment}.svg are written.")


# Page -----------------------------------------------------------------------------------------------------------------


def page(results: dict[str, Result]) -> str:
    """The whole page, Markdown."""
    parts = [
        "# The paper's experiments",
        "Made by `training.experiments`; do not edit. Numbers of the paper were measured on MEAD, with other judges "
        "and networks many times larger: compare the order of lines, not the values. The sentences below each table "
        "are computed from it. Every line is one run with one seed, so small differences may be chance.",
    ]
    for name, result in results.items():
        title, about = EXPERIMENTS[name]
        parts += [f"## {title}", about]
        parts += SECTIONS.get(name, ablation)(result)
        parts += [f"![{title}]({name}.svg)", how(result)]
    return "\n\n".join(parts) + "\n"


def ablation(result: Result) -> list[str]:
    sentences = [compare(result["rows"], metric) for metric in paper_metrics(result)]
    return [score_table(result), *measured_on(result), "\n".join(f"- {sentence}" for sentence in sentences)]


def tuning(result: Result) -> list[str]:
    return [score_table(result), *measured_on(result), "\n".join(f"- {line}" for line in tuning_sentences(result))]


def shares(result: Result) -> list[str]:
    sizes = result["sizes"]
    head = ["", *(f"{name}, {unit}" for name in sizes for unit in ("parameters", "%")), "%, paper"]
    lines, columns = [], {name: {part["name"]: part for part in parts} for name, parts in sizes.items()}
    sums = {name: sum(part["parameters"] for part in parts) for name, parts in sizes.items()}
    for key, title in PARTS.items():
        cells = [title]
        for name in sizes:
            count = columns[name][key]["parameters"]
            cells += [f"{count:,}", f"{100 * count / sums[name]:.2f}"]
        lines.append([*cells, f"{PAPER_SHARES[key]:.2f}" if key in PAPER_SHARES else NOTHING])
    for title, tuned in (("added by the adaptation", True), ("all", None)):
        cells = [title]
        for name, parts in sizes.items():
            count = sum(part["parameters"] for part in parts if tuned is None or part["tuned"])
            cells += [f"{count:,}", f"{100 * count / sums[name]:.2f}"]
        lines.append([*cells, f"{sum(PAPER_SHARES.values()) if tuned else 100:.2f}"])
    sentences = []
    for name, parts in sizes.items():
        ours = {part["name"]: 100 * part["parameters"] / sums[name] for part in parts if part["tuned"]}
        rows = [
            {"title": PARTS[key], "scores": {"share": ours[key]}, "paper": {"share": value}}
            for key, value in PAPER_SHARES.items()
        ]
        compared = order(rows, "share", lambda value: f"{value:.2f} %")
        sentences.append(
            f"- {name}: the adaptation adds {sum(ours.values()):.2f} % of all parameters "
            f"(paper: {sum(PAPER_SHARES.values()):.2f} %). Its parts come in {compared}"
        )
    return [table(head, lines), "\n".join(sentences)]


SECTIONS = {"figure5": tuning, "figure6": shares}


def how(result: Result) -> str:
    """Commands, seconds, devices, seeds."""
    lines = [f"`{result['command']}` (config `{result['config']}`, seed {result['seed']})"]
    trained = [
        [row["title"], stage, *(str(record[key]) for key in ("steps", "batch_size", "seconds", "device"))]
        for row in result.get("rows", [])
        for stage, record in row["training"].items()
    ]
    if trained:
        lines.append(table(["", "trained", "steps", "batch", "seconds", "device"], trained))
    if result.get("commands"):
        lines.append("```bash\n" + "\n".join(result["commands"]) + "\n```")
    text = "\n\n".join(lines)
    return f"<details><summary>How it was made</summary>\n\n{text}\n\n</details>"


def measured_on(result: Result) -> list[str]:
    rejected = sum(row["rejected"] for row in result["rows"])
    left_out = f" {rejected} generated clips could not be scored and are left out." if rejected else ""
    return [" ".join([f"{result['clips']} clips of the test split.{left_out}", *result["notes"]])]


def table(head: list[str], lines: list[list[str]]) -> str:
    """A GitHub table; the first column is text."""
    rows = [head, [":--", *["--:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def metrics_of(result: Result) -> list[str]:
    """Keys of the table's columns."""
    found = {key for row in result["rows"] for key in row["scores"] if key.partition(" (")[0] in COLUMNS}
    return in_order(found, COLUMNS)


def paper_metrics(result: Result) -> list[str]:
    """Keys of what the paper's table has."""
    return in_order({key for row in result["rows"] for key in row["paper"]}, METRICS)


def score_table(result: Result) -> str:
    metrics, theirs = metrics_of(result), paper_metrics(result)
    head = ["", *(describe_metric(key).title for key in metrics)]
    head += [f"{describe_metric(key).name}, paper" for key in theirs]
    truth = {"title": GROUND_TRUTH, "scores": result["ground_truth"], "paper": {}}
    lines = [
        [row["title"]]
        + [describe_metric(key).format(row["scores"].get(key)) for key in metrics]
        + [describe_metric(key).format(row["paper"].get(key)) for key in theirs]
        for row in (truth, *result["rows"])
    ]
    return table(head, lines)


# Sentences ------------------------------------------------------------------------------------------------------------


def compare(rows: list[Result], metric: str) -> str:
    """Whether the lines of a table come in the paper's order."""
    described = describe_metric(metric)
    return f"{described.name}: {order(rows, metric, described.format)}"


def order(rows: list[Result], metric: str, write) -> str:
    """The same as the paper's, or which pairs are not; pairs that are equal in the paper do not count."""
    known = [row for row in rows if metric in row["paper"]]
    lacking = [row["title"] for row in known if row["scores"].get(metric) is None]
    if lacking:
        return f"no comparison, for {', '.join(lacking)} could not be measured."
    pairs, wrong = 0, []
    for pair in combinations(known, 2):
        low, high = sorted(pair, key=lambda row: row["paper"][metric])
        if low["paper"][metric] == high["paper"][metric]:
            continue
        pairs += 1
        if not low["scores"][metric] < high["scores"][metric]:
            wrong.append(f"{low['title']} ({write(low['scores'][metric])}) below {high['title']} "
                         f"({write(high['scores'][metric])})")  # fmt: skip
    if not pairs:
        return "nothing to compare, for the paper has no two different values."
    if not wrong:
        names = [row["title"] for row in sorted(known, key=lambda row: row["paper"][metric])]
        return f"the same order as in the paper, from low to high {', '.join(names)}."
    agree = f"{pairs - len(wrong)} of {pairs} pairs agree"
    return f"another order than in the paper; {agree}, the paper has {'; '.join(wrong)}."


def tuning_sentences(result: Result) -> list[str]:
    """When each curve passes the part of the final accuracy that the best method before EAT has of EAT's in the paper,
    and how the curves end."""
    curves = curves_of(result, "acc_emo")
    whole = curves[max(curves)][-1]
    if not whole[1]:
        return ["No comparison, for the emotion accuracy of the whole run was not measured or is zero."]
    threshold = PAPER_STATE_OF_THE_ART * whole[1]
    lines = []
    for share, points in curves.items():
        seconds = next((s for s, value in points if value is not None and value >= threshold), None)
        reached = f"never, in {points[-1][0]} s" if seconds is None else f"after {seconds} of {whole[0]} s"
        paper = f" (paper: after {PAPER_TUNING[share]:g} of 5 to 6 hours)" if share in PAPER_TUNING else ""
        lines.append(
            f"{share:.0%} of the data: {threshold:.0f} % emotion accuracy, the part of the final "
            f"{whole[1]:.0f} % that the best method before EAT has of EAT's in the paper, is reached {reached}{paper}."
        )
    ends = [points[-1][1] for points in curves.values()]
    if all(end is not None for end in ends):
        growing = all(a < b for a, b in pairwise(ends))
        reached = ", ".join(f"{share:.0%} at {end:.0f} %" for share, end in zip(curves, ends, strict=True))
        lines.append(f"More data ends {'higher' if growing else 'not always higher'}: {reached}.")
    return lines


def curves_of(result: Result, metric: str) -> dict[float, list[tuple[int, float | None]]]:
    """{share of data: (seconds of tuning, value) from the untuned network on}."""
    start = [(0, row["scores"].get(metric)) for row in result["rows"] if not row["training"]]
    curves: dict[float, list[tuple[int, float | None]]] = {}
    for row in result["rows"]:
        if row["training"]:
            point = row["training"]["emotion"]["seconds"], row["scores"].get(metric)
            curves.setdefault(row["share"], list(start)).append(point)
    return dict(sorted(curves.items()))


# Plots ----------------------------------------------------------------------------------------------------------------


def plot_bars(result: Result) -> Figure:
    """What the paper reports: ours above, the paper's below, for each metric."""
    metrics = paper_metrics(result)
    rows = [row for row in result["rows"] if row["paper"]]
    figure = Figure((1.2 + 3.4 * len(metrics), 5.6), layout="constrained")
    axes = figure.subplots(2, len(metrics), squeeze=False)
    for column, metric in enumerate(metrics):
        for axis, side, colour in ((axes[0, column], "scores", OURS), (axes[1, column], "paper", PAPER)):
            found = [(row["title"], row[side][metric]) for row in rows if row[side].get(metric) is not None]
            names, values = [name for name, _ in found], [value for _, value in found]
            bars = axis.bar(names, values, color=colour, width=0.6)
            axis.bar_label(bars, [describe_metric(metric).format(value) for value in values], fontsize=8)
            truth = result["ground_truth"].get(metric) if side == "scores" else None
            if truth is not None:
                axis.axhline(truth, color=TRUTH, linestyle="--", linewidth=1)
                axis.annotate(GROUND_TRUTH, (1, truth), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                              fontsize=8)  # fmt: skip
            if describe_metric(metric).unit == "dB" and values:  # differences drown in bars from zero
                axis.set_ylim(min(values) - 1, max(values) + 0.6)
            axis.set_title(f"{describe_metric(metric).title}, {'ours' if side == 'scores' else 'paper'}", fontsize=10)
            axis.tick_params(axis="x", labelsize=8, rotation=15)
            _clear(axis)
    return figure


def plot_curves(result: Result) -> Figure:
    """Scores against minutes of tuning, a line for each amount of data."""
    metrics = [key for key in metrics_of(result) if key.partition(" (")[0] in ("psnr", "sync_confidence", "acc_emo")]
    figure = Figure((1.2 + 3.6 * len(metrics), 3.4), layout="constrained")
    for axis, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for share, points in curves_of(result, metric).items():
            known = [(seconds / 60, value) for seconds, value in points if value is not None]
            axis.plot(*zip(*known, strict=True), marker="o", markersize=4, color=SHADES.get(share),
                      label=f"{share:.0%} of the data")  # fmt: skip
        truth = result["ground_truth"].get(metric)
        if truth is not None:
            axis.axhline(truth, color=TRUTH, linestyle="--", linewidth=1, label=GROUND_TRUTH)
        axis.set_title(describe_metric(metric).title, fontsize=10)
        axis.set_xlabel("minutes of tuning", fontsize=9)
        _clear(axis)
    figure.axes[-1].legend(fontsize=8, frameon=False)
    return figure


def plot_shares(result: Result) -> Figure:
    """Parts of the network in per cent, a panel for each size."""
    sizes = result["sizes"]
    figure = Figure((1.5 + 4.2 * len(sizes), 2.8), layout="constrained")
    for axis, (name, parts) in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes.items(), strict=True):
        total = sum(part["parameters"] for part in parts)
        values = [100 * part["parameters"] / total for part in parts]
        colours = [OURS if part["tuned"] else PAPER for part in parts]
        bars = axis.barh([PARTS[part["name"]] for part in parts], values, color=colours)
        axis.bar_label(bars, [f"{value:.2f} %" for value in values], padding=3, fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, max(values) * 1.25)
        added = sum(value for value, part in zip(values, parts, strict=True) if part["tuned"])
        axis.set_title(f"{name}: {total / 1e6:.1f} M parameters, {added:.2f} % of them added", fontsize=10)
        axis.tick_params(axis="y", labelsize=9)
        _clear(axis)
    return figure


PLOTS = {"figure5": plot_curves, "figure6": plot_shares}


def _clear(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def save_plot(figure: Figure, path: Path) -> None:
    """The same file for the same figure."""
    with matplotlib.rc_context({"svg.hashsalt": "eat_hf", "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None})
