"""Every script of training: its help, and what becomes of mistakes on its command line."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import training
from eat_hf.errors import UserError
from training.corpus.build import BuildOptions
from training.loop.command_line import parse_options, read_options
from training.loop.options import LoopOptions

pytest.importorskip("matplotlib", reason="plots of experiments need matplotlib, of the extra `training`")

MODULES = [module.name for module in pkgutil.walk_packages(training.__path__, "training.") if not module.ispkg]
SCRIPTS = [name for name in MODULES if hasattr(importlib.import_module(name), "main")]


def test_the_stages_are_among_the_scripts():
    stages = ("1a_latent", "1a_renderer", "1a_enhancement", "1b_pca", "1b_speech", "1b_a2et", "2_emotion")
    assert {f"training.stage_{name}" for name in stages} < set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_every_option_is(name, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(name).main(["--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0 and said.startswith("usage: ")
    options = [line for line in said[said.index("options:") :].splitlines() if line.startswith("  -")]
    assert len(options) >= 2  # --help and one more


def write_config(folder, section):
    path = folder / "own.yaml"
    path.write_text(f"components: {{}}\nstages: {{speech: {section}}}\n")
    return str(path)


def test_defaults_then_the_config_then_the_command_line(tmp_path):
    config = write_config(tmp_path, "{steps: 7, batch_size: 3, betas: [0.5, 0.9], output_dir: there, clip_norm: .inf}")
    options, recipe = parse_options(
        LoopOptions, "speech", ["--config", config, "--steps", "9", "--betas", "0.1", "0.2"]
    )
    assert (options.steps, options.batch_size, options.warmup_steps) == (9, 3, 50)
    assert (options.betas, options.output_dir, options.clip_norm) == ((0.1, 0.2), "there", float("inf"))
    assert recipe.name == config
    assert parse_options(LoopOptions, "latent", ["--config", config, "--stage", "speech"])[0].batch_size == 3


@pytest.mark.parametrize(
    "section, arguments, message",
    [
        ("{}", [], "arguments are required: .*--output_dir"),
        ("{output_dir: out}", ["--step", "3"], "Unrecognized arguments: --step 3"),
        ("{output_dir: out}", ["--steps", "many"], "--steps.*: invalid int value: 'many'"),
        ("{output_dir: out}", ["--report_to", "paper"], "--report_to.*invalid choice: 'paper'"),
        ("{output_dir: out, steps: many}", [], "--steps.*: invalid int value: 'many'"),
        ("{output_dir: out, row: 3}", [], "sets row, which stage 'speech' lacks"),
        ("{}", ["--stage", "flight"], "has no stage 'flight', only speech"),
        (
            "{}",
            ["--config", "demmo"],
            "There is no config demmo; give a YAML file or one of demo, official, official_hubert, smoke",
        ),
    ],
)
def test_mistakes_are_named(section, arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        parse_options(LoopOptions, "speech", ["--config", write_config(tmp_path, section), *arguments])


@pytest.mark.parametrize("dash", "-_")
def test_words_of_an_option_may_have_either_dash_between_them(dash):
    options = read_options(BuildOptions, f"--output x --latent{dash}clips 4 --judge --splits test train".split())
    assert (options.latent_clips, options.judge, options.splits) == (4, True, ("test", "train"))
    assert not read_options(BuildOptions, ["--output", "x", "--judge", "false"]).judge


def test_a_mistake_is_one_line_and_status_2():
    command = [sys.executable, "-m", "training.corpus.build", "--output", "nowhere", "--identities", "few"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: Argument --identities: invalid int value: 'few'; --help shows what there is.\n"
