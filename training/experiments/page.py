"""How results of `training.experiments.tables` are shown: tables beside the paper's, how far their orders agree,
plots, one page."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eat_hf.evaluation.judges.backbones import NETWORKS
from eat_hf.evaluation.metrics.described import METRICS, NOTHING, describe_metric, in_order
from eat_hf.evaluation.report.results import GROUND_TRUTH
from eat_hf.media.files import write_atomically

# as in the paper's tables; the distance of distributions is FID or what stands in for it
COLUMNS = ("psnr", "ssim", "fid", "fd", "sync_confidence", "m_lmd", "f_lmd", "acc_emo")
OURS, PAPER = "#4063d8", "#b8b8b8"
DPI = 80
EXPERIMENTS = {
    "table3": (
        "Table 3: the latent, with and without enhancement",
        "OSFV is trained like the enhanced latent, but with a deformation prior (5) and on whole pictures rather than "
        "the face region. The paper's numbers stand beside frames rendered from the latents of the real frames: they "
        "exceed what its whole method reaches in Table 5, which speech alone could not. Later stages learn from the "
        "corpus' own labels in both cases. With the config `demo` both begin with networks that exact labels taught, "
        "and 80 steps move them little: where the two are alike, that says nothing about the paper.",
    ),
    "table4": (
        "Table 4: prompts",
        "Without EDN and EAM. Without prompts nothing is adapted: that line is A2ET as stage 1 left it.",
    ),
    "table5": ("Table 5: parts of the adaptation", "Every line adds a part to the line before."),
    "table6": (
        "Table 6: losses of the adaptation",
        "Every line adds a loss to the line before. With the config `demo` stage 1 is in sync already (the first line "
        "of Table 4), so that the sync loss has little to win, where the paper's gains most from it. In few steps "
        "pictures alone teach little emotion; latents show it directly, and further terms compete with them.",
    ),
    "figure5": (
        "Figure 5: quality against tuning time and data",
        "One run for each share of the emotional clips. Points before the last of a curve are averaged networks that "
        "the run kept on its way, at a high learning rate still, for one schedule spans its whole length. Time is that "
        "of training alone. In the paper tuning takes 5 to 6 hours, and EAT passes all other methods after 2 hours "
        "with 25 % of the data, after 1 hour with 50 %.",
    ),
    "figure6": (
        "Figure 6: parameters that the adaptation adds",
        "The frozen network is RePos-Net, the keypoint detector and A2ET, as the paper counts. The release's A2ET "
        "holds 3.3 M more, the classifiers of its pretrained pitch network, which EAT never runs and conversion leaves "
        "out; with those the share at the official size is the paper's 6.85 %.",
    ),
}
PARTS = {  # of the network: title, and per cent in the paper
    "repos_net": ("RePos-Net", None),
    "keypoint_detector": ("keypoint detector", None),
    "a2et": ("A2ET", None),
    "emotion_mapper": ("deep prompts", 5.30),
    "edn": ("EDN", 1.17),
    "EAM": ("EAM", 0.38),
}

Result = dict[str, Any]


def write_results(folder: Path, experiment: str, result: Result) -> None:
    """The JSON and the plot of an experiment, and the page anew, with all experiments that the folder has."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{experiment}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    plot = {"figure5": plot_curves, "figure6": plot_shares}.get(experiment, plot_bars)
    plot(result).savefig(folder / f"{experiment}.png", dpi=DPI)
    found = {name: json.loads(path.read_text()) for name in EXPERIMENTS if (path := folder / f"{name}.json").exists()}
    write_atomically(folder / "README.md", page(found))
    print(f"{folder / 'README.md'}, {experiment}.json and {experiment}.png are written.")


# Page -----------------------------------------------------------------------------------------------------------------


