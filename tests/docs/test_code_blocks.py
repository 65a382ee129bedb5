"""Every block of code in the pages is run as it stands, or its arguments are checked, where a comment says why.

A page's blocks are run in their order, in one folder that has what they name: me.jpg, voice.wav and examples/. The
commands of pip, make, accelerate and the training scripts are only understood, by their own parsers.
"""

import importlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import create_autospec

import click
import numpy as np
import pytest
import scipy.io.wavfile
import typer
import yaml
from huggingface_hub import SpaceCard
from packaging.specifiers import SpecifierSet
from PIL import Image
from tiny_voice_emotion import save_classifier

import eat_hf
from eat_hf.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CARDS = [ROOT / "training/README.md", *sorted((ROOT / "checkpoints_card").rglob("README.md"))]
DATA = ("csv", "bibtex", "yaml", "slurm")
RUN = (
    "generate",
    "learn-emotion",
    "info",
    "detect-watermark",
)  # the commands that end by themselves, without more files
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<note>[^\n]*) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
APP = PROJECT["optional-dependencies"]["app"]


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    note: str  # why it cannot be run as it stands, or ""

    @property
    def commands(self):
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page):
    for found in BLOCK.finditer(page.read_text()):
        text = "".join(line[len(found["indent"]) :] for line in found["text"].splitlines(keepends=True))
        yield Block(found["kind"], text, found["note"] or "")


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_known_kinds(page):
    for block in blocks(page):
        assert block.kind in ("python", "bash", *DATA), block
        assert not block.note or re.match("parsed only: .|the Hub$|a server: http://", block.note), block
    assert page.read_text().count("```") == 2 * len(list(blocks(page)))


class Understood(Exception):
    pass


def understand_training(words, monkeypatch):
    script = importlib.import_module(words[0])
    reader = "parse_options" if hasattr(script, "parse_options") else "read_options"
    read = getattr(script, reader)

    def stop_there(*arguments):
        read(*arguments)
        raise Understood

    monkeypatch.setattr(script, reader, stop_there)
    with pytest.raises(Understood):
        script.main(words[1:])


def understand_eat_hf(words):
    command = typer.main.get_command(cli.command_line())
    command.commands[words[0]].make_context(words[0], list(words[1:]))


def understand(words, monkeypatch):
    """Have a command's own parser read its arguments, without running it."""
    match words:
        case ["eat-hf", *rest]:
            understand_eat_hf(rest)
        case ["python", "-m", script, *rest] if script.startswith("training."):
            understand_training([script, *rest], monkeypatch)
        case ["accelerate", "launch", *rest]:
            from accelerate.commands.launch import launch_command_parser

            launched = launch_command_parser().parse_args(rest)
            assert launched.module
            if launched.training_script == "eat_hf.cli":
                understand_eat_hf(launched.training_script_args)
            else:
                understand_training([launched.training_script, *launched.training_script_args], monkeypatch)
        case ["pip", "install", *rest]:
            rest = [word for n, word in enumerate(rest) if "-c" not in (word, rest[n - 1])]
            for word in rest:
                extras = re.fullmatch(r"-e|\.(?:\[([\w,]+)\])?", word)
                assert extras and set(filter(None, (extras[1] or "").split(","))) <= set(
                    PROJECT["optional-dependencies"]
                )
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
        case ["hf", *rest]:
            from huggingface_hub.cli.hf import app as command

            while hasattr(command, "get_command"):
                command = command.get_command(click.Context(command), rest[0])
                rest = rest[1:]
            command.make_context("hf", rest)
        case ["git", "push", address, "HEAD:main"]:
            assert address.startswith("https://huggingface.co/spaces/")
        case _:
            pytest.fail(f"Nobody knows how to check {shlex.join(words)}")


COMMANDS = {tuple(words) for page in PAGES + CARDS for b in blocks(page) if b.kind == "bash" for words in b.commands}


