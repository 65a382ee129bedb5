"""The paper's experiments: what would be run, that it is run once, and what is made of the results."""

import json
import re

import pytest

pytest.importorskip("matplotlib", reason="plots of experiments need matplotlib, of the extra `training`")
pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from eat_hf.errors import UserError  # noqa: E402
from eat_hf.evaluation.report.results import EvaluationReport, MethodResults, MetricValue, ProtocolResults  # noqa: E402
from eat_hf.evaluation.suite import Evaluation  # noqa: E402
from training.experiments import tables as experiments  # noqa: E402
from training.experiments.page import compare, plot_curves, write_results  # noqa: E402
from training.experiments.tables import EAT, Command, ExperimentOptions, Experiments, Model, Row, once  # noqa: E402
from training.loop.command_line import CONFIGS, Recipe  # noqa: E402

TRAINED = ["table3", "table4", "table5", "table6", "figure5"]


def rows_of(experiment, config="demo", **options):
    return getattr(Experiments(ExperimentOptions(experiment, **options), Recipe.load(config)), experiment)()


@pytest.mark.parametrize("config", [path.stem for path in CONFIGS.glob("*.yaml")])
@pytest.mark.parametrize("experiment", TRAINED)
def test_training_scripts_understand_every_command(experiment, config):
    rows = rows_of(experiment, config, steps=10)
    commands = {*experiments.trainings_of(rows), *(row.model.assembly for row in rows)}
    problems = {str(command): problem for command in commands if (problem := experiments.refused(command))}
    assert not problems


def test_variants_differ_in_what_is_compared_and_share_the_rest():
    trainings = experiments.trainings_of(rows_of("table5"))
    adaptations = [c.settings for c in trainings if c.module == "training.stage_2_emotion"]
    switches = [{n: v for n, v in a.items() if n in ("--prompts", "--edn", "--eam")} for a in adaptations]
    assert switches == [
        {"--prompts": "deep", "--edn": "false", "--eam": "false"},
        {"--prompts": "deep", "--edn": "true", "--eam": "false"},
        {},
    ]
    figure = rows_of("figure5")
    assert set(trainings) & set(experiments.trainings_of(figure)) == {trainings[-1]}
    ends = [row.model.links["emotion"].name for row in figure if row.share == 0.25 and "emotion" in row.model.links]
    assert ends == ["step_233", "step_466"] and figure[-1].model == rows_of("table5")[-1].model
    assert not [c for row in rows_of("table4", steps=7) for c in row.model.trainings if c.settings["--steps"] != "7"]


def test_losses_are_added_in_the_papers_order():
    found = []
    for row in rows_of("table6", perceptual_backbone="hed_vgg16=some/file"):
        options = row.model.trainings[-1].settings
        weights = {name: float(options.get(f"--{name}_weight", 1)) for name in ("perceptual", "latent", "sync", "face")}
        found.append([name for name, weight in weights.items() if weight])
        assert ("--sync_expert" in options) == ("sync" in found[-1])
        assert options["--perceptual_backbone"] == "hed_vgg16=some/file"
    losses = ["perceptual", "latent", "sync", "face"]
    assert found == [losses[:count] for count in (1, 2, 3, 4)]


def test_pipelines_take_the_latent_that_trainings_had(tmp_path):
    def links(experiment):
        return set(rows_of(experiment, runs=str(tmp_path))[0].model.links)

    assert links("table4") == {"detector", "estimator", "renderer", "speech", "pca", "a2et"}
    assert links("table3") == {"speech", "pca"}
    (tmp_path / "enhancement").mkdir()
    assert links("table4") == {"enhancement", "speech", "pca", "a2et"}


def test_once_does_it_once(tmp_path):
    folder, calls = tmp_path / "a", []
    once(folder, ["x"], lambda lock: calls.append(1))
    once(folder, ["x"], lambda lock: calls.append(2))
    assert calls == [1]
    with pytest.raises(UserError, match="was made with other options"):
        once(folder, ["y"], lambda lock: calls.append(3))


STAGE = """
import json, pathlib, sys, time
folder, waits = pathlib.Path(sys.argv[1]), sys.argv[2:]
with (folder.parent.parent / "log").open("a") as log:
    log.write(folder.parent.name + "/" + folder.name + " ")
print("It was Tuesday.")
if (folder.parent / "broken").exists():
    sys.exit(3)
end = time.time() + 30
while not all(pathlib.Path(other).exists() for other in waits):
    if time.time() > end:
        sys.exit("waited in vain")
    time.sleep(0.02)
record = {"steps": 5, "batch_size": 2, "seconds": 60, "device": "d"}
(folder / "results.json").write_text(json.dumps({"training": record}))
"""


