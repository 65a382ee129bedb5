import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import skimage.data
from PIL import Image

from eat_hf.errors import UserError
from eat_hf.evaluation.metrics.described import METRICS, ROLES, describe_metric
from eat_hf.evaluation.report.charts import draw_distributions
from eat_hf.evaluation.report.page import Figure, render_page, write_page
from eat_hf.evaluation.report.results import (
    GROUND_TRUTH,
    ClipResult,
    EmotionScores,
    EvaluationReport,
    Judge,
    MethodResults,
    MetricValue,
    ProtocolResults,
    RejectedClip,
    SyncCurve,
    Tuning,
    merge,
)
from eat_hf.evaluation.report.tables import markdown_table, terminal_table
from eat_hf.media.pictures import frame_strip
from eat_hf.models.parameters import ParameterShare

HOSTILE = "<script>alert('x')</script>&\"[bold]|`*.mp4"
CLASSES = ("happy", "neutral", "sad")


def make_method(name, psnr, rejected=(), **values):
    """Three clips, one of them a perfect copy."""
    clips = [
        ClipResult(
            clip,
            emotion,
            {"eat_official": {"psnr": value, "sync_confidence": 5 + value / 10}},
            frames=40 + i,
            frames_without_face=i,
            predicted_emotion="happy",
        )
        for i, (clip, emotion, value) in enumerate(
            [("b", "sad", psnr), (HOSTILE, "happy", psnr + 1.5), ("c", "neutral", psnr - 2)]
        )
    ]
    metrics = {
        "psnr": MetricValue(psnr, 3),
        "fd (dlib_resnet)": MetricValue(0.123456789, 3, "stand-in <b>"),
        "acc_emo": MetricValue(100 / 3, 3),
        "sync_offset": MetricValue(values.pop("offset", -2), 3),
    }
    curve = SyncCurve(tuple(range(3, -4, -1)), tuple(12.0 - (o == -2) * 6 for o in range(3, -4, -1)))
    return MethodResults(
        name,
        {"eat_official": ProtocolResults(metrics, curve), "standard": ProtocolResults({"psnr": MetricValue(psnr, 3)})},
        tuple(clips),
        tuple(RejectedClip(*clip) for clip in rejected),
        EmotionScores(CLASSES, ((1, 0, 0), (1, 0, 0), (1, 0, 0))),
        **values,
    )


def make_report(**changes):
    parts = (ParameterShare("RePos-Net", 900), ParameterShare("EDN <x>", 100, tuned=True))
    content = {
        "title": f"Report of {HOSTILE}",
        "methods": (
            make_method(
                "EAT", 21.75, [(HOSTILE, "no face was found")], parameters=parts, tuning=Tuning(0.5, "a <CPU>")
            ),
            make_method(GROUND_TRUTH, math.inf, ground_truth=None),
            make_method("A2ET [x]", 20.0, offset=1),
        ),
        "judges": {"synchrony": Judge("SyncNet", "a/<folder>", standard=False, note="trained & tested here")},
        "versions": {"torch": "2.13.0", "eat_hf": "0.2.0"},
        "commands": (f"eat-hf evaluate --reference '{HOSTILE}'",),
        "seed": 0,
        "notes": ("FID could not be measured <offline>",),
    }
    return EvaluationReport(**(content | changes))


@pytest.fixture(scope="module")
def report():
    return make_report()


