"""What is measured, by whom and by which rules: the words that reports, tables and pages share."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["higher", "lower", "near"]
ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓", "near": "≈"}
DIRECTIONS: dict[Better, str] = {
    "higher": "higher is better",
    "lower": "lower is better",
    "near": "best near the ground truth",
}
NOTHING = "–"  # shown where there is no value


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        key: its name in files.
        name: its name for people.
        unit: "" where there is none.
        better: which way is better; "near" the ground truth where both too much and too little are wrong.
        digits: decimals worth showing.
        explanation: one sentence.
        judge: role of the network that made it, a key of `EvaluationReport.judges`; None where no network did.
    """

    key: str
    name: str
    unit: str
    better: Better
    digits: int
    explanation: str
    judge: str | None = None

    @property
    def arrow(self) -> str:
        return ARROWS[self.better]

    @property
    def title(self) -> str:
        """The head of its column: name and direction."""
        return f"{self.name} {self.arrow}"

    def format(self, value: float | None) -> str:
        """The value with as many decimals as are worth showing, without its unit."""
        if value is None:
            return NOTHING
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{round(value, self.digits) + 0.0:.{self.digits}f}".replace("-", "−")


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric(
            "psnr", "PSNR", "dB", "higher", 2, "How close the pixels come to the real recording; exact copies are ∞."
        ),
        Metric("ssim", "SSIM", "", "higher", 3, "How alike the local structure of the pictures is; 1 is identical."),
        Metric(
            "fid",
            "FID",
            "",
            "lower",
            2,
            "How far generated pictures, taken together, lie from real ones in the eyes of an ImageNet network.",
            "features",
        ),
        Metric(
            "fd",
            "FD",
            "",
            "lower",
            4,
            "As FID, but in the eyes of another network; compare it within this report only.",
            "features",
        ),
        Metric(
            "perceptual",
            "Perceptual",
            "",
            "lower",
            3,
            "How different generated and real frames look to a picture network, from fine texture to coarse layout.",
            "perceptual",
        ),
        Metric(
            "sync_confidence",
            "Sync confidence",
            "",
            "higher",
            2,
            "How clearly lips and voice fit together at one offset rather than at others (LSE-C).",
            "synchrony",
        ),
        Metric(
            "sync_distance",
            "Sync distance",
            "",
            "lower",
            2,
            "How far apart lips and voice are at their best offset (LSE-D).",
            "synchrony",
        ),
        Metric(
            "sync_offset",
            "Sync offset",
            "frames",
            "near",
            2,
            "By how many frames lips and voice must be shifted to fit best; all videos of one camera share a value.",
            "synchrony",
        ),
        Metric(
            "m_lmd",
            "M-LMD",
            "px",
            "lower",
            2,
            "Mean distance of the 20 mouth landmarks from those of the real recording: the shape of the mouth.",
            "faces",
        ),
        Metric(
            "f_lmd",
            "F-LMD",
            "px",
            "lower",
            2,
            "Mean distance of all 68 face landmarks from those of the real recording: expression and head pose.",
            "faces",
        ),
        Metric(
            "acc_emo",
            "Emotion accuracy",
            "%",
            "higher",
            2,
            "Share of clips in which the judge sees the emotion that was asked for (Acc_emo).",
            "emotion",
        ),
        Metric(
            "csim",
            "Identity",
            "",
            "higher",
            3,
            "Cosine similarity of the face descriptors of generated and real frames: is it the same person (CSIM)?",
            "identity",
        ),
        Metric(
            "border_jitter",
            "Border jitter",
            "/255",
            "lower",
            3,
            "Mean change from frame to frame at the border of the picture, where nothing should move.",
        ),
        Metric(
            "landmark_jitter",
            "Landmark jitter",
            "px",
            "near",
            3,
            "Mean acceleration of nose and eye corners: trembling if too high, a frozen head if too low.",
            "faces",
        ),
    )
}

ROLES: dict[str, tuple[str, str]] = {
    "faces": ("Face tracker", "finds the face and its 68 landmarks in every frame; all crops follow from it"),
    "synchrony": ("Lip-sync judge", "was trained to tell whether lips and voice belong together"),
    "emotion": ("Emotion judge", "was trained to name the emotion in a clip of a face"),
    "features": ("Picture statistics", "turns pictures into the features whose distributions FID or FD compares"),
    "perceptual": ("Perceptual network", "compares two pictures layer by layer, from texture to layout"),
    "identity": ("Face recogniser", "describes whose face it is, whatever its expression"),
}

PROTOCOLS: dict[str, tuple[str, str]] = {
    "eat_official": (
        "Protocol of the paper",
        "Faces are aligned to a mean face and cropped to 128×128; frames of all clips are pooled. Compare these "
        "numbers with those that the EAT paper reports.",
    ),
    "standard": (
        "Standard protocol",
        "Whole frames without alignment, faces tracked for lip-sync; every clip is averaged first and counts alike. "
        "Compare these numbers with other papers.",
    ),
}


def describe_metric(key: str) -> Metric:
    """What a metric's key means; "fd (dlib_resnet)" is "fd" as made by the network in brackets.

    Raises:
        ValueError: nothing is known about it.
    """
    base, bracket, backbone = key.partition(" (")
    if base not in METRICS:
        raise ValueError(f"Unknown metric {key!r}; there are {', '.join(METRICS)}.")
    metric = METRICS[base]
    return replace(metric, key=key, name=f"{metric.name} ({backbone}") if bracket else metric


def in_order(keys: Iterable[str], known: Iterable[str]) -> list[str]:
    """Keys in the order of the table, others after them; each once."""
    ranks = {key: rank for rank, key in enumerate(known)}
    return sorted(set(keys), key=lambda key: (ranks.get(key.partition(" (")[0], len(ranks)), key))
