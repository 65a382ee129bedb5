"""What ships beside the code, checkpoints and examples: inside the package of a wheel, next to it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKPOINTS = ("eat-demo", "eat-judges")


def shipped(path: str) -> Path | None:
    """A file or folder by its path in the checkout, such as "examples/speech.wav"; None if it was not shipped."""
    for place in (PACKAGE / path, PACKAGE.parent / path):
        if place.exists():
            return place
    return None


def shipped_checkpoint(name: str) -> Path | None:
    """The folder of a checkpoint that ships with the package, such as "eat-demo"; None for any other name."""
    return shipped(f"checkpoints_card/{name}") if name in CHECKPOINTS else None
