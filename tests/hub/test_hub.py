"""Pipelines and folders on their way to the Hub and back: the real client in processes of its own, over real HTTP."""

import ast
import json
import os
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from conftest import build_tiny_pipeline
from hub_server import Blob, Hub, Repository, run, usage
from huggingface_hub import ModelCard

from eat_hf.errors import RepositoryError, UserError
from eat_hf.hub.cards import adapter_card, base_card
from eat_hf.hub.client import fetch_folder
from eat_hf.models.parameters import parameter_shares

LICENCE = "cc0-1.0"


# defines `commands`: [status, stdout, stderr] of one command line after another; a traceback fails the process
COMMANDS = """
import contextlib, io, json, sys

def commands(lines):
    from eat_hf.cli import main as cli
    results = []
    for arguments in lines:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main(arguments)
                status = 0
            except SystemExit as exit:
                status = exit.code
        results.append([status, out.getvalue(), err.getvalue()])
    return results
"""


def one_sentence(result, words: str) -> None:
    status, out, err = result
    assert status == 2 and out == "" and len(err.splitlines()) == 1, result
    assert err.startswith("eat-hf: ") and re.search(words, err), err


@pytest.fixture(scope="module")
def hub():
    hub = Hub()
    for name in ("ann", "bob"):
        hub.add_user(name)
    yield hub
    hub.close()


# Pipelines -----------------------------------------------------------------------------------------------------------

PUSH = """
import json, sys
from eat_hf import EATPipeline
from eat_hf.errors import UserError

pipe = EATPipeline.from_pretrained(sys.argv[1])
addresses = [
    pipe.push_to_hub("tiny", private=True, license="cc0-1.0"),
    pipe.push_to_hub("ann/open", private=False),
]
pipe.repos_net.decoder.to_rgb.weight.data.zero_()
addresses.append(pipe.push_to_hub("ann/tiny", revision="dark/1"))
refused = []
for repo_id, options in (
    ("ann/open", {"private": True}), ("bob/tiny", {}), ("ann/open", {"token": "hf_bob"}),
    ("ann/open", {"token": False}), ("ann/open", {"token": "hf_nobody"}), ("not a name", {}),
):
    try:
        pipe.push_to_hub(repo_id, **options)
    except UserError as error:
        refused.append([str(error), isinstance(error, OSError), type(error.__cause__).__name__])
print(json.dumps([addresses, refused]))
"""

LOAD = (
    COMMANDS
    + """
import numpy as np
from eat_hf import EATPipeline
from eat_hf.errors import UserError

usage, lines = sys.argv[1], json.loads(sys.argv[2])
refused = []
for repo_id, options in (
    ("ann/tiny", {"token": False}), ("ann/tiny", {"token": "hf_bob"}), ("ann/tiny", {"revision": "v9"}),
    ("ann/tiny", {"token": "hf_nobody"}), ("ann/none", {}), ("bob/gated", {}), ("ann/notes", {}),
):
    try:
        EATPipeline.from_pretrained(repo_id, **options)
    except UserError as error:
        refused.append([str(error), isinstance(error, OSError), type(error.__cause__).__name__])
exec(usage)  # of the card
dark = EATPipeline.from_pretrained("ann/tiny", revision="dark/1")
for name, pipe in {"main": pipe, "dark": dark}.items():
    np.save(f"{name}.npy", pipe("portrait.png", "speech.wav", emotion="happy", generator=0).frames)
print(json.dumps([refused, commands(lines)]))
"""
)


@pytest.fixture(scope="module")
def pushed(hub, tiny_model, tmp_path_factory):
    """What happened when a process of Ann pushed the tiny pipeline; her repositories are there from then on."""
    return run(PUSH, hub.client_environment(tmp_path_factory.mktemp("ann"), "hf_ann"), tiny_model)


@dataclass
class Loaded:
    """What a process with a clean cache did with Ann's repositories.

    Attributes:
        folder: where it worked.
        home: its cache.
        refused: what `from_pretrained` said to ids that it must not or cannot load.
        commands: what became of command lines.
    """

    folder: Path
    home: Path
    refused: list
    commands: list


