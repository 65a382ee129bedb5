"""What is installed is enough: everything that the package reads is in the wheel, and makes videos anywhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from eat_hf.shipped import CHECKPOINTS

PROJECT = Path(__file__).resolve().parents[1]
SHIPPED = [
    *(path for name in CHECKPOINTS for path in (PROJECT / "checkpoints_card" / name).rglob("*")),
    *(
        PROJECT / "examples" / name
        for name in ("portrait.png", "astronaut.jpg", "hopper.jpg", "young_man.jpg", "speech.wav")
    ),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*command, "-w", folder, PROJECT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_all_data_files(wheel):
    of_package = {str(path.relative_to(PROJECT)) for path in (PROJECT / "eat_hf").rglob("*") if path.is_file()}
    of_package = {file for file in of_package if "__pycache__" not in file}
    beside = {f"eat_hf/{path.relative_to(PROJECT)}" for path in SHIPPED if path.is_file()}
    for ending in (".j2", ".pyi", ".onnx", ".py"):
        assert any(file.endswith(ending) for file in of_package)
    assert "eat_hf/checkpoints_card/eat-demo/words/clip/model.safetensors" in beside
    carried = set(zipfile.ZipFile(wheel).namelist())
    assert of_package | beside <= carried
    assert {file.partition("/")[0] for file in carried if "dist-info" not in file} == {"eat_hf"}
    assert wheel.stat().st_size < 40e6


def test_the_wheel_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        said = Parser().parsestr(archive.read(metadata).decode())
    assert said["Requires-Python"] == ">=3.11"
    assert {"app", "training", "evaluation", "voice", "docs"} <= set(said.get_all("Provides-Extra"))
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    wanted = {line.partition("#")[0].strip().replace("_", "-") for line in lines} - {""}
    assert wanted == {need for need in said.get_all("Requires-Dist") if "extra ==" not in need}
    assert any("arxiv.org" in address for address in said.get_all("Project-URL"))


@pytest.mark.slow
def test_an_installed_wheel_makes_videos_in_any_folder(wheel, portrait_file, recording_file, tmp_path):
    venv, here = tmp_path / "venv", tmp_path / "elsewhere"
    here.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q", wheel]
    subprocess.run(install, check=True)
    [site] = venv.glob("lib/python*/site-packages")
    # the packages that it needs, as they are installed here; .pth files among them, such as that of a checkout, are not
    # followed from there
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    shutil.copy(portrait_file, here / "me.png")
    shutil.copy(recording_file, here / "voice.wav")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "EAT_HF_MODEL")}

    def run(*command):
        done = subprocess.run(
            command, cwd=here, env=environment | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    where = run(python, "-c", "import eat_hf; print(eat_hf.__file__)")
    assert Path(where) == site / "eat_hf" / "__init__.py"
    command = venv / "bin" / "eat-hf"
    assert run(command, "generate", "--image", "me.png", "--audio", "voice.wav") == "out.mp4"
    code = """
from eat_hf import EATPipeline
pipe = EATPipeline.from_pretrained("eat-demo")
pipe("me.png", "voice.wav", emotion_text="slightly smiling", size=256).save("smiling.mp4")
"""
    run(python, "-c", code)
    assert "licence: cc0-1.0" in run(command, "info", "eat-demo")
    assert run(command, "detect-watermark", "out.mp4").startswith("marked")
    assert sorted(path.name for path in here.iterdir()) == ["me.png", "out.mp4", "smiling.mp4", "voice.wav"]