@pytest.mark.parametrize("words", sorted(COMMANDS), ids=lambda words: shlex.join(words)[:60])
def test_commands_are_understood(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    understand(list(words), monkeypatch)
    assert not list(tmp_path.iterdir())


def test_the_clusters_script_starts_what_is_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    [script] = [b.text for b in blocks(ROOT / "docs/training.md") if b.kind == "slurm"]
    [command] = re.findall(r"srun bash -c '(.*)'", script.replace("\\\n", " "), re.S)
    for name, value in {"$((SLURM_NNODES * 8))": "16", "$SLURM_NNODES": "2", "$SLURM_NODEID": "1"}.items():
        command = command.replace(name, value)
    understand(shlex.split(command), monkeypatch)


def test_a_spaces_front_matter_is_the_hubs():
    """Of the README, and what the page about Spaces adds to it."""
    card = SpaceCard.load(ROOT / "README.md")
    data = card.data.to_dict()
    assert (data["sdk"], data["app_file"], data["license"]) == ("gradio", "app.py", "apache-2.0")
    assert data["sdk_version"] in SpecifierSet(next(r for r in APP if r.startswith("gradio")).removeprefix("gradio"))
    assert len(data["short_description"]) <= 60  # or the Hub refuses the push
    [more] = [yaml.safe_load(b.text) for b in blocks(ROOT / "docs/space.md") if b.kind == "yaml"]
    assert more["models"] == more["preload_from_hub"]


def test_what_is_wrong_is_not_understood(monkeypatch):
    for line in (
        "eat-hf generate --imagine me.jpg",
        "eat-hf generation",
        "python -m training.stage_1b_pca --corpsus corpus --output_dir runs",
        "accelerate launch -m training.stage_2_emotion --adaptor smirk",
        "pip install '.[everything]'",
        "make coffee",
        "rm -r corpus",
    ):
        with pytest.raises((Exception, pytest.fail.Exception)):
            understand(shlex.split(line), monkeypatch)


@pytest.fixture
def stand_ins(monkeypatch):
    """Of what needs the Hub, a compiler or a server: they take the arguments that the real ones take, and no others."""
    from eat_hf import app

    loaded = create_autospec(eat_hf.EATPipeline, instance=True)
    kind = create_autospec(eat_hf.EATPipeline)
    kind.from_pretrained.return_value = loaded
    monkeypatch.setattr(eat_hf, "EATPipeline", kind)
    monkeypatch.setattr(eat_hf, "TransformersSpeechEncoder", create_autospec(eat_hf.TransformersSpeechEncoder))
    for name in ("build_app", "launch"):
        monkeypatch.setattr(app, name, create_autospec(getattr(app, name)))
    return {"pipe": loaded, "microphone": [(np.zeros(800), 16000)], "show": print}


NOTED = [
    b for page in PAGES for b in blocks(page) if b.kind == "python" and b.note and not b.note.startswith("a server")
]


@pytest.mark.parametrize("block", NOTED, ids=lambda block: block.note)
def test_calls_that_are_not_made_fit_what_is_there(block, stand_ins):
    pytest.importorskip("gradio", reason="the page needs the extra eat_hf[app]")
    exec(block.text, stand_ins)
    assert stand_ins["pipe"].mock_calls or "build_app" in block.text


@pytest.fixture
def folder(portrait, recording_file, tmp_path, monkeypatch):
    """What the pages name. Recordings last half a second."""
    Image.fromarray(portrait).save(tmp_path / "me.jpg")
    shutil.copy(recording_file, tmp_path / "voice.wav")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    rate, samples = scipy.io.wavfile.read(ROOT / "examples" / "speech.wav")
    scipy.io.wavfile.write(tmp_path / "examples" / "speech.wav", rate, samples[rate : rate + rate // 2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


WITH_CODE = [
    page for page in PAGES if any(b.kind == "python" or b.commands for b in blocks(page) if b.kind not in DATA)
]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.name == "README.md" else pytest.mark.slow, id=name_of(page))
        for page in WITH_CODE
    ],
)
def test_the_page_runs_as_it_stands(page, folder):
    if "hears_emotions" in page.read_text():
        save_classifier(folder / "hears_emotions")
    before, names = set(folder.iterdir()), {}
    for block in blocks(page):
        if block.kind == "csv" and block.text.startswith("image,"):
            (folder / "jobs.csv").write_text(block.text)
        if block.note:
            continue
        if block.kind == "python":
            exec(block.text, names)
        elif block.kind == "bash":
            for command in block.commands:
                if command[0] == "eat-hf" and command[1] in RUN:
                    cli.main(command[1:])
    videos = [path for path in set(folder.iterdir()) - before if path.suffix == ".mp4"]
    assert all(video.stat().st_size > 5000 for video in videos)
    # of tables, that of jobs alone names what is made
    made = [b for b in blocks(page) if not b.note and (b.kind != "csv" or b.text.startswith("image,"))]
    text = "\n".join(b.text for b in made)
    assert {video.name for video in videos} == {
        *re.findall(r"[\w]+\.mp4", text),
        *(["out.mp4"] if page.name == "README.md" else []),
    }