@pytest.fixture(scope="module")
def loaded(hub, pushed, portrait_file, recording_file, tmp_path_factory):
    hub.repositories["bob/gated"] = replace(hub.repositories["ann/open"], gated=True)
    hub.repositories["ann/notes"] = Repository()
    hub.repositories["ann/notes"].commit("main", {"README.md": Blob(b"# Notes\n", large=False)})
    folder, home = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("clean")
    (folder / "portrait.png").symlink_to(portrait_file)
    (folder / "speech.wav").symlink_to(recording_file)
    generate = ["generate", "--image", "portrait.png", "--audio", "speech.wav", "-o", "none.mp4", "--model"]
    lines = [[*generate, "ann/none"], [*generate, "bob/gated"]]
    environment = hub.client_environment(home, "hf_ann")
    return Loaded(folder, home, *run(LOAD, environment, usage(card_of(hub)), json.dumps(lines), folder=folder))


def card_of(hub: Hub) -> str:
    """The card that the tiny pipeline was pushed with."""
    tiny = hub.repositories["ann/tiny"]
    return tiny.commits[tiny.references["main"]]["README.md"].content.decode()


def test_a_pipeline_is_pushed_with_its_card(hub, pushed, tiny_model):
    (first, public, branch), _ = pushed
    assert first.startswith(f"{hub.endpoint}/ann/tiny/commit/") and branch != first
    tiny = hub.repositories["ann/tiny"]
    assert tiny.private and not hub.repositories["ann/open"].private
    assert set(tiny.references) == {"main", "dark/1"} and tiny.references["main"] in first
    files = tiny.commits[tiny.references["main"]]
    saved = {path.relative_to(tiny_model).as_posix() for path in tiny_model.rglob("*") if path.is_file()}
    assert set(files) == saved | {"README.md", ".gitattributes"}
    weights = "a2et/diffusion_pytorch_model.safetensors"
    assert files[weights].content == (tiny_model / weights).read_bytes()
    assert "license: cc0-1.0" in card_of(hub) and 'from_pretrained("ann/tiny")' in card_of(hub)


def test_a_push_that_must_not_be_is_one_sentence(pushed):
    sentences, are_oserrors, causes = zip(*pushed[1], strict=True)
    public, stranger, no_right, no_token, unknown, no_name = sentences
    assert all(are_oserrors) and all("\n" not in sentence for sentence in sentences)
    assert "exists and is public" in public
    assert "bob/tiny" in stranger and "hf auth login" in stranger and causes[1] == "HfHubHTTPError"
    assert "You may not write ann/open" in no_right and "hf auth login" in no_token
    assert "does not accept the token" in unknown and "OWNER/NAME" in no_name


def test_the_card_on_the_hub_stays(hub, pushed, tiny_model, tmp_path):
    repository = hub.repositories["ann/tiny"]
    edited = {**repository.commits[repository.references["main"]], "README.md": Blob(b"# Mine\n", large=False)}
    repository.commit("edited", edited)
    (tmp_path / "README.md").write_text("# New\n")
    (tmp_path / "notes.json").write_text("{}")
    program = """
import json, sys
from eat_hf.hub.client import push_folder
push_folder(sys.argv[1], "ann/tiny", revision="edited", keep_card=True)
push_folder(sys.argv[1], "ann/tiny", revision="again")
print("0")
"""
    run(program, hub.client_environment(tmp_path / "home", "hf_ann"), tmp_path)
    assert repository.commits[repository.references["edited"]]["README.md"].content == b"# Mine\n"
    assert repository.commits[repository.references["edited"]]["notes.json"].content == b"{}"
    assert repository.commits[repository.references["again"]]["README.md"].content == b"# New\n"


def test_a_private_pipeline_loads_by_id_with_a_token(loaded, tiny_pipeline, portrait_file, recording_file, hub):
    expected = tiny_pipeline(portrait_file, recording_file, emotion="happy", generator=0).frames
    main, dark = (np.load(loaded.folder / f"{name}.npy") for name in ("main", "dark"))
    assert np.abs(main.astype(int) - expected).max() <= 1 and main.std() > 10
    assert dark.shape == main.shape and dark.std() < main.std() / 2
    # tokens go to the Hub alone
    assert all(request.token is None for request in hub.log if request.host == "localhost")
    assert any(request.host == "localhost" for request in hub.log)


def test_a_load_that_cannot_be_is_one_sentence(loaded):
    sentences, are_oserrors, causes = zip(*loaded.refused, strict=True)
    anonymous, stranger, revision, unknown, missing, gated, notes = sentences
    assert all(are_oserrors) and all("\n" not in sentence for sentence in sentences)
    for sentence in (anonymous, stranger):
        assert "neither a folder nor a Hub repository ann/tiny" in sentence and "hf auth login" in sentence
    assert "ann/tiny has no revision v9" in revision and causes[2] == "RevisionNotFoundError"
    assert "does not accept the token" in unknown
    assert "neither a folder nor a Hub repository ann/none" in missing and causes[4] == "RepositoryNotFoundError"
    assert re.search("bob/gated is gated: ask for access at http.*/bob/gated", gated) and causes[5] == "GatedRepoError"
    assert "ann/notes is not a model of eat_hf: it has no model_index.json" in notes