def page(results: dict[str, Result]) -> str:
    """The whole page, Markdown."""
    parts = [
        "# The paper's experiments",
        "Made by `training.experiments.tables`; do not edit. Numbers of the paper were measured on MEAD, with other "
        "judges and networks many times larger: compare the order of lines, not the values. Every line is one run "
        "with one seed, so small differences may be chance.",
    ]
    for name, result in results.items():
        title, about = EXPERIMENTS[name]
        parts += [f"## {title}", about]
        if name == "figure6":
            parts.append(share_table(result["sizes"]))
        else:
            parts += [score_table(result), measured_on(result)]
            parts.append("\n".join(f"- {compare(result['rows'], metric)}" for metric in paper_metrics(result)))
        parts += [f"![{title}]({name}.png)", how(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: list[str], lines: list[list[str]]) -> str:
    """A GitHub table; the first column is text."""
    rows = [head, [":--", *["--:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def score_table(result: Result) -> str:
    """Scores, then the paper's."""
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


def metrics_of(result: Result) -> list[str]:
    """Keys of the table's columns."""
    found = {key for row in result["rows"] for key in row["scores"] if key.partition(" (")[0] in COLUMNS}
    return in_order(found, COLUMNS)


def paper_metrics(result: Result) -> list[str]:
    """Keys of what the paper's table has."""
    return in_order({key for row in result["rows"] for key in row["paper"]}, METRICS)


def measured_on(result: Result) -> str:
    """Clips and judges."""
    sentences = [f"{result['clips']} clips of the test split.", *result["notes"]]
    rejected = sum(row["rejected"] for row in result["rows"])
    if rejected:
        sentences.append(f"{rejected} generated clips could not be scored and are left out.")
    for name in result["perceptual_backbones"]:
        stand_in = name in NETWORKS and not NETWORKS[name].standard
        sentences.append(f"Perceptual loss: `{name}`{', which stands in for VGG19' if stand_in else ''}.")
    return " ".join(sentences)


def compare(rows: list[Result], metric: str) -> str:
    """How many pairs of lines come in the paper's order, and which do not; pairs alike in the paper do not count."""
    described = describe_metric(metric)
    known = [row for row in rows if metric in row["paper"] and row["scores"].get(metric) is not None]
    pairs, wrong = 0, []
    for pair in combinations(known, 2):
        low, high = sorted(pair, key=lambda row: row["paper"][metric])
        if low["paper"][metric] < high["paper"][metric]:
            pairs += 1
            if low["scores"][metric] >= high["scores"][metric]:
                wrong.append(f"{low['title']} below {high['title']}")
    if not pairs:
        return f"{described.name}: nothing to compare."
    apart = f"; the paper alone has {', '.join(wrong)}" if wrong else ""
    return f"{described.name}: {pairs - len(wrong)} of {pairs} pairs of lines in the paper's order{apart}."


def share_table(sizes: dict[str, list[Result]]) -> str:
    """Parameters of every part, at every size, and the paper's share."""
    head = ["", *(f"{name}, {unit}" for name in sizes for unit in ("parameters", "%")), "%, paper"]
    added = sum(paper for _, paper in PARTS.values() if paper)
    groups = [(title, {key}, paper) for key, (title, paper) in PARTS.items()]
    groups += [("added by the adaptation", {k for k, (_, paper) in PARTS.items() if paper}, added)]
    groups += [("all", set(PARTS), 100.0)]
    lines = []
    for title, keys, paper in groups:
        cells = [title]
        for parts in sizes.values():
            count = sum(part["parameters"] for part in parts if part["name"] in keys)
            cells += [f"{count:,}", f"{100 * count / sum(part['parameters'] for part in parts):.2f}"]
        lines.append([*cells, f"{paper:.2f}" if paper else NOTHING])
    return table(head, lines)


def how(result: Result) -> str:
    """Commands, seconds, devices, seeds."""
    parts = [f"`{result['command']}` (config `{result['config']}`, seed {result['seed']})"]
    trained = [
        [row["title"], stage, *(str(record[key]) for key in ("steps", "batch_size", "seconds", "device"))]
        for row in result.get("rows", [])
        for stage, record in row["training"].items()
    ]
    if trained:
        parts.append(table(["", "trained", "steps", "batch", "seconds", "device"], trained))
    if result.get("commands"):
        parts.append("```bash\n" + "\n".join(result["commands"]) + "\n```")
    text = "\n\n".join(parts)
    return f"<details><summary>How it was made</summary>\n\n{text}\n\n</details>"


# Plots ----------------------------------------------------------------------------------------------------------------


def plot_bars(result: Result) -> Figure:
    """What the paper reports: ours above, the paper's below, for each metric."""
    metrics = paper_metrics(result)
    rows = [row for row in result["rows"] if row["paper"]]
    figure = Figure((1.2 + 3.4 * len(metrics), 5.0), layout="constrained")
    axes = figure.subplots(2, len(metrics), squeeze=False)
    for column, metric in enumerate(metrics):
        described = describe_metric(metric)
        for axis, side, colour in ((axes[0, column], "scores", OURS), (axes[1, column], "paper", PAPER)):
            found = [(row["title"], row[side][metric]) for row in rows if row[side].get(metric) is not None]
            names, values = [name for name, _ in found], [value for _, value in found]
            axis.margins(y=0.12)  # or numbers would stand on the frame
            axis.bar_label(axis.bar(names, values, color=colour, width=0.6), list(map(described.format, values)))
            if side == "scores":
                draw_truth(axis, result, metric)
            if described.unit == "dB" and values:  # differences drown in bars from zero
                axis.set_ylim(min(values) - 1, max(values) + 0.6)
            axis.set_title(f"{described.title}, {'ours' if side == 'scores' else 'paper'}", fontsize=10)
            axis.tick_params(axis="x", labelsize=8, rotation=15)
    return figure


def plot_curves(result: Result) -> Figure:
    """Scores against minutes of tuning, a line for each amount of data, from the untuned network on."""
    metrics = [key for key in metrics_of(result) if key in ("psnr", "sync_confidence", "acc_emo")]
    figure = Figure((1.2 + 3.6 * len(metrics), 3.4), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        for share in sorted({row["share"] for row in result["rows"] if row["training"]}):
            points = [
                (row["training"]["emotion"]["seconds"] / 60 if row["training"] else 0, row["scores"][metric])
                for row in result["rows"]
                if row["share"] == share or not row["training"]
            ]
            known = [point for point in points if point[1] is not None]
            axis.plot(*zip(*known, strict=True), marker="o", alpha=share, color=OURS, label=f"{share:.0%} of the data")
        draw_truth(axis, result, metric)
        axis.set_title(describe_metric(metric).title, fontsize=10)
        axis.set_xlabel("minutes of tuning")
    axes[-1].legend(fontsize=8)
    return figure


def draw_truth(axis: Axes, result: Result, metric: str) -> None:
    """The score of the real videos, if they have one."""
    if result["ground_truth"].get(metric) is not None:
        axis.axhline(result["ground_truth"][metric], color="black", linestyle="--", linewidth=1, label=GROUND_TRUTH)


def plot_shares(result: Result) -> Figure:
    """Parts of the network in per cent, a panel for each size."""
    sizes = result["sizes"]
    figure = Figure((1.5 + 4.2 * len(sizes), 2.8), layout="constrained")
    for axis, (name, parts) in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes.items(), strict=True):
        total = sum(part["parameters"] for part in parts)
        values = [100 * part["parameters"] / total for part in parts]
        colours = [OURS if part["tuned"] else PAPER for part in parts]
        bars = axis.barh([PARTS[part["name"]][0] for part in parts], values, color=colours)
        axis.bar_label(bars, fmt="%.2f %%", padding=3)
        axis.invert_yaxis()
        axis.set_xlim(0, max(values) * 1.3)
        axis.set_title(f"{name}: {total / 1e6:.1f} M parameters", fontsize=10)
    return figure
