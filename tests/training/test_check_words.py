"""The check of emotions in words: what it takes for right, and a run from model and corpus to table and page."""

import json
import re

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from conftest import build_tiny_pipeline  # noqa: E402
from tiny_words import add_words, make_tiny_clip  # noqa: E402
from training_runs import run_main  # noqa: E402
from transformers import ResNetConfig, ResNetForImageClassification  # noqa: E402

from eat_hf.errors import UserError  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.corpus.captions import FRAMES_DOING, FRAMES_FEELING, FRAMES_HAVING, FRAMES_NOUN  # noqa: E402
from training.corpus.heads import ARKIT_NAMES  # noqa: E402
from training.experiments import text as check_words  # noqa: E402
from training.experiments.text import EXPRESSIONS, WordsCheckOptions, judge_change, wished  # noqa: E402


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_was_asked_for_is_right(expression):
    verdict = judge_change(wished(expression), expression)
    assert verdict["right"] and verdict["recognised"], verdict
    if expression != "neutral":
        assert verdict["moved"] == pytest.approx(1) and verdict["alike"] == pytest.approx(1)
        assert judge_change(0.9 * wished(expression), expression)["seen"] == expression
        nothing = judge_change(np.zeros(52), expression)
        assert not nothing["right"] and nothing["seen"] == "neutral"


def test_something_else_is_wrong():
    verdict = judge_change(wished("sad"), "happy")
    assert not verdict["right"] and verdict["seen"] == "sad" and verdict["alike"] < 0.3
    assert not judge_change(wished("happy"), "neutral")["right"]
    assert judge_change(0.1 * wished("happy"), "neutral")["right"]


def test_sentences_are_phrased_as_none_of_training():
    kinds = (FRAMES_DOING, FRAMES_FEELING, FRAMES_HAVING, FRAMES_NOUN)
    held_out = [frame.replace("{who}", "{}").split("{}") for frames in kinds for frame in frames["test"]]
    patterns = [".+".join(map(re.escape, pieces)).replace("an\\ ", "a\\ ") for pieces in held_out]
    for text, _ in EXPRESSIONS.values():
        assert any(re.fullmatch(pattern, text.replace(" an ", " a ")) for pattern in patterns), text


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(Plan(folder, 2, speech_clips=3, latent_clips=0, seed=3, frames_per_clip=12, range_frames=0),
                 workers=1, progress=False)  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["split"] = "test"
        line["text"] = line["text"] or "something"
        line["emotion"] = "neutral" if number % 3 == 0 else line["emotion"]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.slow
def test_from_model_and_corpus_to_table_and_page(corpus, tmp_path):
    build_tiny_pipeline().save_pretrained(tmp_path / "model")
    add_words(tmp_path / "model", make_tiny_clip())
    units = dict(enumerate(ARKIT_NAMES))
    ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", id2label=units)
    ).save_pretrained(tmp_path / "judge")
    arguments = ["--model", tmp_path / "model", "--corpus", corpus, "--unit_judge", tmp_path / "judge"]
    arguments += ["--people", 2, "--frames", 5, "--steps", 1, "--clips_per_emotion", 0]
    run_main(check_words, *arguments, "--output", tmp_path / "out")
    found = json.loads((tmp_path / "out/words.json").read_text())
    assert list(found["verdicts"]) == ["in words, at once", "in words, tuned"]
    for expressions in found["verdicts"].values():
        assert list(expressions) == list(EXPRESSIONS)
        assert all(len(people) == 2 for people in expressions.values())
    assert found["tuning"]["happy"]["steps"] == 1 and found["tuning"]["happy"]["seconds"] > 0
    assert 0 <= found["summary"]["in words, tuned"]["right_and_recognised"] <= 12
    adapter = json.loads((tmp_path / "out/adapters/crying_hard/adapter_config.json").read_text())
    assert adapter["emotions"] == ["crying hard in words"]
    assert Image.open(tmp_path / "out/words.png").size == (22 + 6 * 160, 22 + 12 * 160)
    with pytest.raises(UserError, match="people with neutral clips, not 9"):
        check_words.check_words(WordsCheckOptions(str(tmp_path / "model"), str(corpus), str(tmp_path / "judge"), 9))