def test_the_command_line_says_it_in_one_line(loaded):
    missing, gated = loaded.commands
    one_sentence(missing, "Hub repository ann/none that you may see")
    one_sentence(gated, "bob/gated is gated")
    assert not (loaded.folder / "none.mp4").exists()


def test_the_lines_on_the_base_card_run(loaded):
    with av.open(loaded.folder / "out.mp4") as video:
        frames = sum(1 for _ in video.decode(video=0))
        assert frames > 1 and video.streams.audio and float(video.streams.video[0].average_rate) == 25


def test_offline_the_cache_is_enough(hub, loaded):
    asked = len(hub.log)
    program = COMMANDS + "\nprint(json.dumps(commands([['info', 'ann/tiny'], ['info', 'ann/open']])))"
    cached, missing = run(program, hub.client_environment(loaded.home, HF_HUB_OFFLINE="1"))
    assert cached[0] == 0 and "emotions: angry" in cached[1] and "licence: cc0-1.0" in cached[1], cached
    one_sentence(missing, "ann/open is not in the cache .* HF_HUB_OFFLINE")
    assert len(hub.log) == asked


def test_without_a_network_the_cache_is_enough(hub, loaded):
    program = """
import json
from eat_hf.errors import UserError
from eat_hf.hub.client import fetch_folder
found = str(fetch_folder("ann/tiny", ["model_index.json"]))
try:
    fetch_folder("ann/open")
except UserError as error:
    print(json.dumps([found, str(error)]))
"""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        environment = hub.client_environment(loaded.home) | {
            "HF_ENDPOINT": f"http://127.0.0.1:{unused.getsockname()[1]}"
        }
        found, error = run(program, environment)
    assert (Path(found) / "model_index.json").is_file() and str(loaded.home) in found
    assert "cannot be reached for ann/open" in error and "\n" not in error


# Folders -------------------------------------------------------------------------------------------------------------

FETCH = """
import json, sys
from eat_hf.errors import UserError
from eat_hf.hub.client import fetch_folder
try:
    folder = fetch_folder("ann/large", ["*.npy", "*.txt"], subfolder="part", max_workers=1)
    print(json.dumps([str(folder), ""]))
except UserError as error:
    print(json.dumps(["", str(error)]))
"""


def test_an_interrupted_download_is_taken_up_again(hub, tmp_path):
    large = np.random.default_rng(0).bytes(13_000_000)
    files = {"part/a.txt": Blob(b"a", False), "part/b.npy": Blob(large, True), "c.txt": Blob(b"c", False)}
    hub.large_files[files["part/b.npy"].oid] = large
    hub.repositories["ann/large"] = Repository()
    hub.repositories["ann/large"].commit("main", files)
    environment = hub.client_environment(tmp_path, "hf_ann")

    hub.break_download("part/b.npy", after=0, times=100)  # the connection stays lost
    folder, error = run(FETCH, environment)
    assert folder == "" and "cannot be reached for ann/large" in error and "what has arrived is kept" in error
    assert _downloads(hub, "part/a.txt") == [None]

    hub.break_download("part/b.npy", after=11_000_000)  # the next time it is lost once, in the middle
    folder, error = run(FETCH, environment)
    assert error == "" and (Path(folder) / "b.npy").read_bytes() == large
    assert sorted(os.listdir(folder)) == ["a.txt", "b.npy"] and not (Path(folder).parent / "c.txt").exists()
    assert _downloads(hub, "part/a.txt") == [None]  # not a second time
    (start,) = re.fullmatch(r"bytes=(\d+)-", _downloads(hub, f"storage/{files['part/b.npy'].oid}")[-1]).groups()
    assert int(start) > 10_000_000


def _downloads(hub: Hub, path: str) -> list[str | None]:
    """Ranges that were asked for."""
    return [request.range for request in hub.log if request.method == "GET" and request.path.endswith(path)]


def test_a_place_on_this_machine(tmp_path):
    (tmp_path / "part").mkdir()
    assert fetch_folder(tmp_path) == tmp_path
    assert fetch_folder(tmp_path, subfolder="part") == tmp_path / "part"
    with pytest.raises(RepositoryError, match="has no folder other"):
        fetch_folder(tmp_path, subfolder="other")
    with pytest.raises(UserError, match="neither a folder nor the name of a repository"):
        fetch_folder(tmp_path / "none")


