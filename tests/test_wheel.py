"""What is installed has everything that the package reads."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def test_the_wheel_carries_all_data_files(tmp_path):
    source = tmp_path / "source"  # setuptools builds in the folder of its sources
    shutil.copytree(PROJECT / "eat_hf", source / "eat_hf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*command, "-w", tmp_path, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    files = {str(path.relative_to(PROJECT)) for path in (PROJECT / "eat_hf").rglob("*") if path.is_file()}
    wanted = {file for file in files if "__pycache__" not in file}
    assert any(file.endswith(".j2") for file in wanted) and any(file.endswith(".pyi") for file in wanted)
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())