@pytest.mark.slow
def test_programs_call_the_page(folder, tiny_model):
    pytest.importorskip("gradio", reason="the page needs the extra eat_hf[app]")
    [block] = [b for b in blocks(ROOT / "docs/space.md") if b.note.startswith("a server")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "eat_hf.cli", "app", "--model", str(tiny_model), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        address = next(found.group() for line in process.stdout if (found := re.search(r"http://\S+", line)))
        named = block.note.removeprefix("a server: ")
        assert named in block.text and urllib.request.urlopen(address, timeout=60).status == 200
        names = {}
        exec(block.text.replace(named, address), names)
        assert "EATPipeline" in names["code"] and str(names["video"]).count(".mp4")
    finally:
        process.terminate()
        process.wait()


def test_the_readme_takes_a_minute():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert yaml.safe_load(text.split("---\n")[1])["app_file"] == "app.py"


WITH_LINKS = [
    *PAGES,
    ROOT / "SECURITY.md",
    ROOT / "examples/README.md",
    *CARDS,
    ROOT / "checkpoints_card/eat-demo/BENCHMARK.md",
]


def headings(page):
    """A page's anchors as GitHub and mkdocs make them: they agree on headings of words and spaces."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.S | re.M)
    titles = [re.sub(r"[^\w\s-]", "", title.lower()).strip() for title in re.findall(r"^#+ (.+)$", text, re.M)]
    return {re.sub(r"\s", "-", title) for title in titles}


def repository(page, root=ROOT):
    """The folder that goes to the Hub with the page: a checkpoint's own, or the whole checkout."""
    inside = page.relative_to(root).parts
    return root.joinpath(*inside[:2]) if inside[0] == "checkpoints_card" else root


def lost_links(page, root=ROOT):
    links = re.findall(r"\]\(([^()\s]+)\)", page.read_text())
    for path, anchor in (link.partition("#")[::2] for link in links if not re.match("https?://", link)):
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(repository(page, root))
        if not there or anchor and anchor not in headings(target):
            yield f"{path}#{anchor}"


@pytest.mark.parametrize("page", WITH_LINKS, ids=name_of)
def test_links_lead_somewhere(page):
    assert not list(lost_links(page))


def test_links_that_lead_nowhere_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n[here](#a-page) [there](#else) ![](none.png) [](page.md#a-page) [](page.md#b)\n")
    assert list(lost_links(page, tmp_path)) == ["#else", "none.png#", "page.md#b"]


def test_a_cards_links_stay_in_its_repository(tmp_path):
    for name in ("ours", "other"):
        card = tmp_path / "checkpoints_card" / name / "README.md"
        card.parent.mkdir(parents=True)
        card.write_text("[mine](README.md) [of another repository](../other/README.md)\n")
    ours, other = (tmp_path / "checkpoints_card" / name / "README.md" for name in ("ours", "other"))
    assert list(lost_links(ours, tmp_path)) == ["../other/README.md#"] and not list(lost_links(other, tmp_path))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert "Efficient Emotional Adaptation" in citation["preferred-citation"]["title"]


@pytest.mark.slow
def test_the_pages_become_a_site_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the pages need the extra eat_hf[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    assert "learn_emotion" in reference and "paste_back" in reference
