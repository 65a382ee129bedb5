"""Emotions from sentences at once (paper sections 3.2 and 4.5).

A sentence becomes an emotion in two ways, which meet. `TextToEmotion.adapter` maps its CLIP embedding straight to
prompts, at once. `tuning.learn_emotion` tunes a head of M and the EAMs until CLIP finds that the frames look like the
sentence, as published; it starts from the first where a model has it. Both give an ordinary `EmotionAdapter`.

A model's `words` folder holds what the first needs:

    clip/          CLIPModel and CLIPProcessor of transformers
    text_mapper/   TextMapper
    adapter/       EDN and EAMs that show whatever prompts the mapper makes, on top of the model
    sync_expert/   SyncExpert, for tuning; may be missing
"""

import copy
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import InputWarning, RepositoryError, UserError
from ..hub.client import fetch_folder
from ..media.files import replaced_folder
from ..models.checked import load_network
from ..models.judges.sync_expert import SyncExpert
from ..models.text_mapper import TextMapper
from ..names import check_name
from .clip import CLIP, DEFAULT_CLIP
from .emotion_adapter import EmotionAdapter
from .fingerprint import Base

FOLDER = "words"  # of a model


@dataclass(frozen=True)
class TextToEmotion:
    """What turns sentences into emotions at once.

    Attributes:
        clip: whose text embeddings the mapper reads.
        mapper: to prompts.
        shows: an adapter whose EDN and EAMs show them; its head of M is not used.
        sync_expert: of the sync loss, if there is one.
    """

    clip: CLIP
    mapper: TextMapper
    shows: EmotionAdapter
    sync_expert: SyncExpert | None = None

    @classmethod
    def load(cls, folder: Path, base: Base, device: torch.device | str = "cpu") -> "TextToEmotion":
        """Read a `words` folder.

        Raises:
            UserError: it is incomplete, or was made for another model.
        """
        shows = EmotionAdapter.load(folder / "adapter", base).to(device)
        for part in shows.parts.values():
            part.float().eval()
        mapper = load_network(TextMapper, folder / "text_mapper")
        clip = replace(CLIP.load(str(folder / "clip"), device), name="the model's own")
        expert = folder / "sync_expert"
        sync_expert = load_sync_expert(expert, device) if expert.is_dir() else None
        return cls(clip, mapper.float().to(device), shows, sync_expert)

    def save(self, folder: Path) -> None:
        """Write a `words` folder, as a whole or not at all; what else is in it, such as its card, stays."""
        parts = "clip", "text_mapper", "adapter", "sync_expert"
        with replaced_folder(folder, "text_mapper/config.json", lambda path: path.parts[0] in parts) as unfinished:
            self.clip.save(unfinished / "clip")
            self.mapper.save_pretrained(unfinished / "text_mapper")
            self.shows.save(unfinished / "adapter")
            if self.sync_expert is not None:
                self.sync_expert.save_pretrained(unfinished / "sync_expert")

    @torch.no_grad()
    def adapter(self, texts: str | Sequence[str], name: str) -> EmotionAdapter:
        """A sentence, or several phrasings of one wish, as an emotion `name`.

        It shares EDN and EAMs with all others that are made here.

        Raises:
            UserError: it cannot be called so, or the text is empty or too long.
        """
        check_name(name)
        prompts = self.mapper(self.clip.embed_text(texts)).prompts[0]
        head = constant_head(cast(nn.ModuleList, self.shows.parts["emotion_mapper.heads"])[0], prompts)
        config = self.shows.config.changed(emotions=(name,), training={"text": listed(texts)})
        return EmotionAdapter(config, {**self.shows.parts, "emotion_mapper.heads": nn.ModuleList([head])})


def constant_head(head: nn.Module, prompts: Tensor) -> nn.Module:
    """A head of M that makes the same prompts (prompts, width) of every noise; it can be trained from there."""
    head = copy.deepcopy(head)
    last = cast(nn.Linear, cast(nn.ModuleList, head)[-1])
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(prompts.flatten())
    return head


class BundledText:
    """The `words` folder of a model, looked for and read on first use. Views of a pipeline share it."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._read: list[TextToEmotion | None] = []  # one, once it was looked for

    def get(self, base: Base, device: torch.device | str) -> TextToEmotion | None:
        """What is there; None if the model came without.

        Raises:
            UserError: it is incomplete, or was made for another model.
        """
        if not self._read:
            folder = find_folder(base.place)  # it may take a download, for which nobody else shall wait
            with self._reading:
                if not self._read:
                    self._read.append(None if folder is None else TextToEmotion.load(folder, base, device))
        return self._read[0]

    def required(self, base: Base, device: torch.device | str) -> TextToEmotion:
        """`get`, of a model that must have it: a UserError if it came without."""
        bundled = self.get(base, device)
        if bundled is None:
            raise UserError(
                "This model came without a text mapper, so words are nothing to it; use learn_emotion, which tunes an "
                "adapter with CLIP, or a model that has a `words` folder, such as the bundled one."
            )
        return bundled


def find_folder(place: str | None) -> Path | None:
    """The `words` folder of the folder or repository that a model was loaded from; None if it has none."""
    if not place:
        return None
    try:
        folder = fetch_folder(place, ["*.json", "*.txt", "*.safetensors"], subfolder=FOLDER)
    except RepositoryError:
        return None
    return folder if (folder / "text_mapper").is_dir() else None


def find_clip(clip: str | CLIP | None, bundled: TextToEmotion | None, device: torch.device | str = "cpu") -> CLIP:
    """The CLIP that judges frames: the one that was asked for; else that of the paper, which a model with a CLIP of its
    own looks for in the cache alone, and which its own small one replaces with a warning.

    Raises:
        RepositoryError: there is none.
    """
    if isinstance(clip, CLIP):
        return clip
    if clip is not None or bundled is None:
        return CLIP.load(clip or DEFAULT_CLIP, device)
    try:
        return CLIP.load(DEFAULT_CLIP, device, local_files_only=True)
    except RepositoryError:
        warnings.warn(
            f"The model's own small CLIP judges, which knows plain words for faces only. {DEFAULT_CLIP} knows more: "
            f"ask for it with clip={DEFAULT_CLIP!r} (1.7 GB), once.",
            InputWarning,
            stacklevel=3,
        )
        return bundled.clip


def find_sync_expert(
    expert: str | SyncExpert | None, bundled: TextToEmotion | None, device: torch.device | str = "cpu"
) -> SyncExpert | None:
    """The expert of the sync loss: the one that was asked for, else the model's own, if it has one.

    Raises:
        RepositoryError: there is none where it was asked for.
    """
    if isinstance(expert, str):
        return load_sync_expert(expert, device)
    return expert or (bundled.sync_expert if bundled is not None else None)


def load_sync_expert(path_or_id: str | Path, device: torch.device | str = "cpu") -> SyncExpert:
    """Read the expert of the sync loss: a folder, or a repository of the Hub; safetensors only.

    Raises:
        RepositoryError: there is none, or it cannot be had.
    """
    return load_network(SyncExpert, path_or_id).float().to(device)


def listed(texts: str | Sequence[str]) -> str:
    return texts if isinstance(texts, str) else " / ".join(texts)
