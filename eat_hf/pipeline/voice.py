"""The voice's own feeling: which model hears it, read on first use and kept."""

import os
import threading
from collections.abc import Mapping
from dataclasses import replace

import torch

from ..constants import VOICE_EMOTION_VARIABLE
from ..errors import UserError
from ..models.voice_emotion_model import VoiceEmotionModel

VoiceEmotionInput = str | os.PathLike | VoiceEmotionModel


def find_voice_emotion(given: VoiceEmotionInput | None = None) -> VoiceEmotionInput:
    """The model that hears emotions: as given, or the environment's choice.

    Raises:
        UserError: there is none.
    """
    found = given or os.environ.get(VOICE_EMOTION_VARIABLE)
    if not found:
        raise UserError(
            "Which model hears the voice's emotions? Name one of transformers for audio classification, by folder or "
            f"Hub id, with voice_emotion= (--voice-emotion) or ${VOICE_EMOTION_VARIABLE}; none is bundled."
        )
    return found


class VoiceEmotionModels:
    """The models that a pipeline, and its views, were asked to hear with; the last one is kept."""

    def __init__(self) -> None:
        self._last: tuple[str, VoiceEmotionModel] | None = None
        self._reading = threading.Lock()

    def get(
        self, given: VoiceEmotionInput | None, labels: Mapping[str, str] | None, device: torch.device
    ) -> VoiceEmotionModel:
        """The model that is meant.

        Args:
            given: folder, Hub id, or a model that was loaded; None is the environment's choice.
            labels: emotions by label; None is what a loaded model has, or the usual ones.

        Raises:
            UserError: none is named, or it cannot be had.
        """
        place = find_voice_emotion(given)
        if isinstance(place, VoiceEmotionModel):
            return place if labels is None else replace(place, table=dict(labels))
        with self._reading:
            key = os.fspath(place)
            if self._last is None or self._last[0] != key:
                self._last = key, VoiceEmotionModel.load(place)
            model = self._last[1]
            model.model.to(device)
        return replace(model, table=dict(labels or {}))
