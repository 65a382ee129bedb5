"""The version of the package, which pyproject.toml states."""

import tomllib
from importlib import metadata
from pathlib import Path


def _version() -> str:
    try:
        return metadata.version("eat_hf")
    except metadata.PackageNotFoundError:  # a checkout that was not installed, such as that of a Space
        project = Path(__file__).resolve().parents[1] / "pyproject.toml"
        return (
            tomllib.loads(project.read_text(encoding="utf8"))["project"]["version"] if project.is_file() else "unknown"
        )


__version__ = _version()
