"""Every stage from one command: done steps are not done again, failed ones go on, other arguments are refused."""

import json

import pytest
import yaml

from eat_hf.errors import UserError
from training.loop.command_line import CONFIGS, Recipe
from training.release import train_all

STEPS = {
    "sheet": {"run": "corpus.pack_assets", "arguments": "--help"},
    "people": {
        "run": "corpus.build",
        "arguments": "--output {work}/people --identities 1 --speech-clips 0 --latent-clips 0 --range-frames 2",
    },
}


@pytest.fixture
def config(tmp_path):
    """A recipe of two short steps, as a file."""
    steps = [{"name": name, "minutes_cpu": 1, "minutes_gpu": 1, **step} for name, step in STEPS.items()]
    path = tmp_path / "two.yaml"

    def write(**changes) -> str:
        recipe = [step | {"arguments": changes.get(step["name"], step["arguments"])} for step in steps]
        path.write_text(yaml.safe_dump({"components": {}, "stages": {}, "recipe": recipe}))
        return str(path)

    return write


def test_every_step_once(config, tmp_path, capfd):
    work = tmp_path / "work"
    line = ["--work", str(work)]
    with pytest.raises(UserError, match="people ended with status 2"):
        train_all.main(["--config", config(people="--nonsense"), *line])
    done = json.loads((work / "steps.json").read_text())
    assert list(done) == ["sheet"] and done["sheet"]["command"] == ["-m", "training.corpus.pack_assets", "--help"]
    train_all.main(["--config", config(), *line])
    assert (work / "people" / "metadata.jsonl").read_text().count("\n") == 1
    made = (work / "people" / "corpus.json").stat().st_mtime_ns
    capfd.readouterr()
    train_all.main(["--config", config(), *line])
    assert (work / "people" / "corpus.json").stat().st_mtime_ns == made and "[" not in capfd.readouterr().out
    with pytest.raises(UserError, match="sheet in .* was done with other arguments"):
        train_all.main(["--config", config(sheet="--version"), *line])


def test_nothing_is_done_for_a_plan(config, tmp_path, capfd):
    train_all.main(["--config", config(), "--work", str(tmp_path / "work"), "--plan"])
    assert not (tmp_path / "work").exists() and "two cores" in capfd.readouterr().err
    with pytest.raises(UserError, match="smoke has no recipe"):
        train_all.main(["--config", "smoke", "--work", str(tmp_path / "work")])


def test_the_demo_recipe_names_scripts_and_runs_that_fit():
    steps = Recipe.load("demo").recipe
    made = set()
    for step in steps:
        script = CONFIGS.parent.joinpath(*step.run.split(".")).with_suffix(".py")
        assert script.is_file(), step.run
        words = train_all.arguments_of(step, train_all.AllOptions(work="w", ict_facekit="kit"))
        assert ("--ict-facekit" in words) == (step.run == "corpus.build")
        for option, value in zip(words, words[1:], strict=False):
            if option in ("--corpus", "--initial", "--model") and step.name != "reproduce":
                assert value.removeprefix("w/").split("/")[0] in made, (step.name, value)
            if option in ("--output", "--output_dir"):
                made.add(value.removeprefix("w/"))
    assert {"detector", "estimator", "renderer", "speech", "pca", "a2et", "emotion", "model"} <= made
