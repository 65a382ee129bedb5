"""Emotions from sentences at once (paper section 3.2)."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ..errors import InputWarning, RepositoryError
from ..hub.client import explained, fetch_folder
from ..models.judges.sync_expert import SyncExpert
from ..models.text_mapper import TextMapper
from .clip import DEFAULT_CLIP, Clip
from .emotion_adapter import EmotionAdapter

if TYPE_CHECKING:
    from ..pipeline.pipeline_eat import EATPipeline


FOLDER = "words"  # of a model


@dataclass(frozen=True)
class EmotionWords:
    """What turns sentences into emotions at once.

    Attributes:
        clip: whose text embeddings the mapper reads.
        mapper: to prompts.
        shows: an adapter whose EDN and EAMs show them; its head of M is not used.
        sync_expert: of the sync loss, if there is one.
    """

    clip: Clip
    mapper: TextMapper
    shows: EmotionAdapter
    sync_expert: SyncExpert | None = None

    @classmethod
    def load(cls, folder: Path, pipeline: "EATPipeline") -> "EmotionWords":
        """Read a `words` folder.

        Raises:
            UserError: it is incomplete, or was made for another model.
        """
        shows = EmotionAdapter.load(folder / "adapter", pipeline)
        for part in shows.parts.values():
            part.to(pipeline.device).float().eval()
        with explained(folder):
            mapper = TextMapper.from_pretrained(folder / "text_mapper", use_safetensors=True)
        clip = replace(Clip.load(str(folder / "clip"), pipeline.device), name="the model's own")
        expert = folder / "sync_expert"
        sync_expert = load_sync_expert(expert, pipeline.device) if expert.is_dir() else None
        return cls(clip, mapper.float().to(pipeline.device).eval(), shows, sync_expert)

    def save(self, folder: Path) -> None:
        """Write a `words` folder."""
        self.clip.save(folder / "clip")
        self.mapper.save_pretrained(folder / "text_mapper")
        self.shows.save(folder / "adapter")
        if self.sync_expert is not None:
            self.sync_expert.save_pretrained(folder / "sync_expert")

    @torch.no_grad()
    def adapter(self, texts: str | Sequence[str], name: str) -> EmotionAdapter:
        """A sentence, or several phrasings of one wish, as an emotion `name`.

        It shares EDN and EAMs with all others that are made here.
        """
        prompts = self.mapper(self.clip.embed_text(texts)).prompts[0]
        head = constant_head(cast(nn.ModuleList, self.shows.parts["emotion_mapper.heads"])[0], prompts)
        config = replace(self.shows.config, emotions=(name,), training={"text": listed(texts)})
        return EmotionAdapter(config, {**self.shows.parts, "emotion_mapper.heads": nn.ModuleList([head])})


def constant_head(head: nn.Module, prompts: Tensor) -> nn.Module:
    """A head of M that makes the same prompts (prompts, width) of every noise; it can be trained from there."""
    head = copy.deepcopy(head)
    last = cast(nn.Linear, cast(nn.ModuleList, head)[-1])
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(prompts.flatten())
    return head


def find_words(pipeline: "EATPipeline") -> Path | None:
    """The `words` folder of where a pipeline was loaded from, or None if it has none."""
    place = pipeline.name_or_path
    if not place:
        return None
    try:
        folder = fetch_folder(place, ["*.json", "*.txt", "*.safetensors"], subfolder=FOLDER)
    except RepositoryError:
        return None
    return folder if (folder / "text_mapper").is_dir() else None


def find_clip(clip: "str | Clip | None", words: EmotionWords | None, device: torch.device | str = "cpu") -> Clip:
    """The CLIP that judges frames: the one that was asked for; else that of the paper, which a model with words of its
    own looks for in the cache alone, and which its own small one replaces with a warning.

    Raises:
        RepositoryError: there is none.
    """
    if isinstance(clip, Clip):
        return clip
    if clip is not None or words is None:
        return Clip.load(clip or DEFAULT_CLIP, device)
    try:
        return Clip.load(DEFAULT_CLIP, device, local_files_only=True)
    except RepositoryError:
        warnings.warn(
            f"The model's own small CLIP judges, which knows plain words for faces only. {DEFAULT_CLIP} knows more: "
            f"ask for it with clip={DEFAULT_CLIP!r} (1.7 GB), once.",
            InputWarning,
            stacklevel=3,
        )
        return words.clip


def load_sync_expert(path_or_id: str | Path, device: torch.device | str = "cpu") -> SyncExpert:
    """Read the expert of the sync loss: a folder, or a repository of the Hub; safetensors only.

    Raises:
        RepositoryError: there is none, or it cannot be had.
    """
    with explained(path_or_id):
        return SyncExpert.from_pretrained(path_or_id, use_safetensors=True).float().to(device).eval()


def listed(texts: str | Sequence[str]) -> str:
    return texts if isinstance(texts, str) else " / ".join(texts)
