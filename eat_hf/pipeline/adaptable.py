"""What a pipeline knows of emotions: its own, those of loaded adapters, and sentences."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Self

from diffusers import DiffusionPipeline

from ..adapters.emotion_adapter import EmotionAdapter, find_adapter, push_adapter
from ..adapters.fingerprint import Base
from ..adapters.from_text import BundledText, TextToEmotion
from ..adapters.loaded import LoadedAdapters
from ..animation.networks import Adaptation, Networks


class AdaptablePipeline(DiffusionPipeline):
    """Networks whose emotional adaptation may be others' as well: emotion adapters, loaded, saved and shared."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded = LoadedAdapters()
        self._bundled_text = BundledText()  # shared with views
        self._before_rounding: dict[str, str] = {}  # digests of components that are no longer what was loaded

    @classmethod
    def component_names(cls) -> tuple[str, ...]:
        """What a pipeline is made of, see `__init__`."""
        return tuple(field.name for field in fields(Networks))

    @property
    def networks(self) -> Networks:
        """All components."""
        return Networks(**self.components)

    @property
    def base(self) -> Base:
        """What adapters are made for."""
        return Base(self.networks, self.name_or_path, self._before_rounding)

    @property
    def emotions(self) -> tuple[str, ...]:
        """Names that `emotion` may be or mix: the model's own, then those of loaded adapters."""
        return (*self.emotion_mapper.config.emotions, *self._loaded.emotions)

    @property
    def adaptations(self) -> tuple[Adaptation, ...]:
        """The emotional adaptation that is the model's own, then those of loaded adapters, in the order of `emotions`.

        A snapshot: loading and unloading do not change it.
        """
        networks = self.networks
        return (networks.own, *self._loaded.adapt(networks, self._execution_device))

    @property
    def adapters(self) -> dict[str, EmotionAdapter]:
        """The loaded adapters by name."""
        return self._loaded.by_name

    def with_adapters(self, adapters: Mapping[str, EmotionAdapter] | None = None) -> Self:
        """A pipeline of the same networks with other adapters loaded (by name; None: the same), such as those of one
        user of a server. No weights are copied. What is loaded and unloaded there does not show here.
        """
        view = copy.copy(self)
        view._loaded = LoadedAdapters(self.adapters if adapters is None else adapters)
        return view

    def load_adapter(
        self,
        path_or_id: str | os.PathLike,
        name: str | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Add the emotions of an adapter to `emotions`; its name, for `unload_adapter` and `save_adapter`.

        Any number may be loaded, from any thread; neither the model's own networks nor clips under way notice.

        Args:
            path_or_id: a folder, or a repository of the Hub.
            name: what the adapter is called here, and its emotion, if it has one. Default: the emotion's own name.
            revision, subfolder, token: of the repository; a folder may have a subfolder, too.

        Raises:
            UserError: there is no such adapter, it does not fit this model, or the name is taken.
        """
        folder = find_adapter(path_or_id, revision, subfolder, token)
        return self.add_adapter(EmotionAdapter.load(folder, self.base), name)

    def add_adapter(self, adapter: EmotionAdapter, name: str | None = None) -> str:
        """`load_adapter` of one that is there already, such as one that was just made for this model."""
        return self._loaded.add(adapter, name, tuple(self.emotion_mapper.config.emotions))

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter and its emotions; a UserError if there is none of that name."""
        self._loaded.remove(name)

    def save_adapter(self, name: str, directory: str | os.PathLike) -> None:
        """Write a loaded adapter, or an emotion of the model's own as one, as a folder that `load_adapter` reads; a
        UserError if there is none of that name, or the folder cannot be written.
        """
        self._adapter(name).save(directory)

    def _adapter(self, name: str) -> EmotionAdapter:
        if name in self.emotion_mapper.config.emotions and name not in self.adapters:
            return EmotionAdapter.create(self.base, [name], name)
        return self._loaded.find(name)

    def push_adapter_to_hub(self, name: str, repo_id: str, **options: Any) -> str:
        """Upload a loaded adapter, or an emotion of the model's own as one, with its card; the commit's address.

        Options and errors: those of `adapters.emotion_adapter.push_adapter`; a UserError if there is none of that name.
        """
        return push_adapter(self._adapter(name), repo_id, **options)

    @property
    def text_to_emotion(self) -> TextToEmotion | None:
        """What turns sentences into emotions at once, read on first use; None if this model came without."""
        return self._bundled_text.get(self.base, self.device)

    def text_adapter(self, text: str | Sequence[str], name: str) -> EmotionAdapter:
        """A sentence, or several phrasings of one wish, as an emotion: at once, without training.

        Raises:
            UserError: the text is empty or too long, or this model came without a text mapper.
        """
        return self._bundled_text.required(self.base, self.device).adapter(text, name)