@pytest.fixture
def variant(tmp_path, monkeypatch):
    """Makes models out of small scripts, which fail as long as there is a file `broken` in the model's folder."""
    (tmp_path / "small_stage.py").write_text(STAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shared = tmp_path / "runs" / "speech"
    shared.mkdir(parents=True)

    def make(name, waits_for=()):
        folder = tmp_path / "out" / name
        expert, emotion, pipeline = (
            Command("small_stage", at, (str(at), *map(str, waits)))
            for at, waits in (
                (tmp_path / "out" / "shared" / "expert", ()),
                (folder / "emotion", waits_for),
                (folder / "pipeline", ()),
            )  # fmt: skip
        )
        return Model((expert, emotion), {"speech": shared}, pipeline)

    return make


def test_a_failing_command_stops_with_what_it_said_and_the_rest_follows(variant, tmp_path):
    model = variant("a")
    model.folder.mkdir(parents=True)
    (model.folder / "broken").touch()
    with pytest.raises(UserError, match=r"small_stage .*emotion` ended with status 3 and said: It was Tuesday\."):
        experiments.make_models([model], 1)
    (model.folder / "broken").unlink()
    experiments.make_models([model], 1)
    experiments.make_models([model], 1)
    assert (tmp_path / "out" / "log").read_text().split() == ["shared/expert", "a/emotion", "a/emotion", "a/pipeline"]
    assert (model.folder / "speech").resolve() == tmp_path / "runs" / "speech"


def test_variants_are_trained_side_by_side_and_what_they_share_once(variant, tmp_path):
    out = tmp_path / "out"
    a, b = (variant(x, [out / y / "emotion" / "command.json"]) for x, y in ("ab", "ba"))  # each waits for the other
    experiments.make_models([a, b], 2)
    log = (out / "log").read_text().split()
    assert log[0] == "shared/expert" and sorted(log[1:3]) == ["a/emotion", "b/emotion"] and len(log) == 5


def test_a_row_is_measured_once(variant, tmp_path, monkeypatch):
    calls = []

    def evaluate(*args, name, **kwargs):
        calls.append(name)
        values = ProtocolResults({"psnr": MetricValue(21.0, 3), "acc_emo": MetricValue(60.0, 3)})
        truth = ProtocolResults({"acc_emo": MetricValue(90.0, 3)})
        methods = (MethodResults("ground truth", {"eat_official": truth}, ground_truth=None),
                   MethodResults(name, {"eat_official": values}))  # fmt: skip
        return Evaluation(EvaluationReport("t", methods, notes=("a note",)), ())

    monkeypatch.setattr(experiments, "evaluate", evaluate)
    monkeypatch.setattr(experiments, "generate", lambda *args: calls.append("videos"))
    monkeypatch.setattr(experiments, "copy_truth", lambda *args: None)
    options = ExperimentOptions("table5")
    row = Row("small", variant("a"), EAT, {"psnr": 20.0})
    first = experiments.run_experiment([row], [], options)
    assert first == experiments.run_experiment([row], [], options) and calls == ["videos", "small"]
    assert first["ground_truth"] == {"acc_emo": 90.0} and first["notes"] == ["a note"]
    line = first["rows"][0]
    assert line["scores"] == {"psnr": 21.0, "acc_emo": 60.0} and line["training"]["emotion"]["seconds"] == 60
    write_results(tmp_path, "table5", first | {"command": "c", "config": "demo", "seed": 0})
    assert "| small | 21.00 | 60.00 | 20.00 |" in (tmp_path / "README.md").read_text()


def line(title, paper, ours, **more):
    return {"title": title, "paper": {"psnr": paper}, "scores": {"psnr": ours}} | more


def test_order_is_compared_pair_by_pair():
    rows = [line("a", 1, 10), line("b", 2, 30), line("c", 3, 20), line("d", 3, 5)]
    assert compare(rows[:2], "psnr") == "PSNR: 1 of 1 pairs of lines in the paper's order."
    assert "2 of 3 pairs" in compare(rows[:3], "psnr") and "alone has b below c." in compare(rows[:3], "psnr")
    assert "nothing to compare" in compare(rows[2:], "psnr")  # alike in the paper
    assert "2 of 5" in compare(rows, "psnr")
    assert "nothing to compare" in compare([rows[0], line("b", 2, None)], "psnr")
    assert "0 of 1" in compare([line("a", 1, 7), line("b", 2, 7)], "psnr")


def results(experiment):
    """What an experiment with three lines might find."""
    rows = []
    for share, seconds, accuracy in ((0.0, 0, 20), (0.5, 60, 40), (0.5, 120, 50), (1.0, 60, 65), (1.0, 120, 80)):
        trained = {"emotion": {"steps": seconds, "batch_size": 8, "seconds": seconds, "device": "a CPU"}}
        scores = {"psnr": 20 + seconds / 60, "fd (dlib_resnet)": None, "sync_confidence": 1.5, "acc_emo": accuracy}
        rows.append({"title": f"{share} {seconds}", "method": "EAT", "share": share, "scores": scores, "rejected": 1,
                     "paper": {"psnr": 20.0, "acc_emo": 70 - accuracy} if seconds < 120 else {},
                     "training": trained if seconds else {}})  # fmt: skip
    truth = {"acc_emo": 90.0, "sync_confidence": 2.0}
    return {"command": f"python {experiment}", "config": "demo", "seed": 3, "commands": ["python -m one"],
            "perceptual_backbones": ["hed_vgg16"], "rows": rows,
            "ground_truth": truth, "clips": 4, "notes": ["note"]}  # fmt: skip


@pytest.mark.parametrize("experiment", TRAINED)
def test_page_and_plot_of_every_experiment(experiment, tmp_path):
    write_results(tmp_path, experiment, results(experiment))
    drawn = (tmp_path / f"{experiment}.png").read_bytes()
    assert drawn.startswith(b"\x89PNG") and 5_000 < len(drawn) < 60_000
    page = (tmp_path / "README.md").read_text()
    for expected in ("| ground truth |", "| 0.5 120 | 22.00 | – | 1.50 | 50.00 |", "5 generated clips", "python -m one",
                     f"({experiment}.png)", "seed 3", "- Emotion accuracy: 0 of 3 pairs",
                     "Perceptual loss: `hed_vgg16`, which stands in for VGG19."):  # fmt: skip
        assert expected in page
    for text in page.split("\n\n"):
        if text.startswith("| "):  # every line of a table has as many cells
            assert len({row.count("|") for row in text.splitlines()}) == 1


def test_curves_start_untuned_and_grow_with_time():
    panel = plot_curves(results("figure5")).axes[-1]  # emotion accuracy
    half, whole, truth = (line.get_xydata().tolist() for line in panel.lines)
    assert half == [[0, 20], [1, 40], [2, 50]] and whole == [[0, 20], [1, 65], [2, 80]] and truth[0][1] == 90


def test_figure_6_has_the_papers_share_and_stands_beside_what_there_was(tmp_path):
    write_results(tmp_path, "table4", results("table4"))
    experiments.run(ExperimentOptions("figure6", results=str(tmp_path)), Recipe.load("demo"), "the command")
    page = (tmp_path / "README.md").read_text()
    assert page.index("## Table 4") < page.index("## Figure 6")
    assert re.search(r"\| added by the adaptation \| 13,942,045 \| 6.96 \| .* \| 6.85 \|", page)
    assert "| deep prompts | 10,777,600 | 5.38 |" in page and "the paper's 6.85 %" in page
    sizes = json.loads((tmp_path / "figure6.json").read_text())["sizes"]
    never_run = 3_319_811  # classifiers of the release's pitch network, which conversion leaves out
    assert sum(part["parameters"] for part in sizes["official"]) + never_run == pytest.approx(203_507_375, rel=1e-4)


def test_dry_run_prints_commands_alone(tmp_path, capsys):
    options = ExperimentOptions("table4", output=str(tmp_path / "out"), results=str(tmp_path / "page"), dry_run=True)
    experiments.run(options, Recipe.load("demo"), "")
    lines = capsys.readouterr().out.splitlines()
    assert len([text for text in lines if text.startswith("python -m training.stage_2_emotion ")]) == 2
    assert not list(tmp_path.iterdir())


def test_missing_stages_are_named_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "refused", lambda command: "")
    options = ExperimentOptions("table4", output=str(tmp_path / "out"), runs=str(tmp_path / "runs"))
    with pytest.raises(UserError, match=r"runs/a2et, .*runs/detector.* must be trained first"):
        experiments.run(options, Recipe.load("demo"), "")
    assert not (tmp_path / "out").exists()


def test_the_table_comes_first_on_the_command_line(capsys):
    experiments.main(["table4", "--dry_run", "true", "--config", "smoke"])
    assert "--config smoke" in capsys.readouterr().out
    with pytest.raises(UserError, match="invalid choice: 'table9'"):
        experiments.main(["table9"])
