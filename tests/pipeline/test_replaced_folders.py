"""A folder that is saved into holds the older model or the newer one, wherever the process is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eat_hf.media.files import replaced_folder

# saves a second model over a first in a child that kills itself at its n-th step of the file system
KILLS = """
import os, signal, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
import diffusers
from conftest import build_tiny_pipeline
from safetensors.torch import load_file
from eat_hf.errors import UserError
from eat_hf.media.files import replaced_folder
from eat_hf.pipeline.folder import check_model
diffusers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
root = Path(sys.argv[1])
old, new = build_tiny_pipeline(), build_tiny_pipeline()
for number, pipe in enumerate((old, new)):
    for component in pipe.components.values():
        next(iter(component.state_dict().values())).reshape(-1)[0] = number
FILE = "diffusion_pytorch_model.safetensors"
FIRST = {name: next(iter(each.state_dict())) for name, each in old.components.items()}
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree", "os.chmod")

def who(folder):
    try:
        check_model(folder)
    except UserError as error:
        assert "model_index.json" in str(error) and "\\n" not in str(error), error
        return "refused"
    found = {int(load_file(folder / name / FILE)[first].reshape(-1)[0]) for name, first in FIRST.items()}
    return ("old", "new")[found.pop()] if len(found) == 1 else "mixed"

def child(folder, at, inside):
    left = [at]
    def step(event, arguments):
        if event in STEPS and str(root) in str(arguments[:2]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if inside:
        os.chdir(folder)
    sys.addaudithook(step)
    new.save_pretrained("." if inside else folder)
    os._exit(0)

for place in ("beside", "inside"):
    found, at = [], 1
    while True:
        folder = root / f"{place}{at}"
        old.save_pretrained(folder)
        (folder / "README.md").write_text("mine")
        (folder / ".git" / "refs").mkdir(parents=True)
        process = os.fork()
        if process == 0:
            child(folder, at, place == "inside")
        killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
        found.append(who(folder))
        assert (folder / "README.md").read_text() == "mine" and (folder / ".git" / "refs").is_dir()
        if not killed:
            break
        with replaced_folder(root / "swept", "x") as swept:  # the next run sweeps
            pass
        at += int(sys.argv[3])
    assert not [name for name in os.listdir(root) if name.startswith(".")], os.listdir(root)
    print(place, *found)
"""


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_save_leaves_the_older_model_or_the_newer_one(step, tmp_path):
    """Saved from beside the folder, and from inside it; killed at every so many steps."""
    tests = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", KILLS, str(tmp_path), str(tests), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    beside, inside = (line.split() for line in done.stdout.splitlines())
    for place, *found in (beside, inside):
        assert found[0] == "old" and found[-1] == "new" and len(found) > 5
        assert set(found) <= {"old", "new", *(["refused"] if place == "inside" else [])}


def test_what_is_not_the_models_stays_and_what_was_its_goes(tiny_pipeline, tmp_path):
    folder = tmp_path / "model"
    tiny_pipeline.save_pretrained(folder, max_shard_size="20KB")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("mine")
    (folder / "words").mkdir()
    (folder / "words" / "old.json").write_text("{}")
    tiny_pipeline.save_pretrained(folder)
    assert (folder / "notes" / "a.txt").read_text() == "mine"
    assert not (folder / "words").exists()
    assert sorted(path.name for path in (folder / "a2et").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    tiny_pipeline.save_pretrained(folder, variant="fp16")
    assert (folder / "a2et" / "diffusion_pytorch_model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_leftovers_of_killed_processes_go_and_those_of_running_ones_stay(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead, alive = f".model-{done.pid}-0123abcd.part", f".other-{os.getppid()}-0123abcd.part"
    for name in (dead, alive):
        (tmp_path / name / "a2et").mkdir(parents=True)
    with replaced_folder(tmp_path / "model", "config.json") as folder:
        (folder / "config.json").write_text("{}")
    assert sorted(os.listdir(tmp_path)) == sorted([alive, "model"])
