"""Results by groups of people, and where the Hub reads results."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from huggingface_hub import ModelCard

from eat_hf.evaluation.report.results import ClipResult, EvaluationReport, MethodResults
from eat_hf.hub.cards import with_results
from training.corpus.looks import DARK_SKIN, LIGHT_SKIN
from training.experiments.groups import group_table, groups_of
from training.experiments.reproduce import results_of

CARD = Path(__file__).resolve().parents[2] / "checkpoints_card" / "eat-demo"


def person(tone, age, female, glasses=None, beard=None):
    look = SimpleNamespace(tone=tuple(tone), glasses=glasses, beard=beard)
    return SimpleNamespace(look=look, attributes={"age": age, "female": female})


def test_people_are_of_one_group_of_each_kind():
    assert groups_of(person(LIGHT_SKIN, 0.1, 1)) == ["skin: light", "age: young", "women", "no glasses", "no beard"]
    assert groups_of(person(DARK_SKIN, 0.8, 0, "round", "full")) == [
        "skin: dark",
        "age: old",
        "men",
        "glasses",
        "beard",
    ]
    middle = np.mean([LIGHT_SKIN, DARK_SKIN], 0)
    assert groups_of(person(middle, 0.4, 0.2))[:2] == ["skin: middle", "age: middle"]


def test_a_row_a_group():
    def clip(name, psnr, seen):
        return ClipResult(name, "happy", {"standard": {"psnr": psnr, "csim": None}}, 8, predicted_emotion=seen)

    clips = (clip("a1", 20.0, "happy"), clip("a2", 22.0, "sad"), clip("b1", 30.0, "happy"))
    groups = {0: ["men", "glasses"], 1: ["women", "glasses"]}
    rows = group_table(MethodResults("EAT", {}, clips), "standard", {"a1": 0, "a2": 0, "b1": 1}, groups).splitlines()
    assert rows[0].startswith("| group | people | clips | PSNR (dB)") and rows[1].count("|") == rows[0].count("|")
    assert rows[2:] == [
        "| glasses | 2 | 3 | 24 | – | – | – | 67 |",
        "| men | 1 | 2 | 21 | – | – | – | 50 |",
        "| women | 1 | 1 | 30 | – | – | – | 100 |",
    ]


def test_the_bundled_card_has_its_results_where_the_hub_reads_them():
    text = (CARD / "README.md").read_text()
    report = EvaluationReport.from_json((CARD / "measured.json").read_text())
    metrics, dataset = results_of(report)
    card = ModelCard(text)  # refuses a model-index that the Hub could not read
    assert card.data.model_name == "eat-demo" and card.data.license == "cc0-1.0"
    assert {result.metric_name: result.metric_value for result in card.data.eval_results} == metrics
    assert {result.dataset_name for result in card.data.eval_results} == {dataset}
    assert metrics["PSNR (dB)"] > 20 and f"| {metrics['PSNR (dB)']:.2f} |" in card.text
    fresh = with_results(text, metrics, dataset)
    assert fresh == text  # the same again changes nothing
    changed = ModelCard(with_results(text, {"PSNR (dB)": 1.0}, "others")).data
    assert [(r.metric_value, r.dataset_name) for r in changed.eval_results] == [(1.0, "others")]
