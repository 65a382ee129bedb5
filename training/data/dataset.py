"""Reading a corpus folder back (see ``training.corpus.build`` for its layout).

Corpora of real videos (``training.real.prepare``) have the same layout, but lack some labels, and some
emotions and levels.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eat_hf.errors import UserError

from .files import read_video

__all__ = ["Clip", "Corpus", "keypoint_index"]

# labels that only the synthetic corpus can have; the others come with `training.real.prepare --model`
_NO_UNITS = "only the synthetic corpus knows facial units; networks that learn them besides take --unit_weight 0"
_NO_PHONEMES = "only the synthetic corpus knows when which phoneme is spoken"
_EXACT_ONLY = {"arkit": _NO_UNITS, "arkit_names": _NO_UNITS, "phonemes": _NO_PHONEMES, "phoneme_times": _NO_PHONEMES}


@dataclass(frozen=True)
class Clip:
    """One clip. ``metadata`` is its line of metadata.jsonl; the reading methods open files only when called."""

    folder: Path
    metadata: dict

    @property
    def name(self) -> str:
        """Unique within the corpus, e.g. ``id0003_speech_0001``."""
        return Path(self.metadata["labels"]).stem

    @property
    def kind(self) -> str:
        """ "range_of_motion" (unrelated frames, no sound) or "speech"."""
        return self.metadata["kind"]

    @property
    def split(self) -> str:
        return self.metadata["split"]

    @property
    def identity(self) -> int | str:
        """Who it is: a number in the synthetic corpus, the data set's own name for a real person."""
        return self.metadata["identity"]

    @property
    def emotion(self) -> str | None:
        """None where nobody knows, as in many real clips."""
        return self.metadata["emotion"]

    @property
    def level(self) -> int | None:
        """1-3, 0 for neutral, None where nobody knows."""
        return self.metadata["level"]

    @property
    def length(self) -> int:
        """Number of frames T."""
        return self.metadata["frames"]

    @property
    def rendered(self) -> bool:
        """False for clips that have labels and sound but no pictures."""
        return self.metadata["file_name"] is not None

    def open(self, kind: str) -> BinaryIO:
        """The file that the metadata calls "file_name", "wav", "portrait" or "labels"; of a packed corpus (see
        `training.data.pack`) out of a tar file."""
        name = self.metadata[kind]
        place = self.metadata.get("packed", {}).get(name)
        if place is None:
            return (self.folder / name).open("rb")
        shard, offset, size = place
        with (self.folder / shard).open("rb") as packed:
            packed.seek(offset)
            return io.BytesIO(packed.read(size))

    def frames(self) -> np.ndarray:
        """All pictures (T, 256, 256, 3) uint8 RGB. Raises ValueError for a clip without pictures."""
        if not self.rendered:
            raise ValueError(f"clip {self.name} has labels and sound only, no pictures")
        with self.open("file_name") as file:
            return read_video(file)

    def portrait(self) -> np.ndarray:
        """(256, 256, 3) uint8 RGB: the person in the clip's place and first pose, neutral and silent; of real people a
        calm frame, of a neutral clip if there is one.

        Raises ValueError for a clip that has none."""
        from PIL import Image

        if not self.metadata.get("portrait"):
            raise ValueError(f"clip {self.name} has no portrait; only rendered speech of newer corpora does")
        with self.open("portrait") as file:
            return np.asarray(Image.open(file).convert("RGB"))

    def labels(self, *needed: str) -> dict[str, np.ndarray]:
        """The label arrays: yaw, pitch, roll (T,) degrees; translation (T, 3); arkit (T, 52); canonical (K, 3);
        expression, keypoints (T, K, 3); landmarks (T, 68, 3); face_box (T, 4) px; tongue (T,), how far it is raised, 0
        to 1; phonemes (P,) str; phoneme_times (P, 2) s; arkit_names.

        Real clips have no arkit and no phonemes, the depth of their landmarks is NaN, and they have pose, expression
        and keypoints only if a model has measured them.

        Raises UserError if one of the ``needed`` labels is missing."""
        with self.open("labels") as file, np.load(file) as stored:
            labels = {name: stored[name] for name in stored.files if name != "metadata"}
        for name in needed:
            if name not in labels:
                reason = _EXACT_ONLY.get(name, "prepare the videos with a --model (training.real.prepare)")
                raise UserError(f"Clip {self.name} of {self.folder} has no label {name!r}: {reason}.")
        return labels

    def waveform(self) -> np.ndarray:
        """(N,) float32 at 16 kHz. Raises ValueError for a clip without sound."""
        import soundfile

        if self.metadata["wav"] is None:
            raise ValueError(f"clip {self.name} has no sound")
        with self.open("wav") as file:
            return soundfile.read(file, dtype="float32")[0]


class Corpus:
    """A corpus folder: ``Corpus(folder).clips(split="train", kind="speech")``.

    Raises FileNotFoundError for a folder without metadata.jsonl.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        index = self.folder / "metadata.jsonl"
        if not index.is_file():
            raise FileNotFoundError(f"{self.folder} is no corpus: it has no metadata.jsonl (make one with "
                                    "`python -m training.corpus.build --output DIR`, or of real videos with "
                                    "`python -m training.real.prepare`)")  # fmt: skip
        lines = index.read_text(encoding="utf8").splitlines()
        self._clips = tuple(Clip(self.folder, json.loads(line)) for line in lines if line)

    @cached_property
    def info(self) -> dict:
        """corpus.json: seed, versions, command, keypoint_names, landmark_names, arkit_names."""
        return json.loads((self.folder / "corpus.json").read_text(encoding="utf8"))

    def clips(self, split: str | None = None, kind: str | None = None, rendered: bool | None = None,
              emotion: str | None = None, identity: int | None = None) -> list[Clip]:  # fmt: skip
        """The clips that have all the given properties, in the order of metadata.jsonl."""
        wanted = {"split": split, "kind": kind, "rendered": rendered, "emotion": emotion, "identity": identity}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        return [clip for clip in self._clips if all(getattr(clip, n) == v for n, v in wanted.items())]

    def __len__(self) -> int:
        return len(self._clips)


def keypoint_index(names: list[str], *wanted: str) -> list[int]:
    """Where keypoints of some names are in a corpus' keypoint_names.

    Raises UserError if it has no such names."""
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(f"The corpus has no keypoint named {missing[0]!r}; this stage needs the named keypoints of the "
                        "synthetic corpus, or of a model that was trained on it.")  # fmt: skip
    return [names.index(name) for name in wanted]
