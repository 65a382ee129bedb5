"""What ships beside the code is found by its name, from any folder."""

from pathlib import Path

import pytest

from eat_hf.errors import UserError
from eat_hf.pipeline.bundled import MODEL_VARIABLE, find_model, known_emotions
from eat_hf.shipped import CHECKPOINTS, shipped, shipped_checkpoint


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_have_their_cards(name):
    assert (shipped_checkpoint(name) / "README.md").is_file()


@pytest.mark.parametrize("name", ["", ".", "eat-demo/words", "../checkpoints_card/eat-demo", "eat-demo\0", "x" * 5000])
def test_nothing_else_is_a_checkpoint(name):
    assert shipped_checkpoint(name) is None


def test_files_by_their_path_in_the_checkout():
    assert shipped("examples/speech.wav").stat().st_size > 10_000
    assert shipped("examples/there_is_none.wav") is None


def test_the_bundled_model_has_a_name():
    assert find_model("eat-demo") == find_model() == str(shipped_checkpoint("eat-demo"))
    assert "happy" in known_emotions(find_model("eat-demo"))


def test_a_folder_of_that_name_is_meant_where_there_is_one():
    Path("eat-demo").mkdir()
    with pytest.raises(UserError, match="eat-demo is not a model folder"):
        find_model("eat-demo")
    assert find_model() == str(shipped_checkpoint("eat-demo"))  # asked for no name, whatever lies around
    Path("eat-demo/model_index.json").write_text("{}")
    assert find_model("eat-demo") == "eat-demo"


def test_the_pipeline_comes_by_that_name():
    from eat_hf import EATPipeline

    pipeline = EATPipeline.from_pretrained("eat-demo")
    assert pipeline.base.name == "eat-demo" and pipeline.text_to_emotion is not None
