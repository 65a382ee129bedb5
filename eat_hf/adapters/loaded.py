"""The adapters that a pipeline has loaded."""

import threading
from collections.abc import Mapping
from dataclasses import replace

import torch

from ..animation.networks import Adaptation, Networks
from ..errors import UserError, shown
from ..names import check_name
from .emotion_adapter import EmotionAdapter


class LoadedAdapters:
    """Adapters by name. Any number of threads may add and remove some; whoever asks for all gets a snapshot.

    Args:
        adapters: those to begin with.
    """

    def __init__(self, adapters: Mapping[str, EmotionAdapter] | None = None):
        self._changing = threading.Lock()
        self._adapters = dict(adapters or {})  # never changed, only replaced: others may be reading it

    @property
    def by_name(self) -> dict[str, EmotionAdapter]:
        return dict(self._adapters)

    @property
    def emotions(self) -> tuple[str, ...]:
        """Those of all adapters, in the order in which these were loaded."""
        return tuple(name for adapter in self._adapters.values() for name in adapter.config.emotions)

    def add(self, adapter: EmotionAdapter, name: str | None, own: tuple[str, ...]) -> str:
        """Add an adapter; its name.

        Args:
            name: of the adapter, and of its emotion, if it has one. Default: the emotion's own name.
            own: names that the model's own emotions have.

        Raises:
            UserError: the name, or that of an emotion, is taken or cannot be used.
        """
        if name is not None:
            check_name(name, "An adapter")
        if name is not None and len(adapter.config.emotions) == 1:
            adapter = replace(adapter, config=adapter.config.changed(emotions=(name,)))
        name = name or "+".join(adapter.config.emotions)
        for part in adapter.parts.values():
            part.eval().requires_grad_(False)
        with self._changing:
            for emotion in adapter.config.emotions:
                if emotion in (*own, *self.emotions):
                    raise UserError(f"There is an emotion {emotion!r} already; give the adapter another name.")
            if name in self._adapters:
                raise UserError(f"There is an adapter {name!r} already; unload it first, or give another name.")
            self._adapters = {**self._adapters, name: adapter}
        return name

    def remove(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            UserError: there is none of that name.
        """
        with self._changing:
            self.find(name)
            self._adapters = {other: adapter for other, adapter in self._adapters.items() if other != name}

    def find(self, name: str) -> EmotionAdapter:
        """The adapter of a name.

        Raises:
            UserError: there is none.
        """
        if name not in self._adapters:
            loaded = ", ".join(self._adapters) or "none"
            raise UserError(f"There is no adapter {shown(name)}; loaded: {loaded}.")
        return self._adapters[name]

    def adapt(self, networks: Networks, device: torch.device | str) -> tuple[Adaptation, ...]:
        """What each of them makes of some networks that run on a device."""
        adapters = self._adapters.values()
        for adapter in adapters:
            adapter.to(device)
        return tuple(adapter.adapt(networks) for adapter in adapters)
