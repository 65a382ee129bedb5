"""Models and adapters from strangers load, or are refused in one sentence, within bounds of memory and time."""

import json
import resource
import shutil
import signal
from pathlib import Path

import pytest
from hostile_folders import COMPONENTS, spoilt_adapters, spoilt_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eat_hf import EATPipeline
from eat_hf.cli import main as cli
from eat_hf.errors import UserError

MEGABYTES = 1024  # more than the process has when the trial begins
SECONDS = 20  # for one folder; only what reads without end takes as long


@pytest.fixture(scope="module")
def folders(tiny_pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("strangers")
    tiny_pipeline.save_pretrained(folder / "model")
    tiny_pipeline.save_adapter("happy", folder / "adapter")
    return folder


@pytest.fixture(scope="module")
def pipe(folders) -> EATPipeline:
    return EATPipeline.from_pretrained(folders / "model")


@pytest.fixture
def bounded():
    """No more memory than a bound, and no waiting for ever."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, before[1]))
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(load, place: Path) -> str:
    """ "loaded", or what the user is told."""
    signal.alarm(SECONDS)
    try:
        load(place)
        return "loaded"
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 800, str(error)
        return str(error)
    finally:
        signal.alarm(0)


def load_adapter(pipe: EATPipeline):
    return lambda place: pipe.unload_adapter(pipe.load_adapter(place, "strange"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["model", "adapter"])
def test_what_strangers_have_spoilt_is_refused_in_one_sentence(kind, folders, pipe, bounded, tmp_path):
    cases, load = (
        (spoilt_models(), EATPipeline.from_pretrained) if kind == "model" else (spoilt_adapters(), load_adapter(pipe))
    )
    harmless = ("is huge",)  # settings that the class does not have, and a temperature
    for what, spoil in cases:
        place = tmp_path / "spoilt"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folders / kind, place)
        spoil(place)
        assert outcome(load, place) != "loaded" or what.endswith(harmless), what


# a configuration in which anything may stand anywhere
numbers = st.integers() | st.floats() | st.sampled_from([10**9, 65_536, 4096, 0, -1, 1, 2, 7])
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20), lambda inner: st.lists(inner, max_size=6), max_leaves=8
)
quick = settings(
    derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
long = settings(quick, max_examples=3000)


def try_model(folders, tmp_path, data) -> None:
    place = tmp_path / "mutated"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folders / "model", place)
    file = place / data.draw(st.sampled_from(["model_index.json", *(f"{name}/config.json" for name in COMPONENTS)]))
    content = json.loads(file.read_text())
    for key in data.draw(st.lists(st.sampled_from(sorted(content)), min_size=1, max_size=3, unique=True)):
        content[key] = data.draw(anything)
    file.write_text(json.dumps(content))
    outcome(EATPipeline.from_pretrained, place)


def try_adapter(folders, pipe, tmp_path, data) -> None:
    place = tmp_path / "mutated"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folders / "adapter", place)
    file = place / "adapter_config.json"
    content = json.loads(file.read_text())
    for key in data.draw(st.lists(st.sampled_from(sorted(content)), min_size=1, max_size=3, unique=True)):
        content[key] = data.draw(anything)
    file.write_text(json.dumps(content))
    outcome(load_adapter(pipe), place)


@pytest.mark.filterwarnings("ignore")
@quick
@given(data=st.data())
def test_mutated_configurations_of_a_model(folders, bounded, tmp_path, data):
    try_model(folders, tmp_path, data)


@pytest.mark.filterwarnings("ignore")
@quick
@given(data=st.data())
def test_mutated_configurations_of_an_adapter(folders, pipe, bounded, tmp_path, data):
    try_adapter(folders, pipe, tmp_path, data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@long
@given(data=st.data())
def test_many_mutated_configurations(folders, pipe, bounded, tmp_path, data):
    try_model(folders, tmp_path, data)
    try_adapter(folders, pipe, tmp_path, data)


def test_the_command_line_says_it_in_one_line(folders, tmp_path, capfd):
    place = tmp_path / "spoilt"
    shutil.copytree(folders / "model", place)
    (place / "a2et" / "config.json").write_text("[" * 100_000)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["info", str(place)])
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "a2et" in err and "Traceback" not in err