# Cards ---------------------------------------------------------------------------------------------------------------

ADAPTER = {
    "emotions": ["smirk"],
    "base_model": "ann/tiny",
    "base_parameters": 1000,
    "training": {"clips": 5, "steps": 300},
}
MEASURED = {"Emotion accuracy (%)": 87.5, "PSNR (dB)": 26.125}


def test_cards_say_what_the_hub_asks_for():
    pipeline = build_tiny_pipeline()
    options = {"license": LICENCE, "metrics": MEASURED, "dataset": "made-up clips", "samples": ["samples/sad.png"]}
    base = base_card(pipeline.emotions, parameter_shares(pipeline.components), "ann/tiny", **options)
    adapter = adapter_card(ADAPTER, "ann/smirk", parameters=50, **options)
    for content in (base, adapter):
        card = ModelCard(content)  # refuses a model-index that the Hub could not read
        assert (card.data.library_name, card.data.pipeline_tag) == ("eat_hf", "image-to-video")
        assert card.data.license == LICENCE and {"talking-head", "emotion"} <= set(card.data.tags)
        results = {result.metric_name: result.metric_value for result in card.data.eval_results}
        assert results == MEASURED and {result.dataset_name for result in card.data.eval_results} == {"made-up clips"}
        assert "| PSNR (dB) | 26.12 |" in card.text and "![sad](samples/sad.png)" in card.text
        assert card.content.split("---\n", 2)[1] == content.split("---\n", 2)[1]  # reading it loses nothing
        assert len([line for line in usage(content).splitlines() if line]) <= 5
        ast.parse(usage(content))
        assert "{{" not in content and "None" not in content and "\n\n\n" not in content
    share = pipeline_share(pipeline)
    assert f"| {share:.2%} |" in base and "happy, neutral" in base
    data = ModelCard(adapter).data
    assert data.base_model == "ann/tiny" and data.base_model_relation == "adapter" and "smirk" in data.tags
    assert "50 parameters, 5.00% of" in adapter and "| steps | 300 |" in adapter
    assert 'pipe.load_adapter("ann/smirk")' in adapter and 'emotion="smirk"' in adapter


def pipeline_share(pipeline) -> float:
    """Emotional adaptation's share of the network, counted here again."""
    network = [
        pipeline.components[name] for name in ("repos_net", "keypoint_detector", "a2et", "emotion_mapper", "edn")
    ]
    modules = [m for part in network for m in part.modules() if type(m).__name__ == "EmotionalAdaptationModule"]
    adaptation = [pipeline.emotion_mapper, pipeline.edn, *modules]
    sizes = [sum(p.numel() for part in parts for p in part.parameters()) for parts in (adaptation, network)]
    return sizes[0] / sizes[1]


def test_what_is_not_known_is_not_in_a_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for base in ("eat-demo", "runs/base", str(tmp_path)):
        (tmp_path / "runs" / "base").mkdir(parents=True, exist_ok=True)
        card = adapter_card({"emotions": ["smirk", "wince"], "base_model": base, "base_parameters": 1000})
        front = yaml.safe_load(card.split("---\n")[1])
        assert not {"base_model", "license", "metrics", "model-index"} & set(front), base
        assert "Measured" not in card and "Samples" not in card and "How it was made" not in card
        assert "smirk, wince" in card and "not stated" in card


def test_the_real_client_takes_the_cards(hub, tmp_path):
    """Its own validation asks the server; only the server's rules are this test's."""
    program = """
import json, sys
from pathlib import Path
from huggingface_hub import ModelCard
verdicts = []
for path in sys.argv[1:]:
    try:
        ModelCard(Path(path).read_text()).validate()
        verdicts.append("")
    except ValueError as error:
        verdicts.append(str(error))
print(json.dumps(verdicts))
"""
    good = adapter_card(ADAPTER, "ann/smirk", license=LICENCE, metrics=MEASURED)
    cards = {"good": good, "bad": good.replace("base_model: ann/tiny", "base_model: some/folder/tiny")}
    for name, content in cards.items():
        (tmp_path / name).write_text(content)
    good_verdict, bad_verdict = run(program, hub.client_environment(tmp_path), tmp_path / "good", tmp_path / "bad")
    assert good_verdict == "" and "base_model 'some/folder/tiny' is no repository" in bad_verdict