class Page(HTMLParser):
    """What a browser would make of the page: tags, their attributes and their text; every tag must be closed."""

    VOID = {"meta", "input", "br", "img"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


@pytest.fixture(scope="module")
def page(report):
    return Page(render_page(report))


# The report itself ---------------------------------------------------------------------------------------------------


def test_a_report_comes_back_from_its_file(report, tmp_path):
    report.save(tmp_path / "report.json")
    assert EvaluationReport.load(tmp_path / "report.json") == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_file_does_not_depend_on_order_or_on_the_last_digits(report):
    shuffled = []
    for method in reversed(report.methods):
        protocols = {
            name: replace(results, metrics=dict(reversed(results.metrics.items())))
            for name, results in reversed(method.protocols.items())
        }
        shuffled.append(replace(method, protocols=protocols, clips=tuple(reversed(method.clips))))
    truth, *others = sorted(shuffled, key=lambda method: [m.name for m in report.methods].index(method.name))
    other = replace(report, methods=(*others, truth), versions=dict(reversed(report.versions.items())))
    assert other.to_json() == report.to_json()
    assert MetricValue(0.1 + 0.2, 1) == MetricValue(0.3, 1)


def test_numbers_that_json_cannot_hold(report):
    method = MethodResults(
        "m",
        {"standard": ProtocolResults({"psnr": MetricValue(np.inf, 1), "ssim": MetricValue(np.float32("nan"), 0)})},
        (ClipResult("c", "", {"standard": {"psnr": np.inf, "ssim": np.nan, "csim": np.float32(0.5)}}, 3),),
    )
    text = EvaluationReport("t", (method,)).to_json()
    assert '"psnr": "inf"' in text and '"ssim": null' in text and "NaN" not in text and "Infinity" not in text
    back = EvaluationReport.from_json(text).methods[0]
    assert back.value("standard", "psnr").value == math.inf
    assert back.value("standard", "ssim") == MetricValue(None, 0, "could not be measured")
    assert back.clips[0].values == {"standard": {"psnr": math.inf, "ssim": None, "csim": 0.5}}
    assert back.clip_values("standard", "psnr") == []  # no axis reaches infinity


def test_the_file_explains_itself(report):
    text = report.to_json()
    assert METRICS["psnr"].explanation in text and '"better": "higher"' in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[1]", "eat-hf evaluate"),
        ('{"a": 1}', "eat-hf evaluate"),
        ('{"eat_hf_evaluation": 2}', "format 2"),
        ('{"eat_hf_evaluation": 1, "report": {"title": "x"}}', "damaged at methods"),
        ('{"eat_hf_evaluation": 1, "report": null}', "damaged"),
    ],
)
def test_other_files_are_refused_with_a_reason(text, words, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        EvaluationReport.load(path)
    assert "x.json" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_written(report, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        EvaluationReport.load(tmp_path / "absent.json")
    with pytest.raises(UserError, match="Cannot write"):
        report.save(tmp_path / "absent" / "report.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="Cannot write"):
        write_page(report, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]  # nothing unfinished is left


def test_every_metric_is_explained():
    for key, metric in METRICS.items():
        assert metric.key == key and metric.explanation.endswith((".", "?")) and metric.name
        assert metric.judge is None or metric.judge in ROLES
    assert describe_metric("fd (dlib_resnet)").name == "FD (dlib_resnet)"
    assert describe_metric("fd (dlib_resnet)").better == "lower"
    with pytest.raises(ValueError, match="psnr"):
        ProtocolResults({"beauty": MetricValue(1, 1)})


def test_values_are_shown_with_what_digits_they_deserve():
    psnr = METRICS["psnr"]
    shown = [psnr.format(value) for value in (21.756, math.inf, -math.inf, None, -0.001, -2)]
    assert shown == ["21.76", "∞", "−∞", "–", "0.00", "−2.00"]


def test_emotion_scores():
    scores = EmotionScores(CLASSES, np.array([[3, 1, 0], [0, 0, 0], [0, 1, 0]]))
    assert scores.accuracy == 60 and scores.clips == 5
    assert scores.recall == {"happy": 75, "neutral": None, "sad": 0}
    assert EmotionScores(CLASSES, [[0] * 3] * 3).accuracy is None
    with pytest.raises(ValueError, match="3 emotions"):
        EmotionScores(CLASSES, [[1, 2], [3, 4]])


def test_the_best_method(report):
    assert report.best("eat_official", "psnr") == {"EAT"}  # not the ground truth
    assert report.best("eat_official", "sync_offset") == {"EAT"}  # nearest to the ground truth
    assert report.best("eat_official", "acc_emo") == set()  # all alike
    alone = replace(report, methods=report.methods[:2])
    assert alone.best("eat_official", "psnr") == set()


def test_order_of_methods_protocols_and_metrics(report):
    assert [method.name for method in report.methods] == [GROUND_TRUTH, "EAT", "A2ET [x]"]
    assert report.protocols == ["eat_official", "standard"]
    names = [metric.key for metric in report.metrics("eat_official")]
    assert names == ["psnr", "fd (dlib_resnet)", "sync_offset", "acc_emo"]
    with pytest.raises(ValueError, match="different names"):
        replace(report, methods=report.methods[:1] * 2)


def test_merging(report):
    truth, eat, a2et = report.methods
    first, second = replace(report, methods=(truth, eat)), replace(report, methods=(truth, a2et), commands=("two",))
    merged = merge([first, second], "Table 1")
    assert merged.methods == report.methods and merged.title == "Table 1" and merged.seed == 0
    assert merged.commands == (*first.commands, "two") and merged.notes == report.notes

    with pytest.raises(UserError, match="'EAT'"):
        merge([first, first])
    with pytest.raises(UserError, match="same judges"):
        merge([first, replace(second, judges={"synchrony": Judge("other")})])
    with pytest.raises(UserError, match="no report"):
        merge([])


def test_merging_keeps_ground_truths_that_differ_apart(report):
    truth, eat, a2et = report.methods
    fewer = replace(truth, clips=truth.clips[:2])
    merged = merge([replace(report, methods=(truth, eat)), replace(report, methods=(fewer, a2et), seed=1)])
    assert [m.name for m in merged.methods] == ["ground truth (EAT)", "ground truth (A2ET [x])", "EAT", "A2ET [x]"]
    assert [len(merged.ground_truth_of(method).clips) for method in merged.methods[2:]] == [3, 2]
    assert merged.seed is None


# Tables --------------------------------------------------------------------------------------------------------------


def test_terminal_table(report):
    text = terminal_table(report, width=100)
    assert max(map(len, text.splitlines())) <= 100 and "\x1b" not in text
    lines = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert re.split(r"\s{2,}", lines["↑ PSNR, dB"].strip()) == ["↑ PSNR, dB", "∞", "21.75", "20.00"]
    assert "FD (dlib_resnet): stand-in <b> (ground truth, EAT, A2ET [x])" in text
    assert "EAT: 1 of 4 clips rejected" in text and f"{HOSTILE}: no face was found" in text
    assert "A2ET [x]" in text  # square brackets are not markup
    assert "\x1b[1m" in terminal_table(report, width=100, colour=True)


def test_markdown_table(report):
    lines = markdown_table(report, "eat_official").splitlines()
    assert lines[0].startswith("|  | PSNR (dB) ↑ | FD (dlib_resnet) ↓ |") and lines[0].endswith("| clips |")
    assert lines[1] == "| :-- | --: | --: | --: | --: | --: |"
    assert lines[3] == "| EAT | **21.75** | 0.1235 | **−2.00** | 33.33 | 3 |"
    assert lines[4].startswith("| A2ET \\[x\\] | 20.00 |")
    with pytest.raises(ValueError, match="eat_official"):
        markdown_table(report, "mine")


# The page ------------------------------------------------------------------------------------------------------------


def test_nothing_on_the_page_comes_from_elsewhere(page):
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{}]  # the one of the template: no name became another
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_page_has_no_address(report):
    text = render_page(report)
    assert "://" not in text and "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}  # places on the page itself


def test_links_lead_somewhere(page):
    places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert links and links <= places


def test_hostile_names_are_text(report, page):
    assert "<script>alert" not in render_page(report) and "<b>stand-in" not in render_page(report)
    assert f"Report of {HOSTILE}" in page.text and f"--reference '{HOSTILE}'" in page.text
    assert "a <CPU>" in page.text and "EDN <x>" in page.text and "a/<folder>" in page.text


def test_the_page_shows_what_was_found(page):
    for words in (
        "21.75",
        "∞",
        "PSNR",
        METRICS["psnr"].explanation,
        "no face was found",
        "EAT: 1 of 4 clips",
        "Seed 0",
    ):
        assert words in page.text
    assert "trained & tested here" in page.text and "trains 10.00 % of the network" in page.text
    assert "FID could not be measured <offline>" in page.text and "30 min" in page.text
    labels = [attributes["aria-label"] for _, attributes in page.tags if attributes.get("role") == "img"]
    # the curve of one protocol; PSNR and lip-sync of the clips of the other, where the same is known
    assert labels == [
        "Mean distance of lips and voice by offset",
        "PSNR of every clip, by method",
        "Sync confidence of every clip, by method",
    ]


def drawn(report, protocol="standard"):
    """The charts of one protocol's clips; methods are coloured m0, m1 and so on."""
    colours = {method.name: f"m{i}" for i, method in enumerate(report.methods)}
    return draw_distributions(report, protocol, colours)


def dots(svg):
    """[(x, y, colour)] of a chart's dots."""
    found = [attributes for tag, attributes in Page(svg).tags if tag == "use" and "fill:" in attributes["style"]]
    return [(float(a["x"]), float(a["y"]), re.search(r"fill: var\(--(\w+)\)", a["style"])[1]) for a in found]


def test_every_clip_is_a_dot_in_its_methods_colour(report):
    psnr, sync = drawn(report, "eat_official")
    assert [chart.metric.key for chart in (psnr, sync)] == ["psnr", "sync_confidence"]
    assert psnr.medians == (("EAT", 21.75), ("A2ET [x]", 20.0))  # the ground truth's are infinite
    places = {colour: sorted(x for x, _, own in dots(psnr.svg) if own == colour) for colour in ("m1", "m2")}
    assert len(dots(psnr.svg)) == 6 and len(dots(sync.svg)) == 6
    # both have clips 2 below and 1.5 above their own, and lie 1.75 apart: so do the dots
    unit = (places["m1"][1] - places["m2"][1]) / 1.75
    for xs in places.values():
        assert np.diff(xs) == pytest.approx([2 * unit, 1.5 * unit], rel=1e-4)


def test_charts_wear_the_colours_of_the_page(report):
    text = render_page(report)
    style = text[: text.index("</style>")]
    used = set(re.findall(r"var\(--(\w+)\)", "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))))
    assert {"ink", "quiet", "grid", "truth", "m0", "m1"} <= used
    assert all(style.count(f"--{name}: #") == 2 for name in used)  # in the light and in the dark
    assert "#ab00" not in text


def test_the_page_is_the_same_every_time(report):
    assert render_page(report) == render_page(EvaluationReport.from_json(report.to_json()))


def test_pages_of_little(report):
    method = MethodResults("m", {"standard": ProtocolResults({"psnr": MetricValue(None, 0)})})
    assert "could not be measured" in Page(render_page(EvaluationReport("t", (method,)))).text
    Page(render_page(EvaluationReport("t", ())))
    Page(render_page(replace(report, methods=report.methods[:1])))
    one = ClipResult("c", "", {"standard": {"psnr": 20.0}}, 1)
    text = Page(render_page(EvaluationReport("t", (replace(method, clips=(one,)),)))).text
    assert "of 1 clip." in text and "Worst" not in text  # a single clip is neither


def test_figures(report, tmp_path):
    frames = np.stack([np.roll(skimage.data.astronaut(), 20 * i, 1) for i in range(9)])
    strip = frame_strip(frames, columns=3, side=32)
    picture = np.asarray(Image.open(io.BytesIO(strip))).astype(float)
    assert picture.shape == (32, 96, 3)
    expected = [Image.fromarray(frames[i]).resize((32, 32), Image.Resampling.LANCZOS) for i in (0, 4, 8)]
    errors = [[np.abs(tile - np.asarray(e)).mean() for e in expected] for tile in np.split(picture, 3, axis=1)]
    assert np.argmin(errors, axis=1).tolist() == [0, 1, 2] and np.diag(errors).max() < 15  # JPEG is not exact

    rows = ((GROUND_TRUTH, strip), ("EAT", strip))
    path = write_page(report, tmp_path / "page.html", [Figure(HOSTILE, rows, "worst <PSNR>"), Figure("c", rows)])
    page = Page(path.read_text(encoding="utf-8"))
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 4 and all(src.startswith("data:image/jpeg;base64,") for src in pictures)
    assert "worst <PSNR>" in page.text and "left out" not in page.text


def test_figures_stop_before_the_page_is_too_heavy(report):
    heavy = Figure("c", (("EAT", bytes(1_000_000)),))
    text = render_page(report, [heavy] * 5)
    assert len(text) < 5_000_000 and text.count("<img") == 2 and "3 more are left out" in text


def test_charts_of_thousands_of_clips_stay_light():
    values = np.random.default_rng(0).normal(21, 2, 2001)
    clips = tuple(ClipResult(f"{i}", "", {"standard": {"psnr": value}}, 1) for i, value in enumerate(values))
    method = MethodResults("m", {"standard": ProtocolResults({"psnr": MetricValue(21, 2001)})}, clips)
    (chart,) = drawn(EvaluationReport("t", (method,)))
    assert len(dots(chart.svg)) == 400
    assert chart.medians == (("m", pytest.approx(np.median(values), abs=1e-6)),)  # of all, not of those shown


def test_equal_values_stand_side_by_side():
    clips = tuple(ClipResult(f"{i}", "", {"standard": {"psnr": 20.0}}, 1) for i in range(3))
    method = MethodResults("m", {"standard": ProtocolResults({"psnr": MetricValue(20, 3)})}, clips)
    (chart,) = drawn(EvaluationReport("t", (method,)))
    places = dots(chart.svg)
    assert len({x for x, _, _ in places}) == 1 and len({y for _, y, _ in places}) == 3
