"""Emotions that a classifier of transformers hears in a voice."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..constants import SAMPLING_RATE
from ..errors import RepositoryError
from ..hub.client import explained
from ..inputs.voice_emotion import WINDOW, emotion_timeline, heard_windows, label_emotions, window_starts
from ..media.files import one_line
from .pretrained_speech import fetch_pretrained, load_pretrained, make_extractor, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILIES = (
    "audio-spectrogram-transformer", "data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat",
    "wav2vec2", "wav2vec2-bert", "wav2vec2-conformer", "wavlm", "whisper",
)  # fmt: skip
BATCH = 8  # windows that are heard at a time


@dataclass(frozen=True, eq=False)
class VoiceEmotionModel:
    """A model for audio classification whose labels are emotions, for `emotion="voice"`.

    Attributes:
        name: where it came from.
        model: frozen.
        extractor: makes its input of sound.
        labels: what it tells apart.
        table: emotions by label, where the labels' names do not say enough.
    """

    name: str
    model: "PreTrainedModel"
    extractor: Any
    labels: tuple[str, ...]
    table: Mapping[str, str]

    @classmethod
    def load(
        cls,
        path_or_id: str | os.PathLike,
        labels: Mapping[str, str] | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> "VoiceEmotionModel":
        """Read a model that transformers has for audio classification: a folder, or a repository of the Hub.

        Safetensors only, and none of a repository's own code.

        Args:
            labels: emotions by label, such as {"LABEL_0": "happy"}. Default: the usual names are known, see
                `inputs.voice_emotion.LABELS`.
            options: of the Hub, such as `revision` and `token`.

        Raises:
            RepositoryError: there is none, it cannot be had, or its settings and weights are not such a model's.
        """
        from transformers import AutoModelForAudioClassification  # seconds, which only those shall wait who use it

        with explained(path_or_id):
            folder = fetch_pretrained(path_or_id, **options)
            config = read_config(folder, FAMILIES)
            names = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
            extractor = make_extractor(folder, config)
            model = load_pretrained(folder, AutoModelForAudioClassification, config)
        found = cls(os.fspath(path_or_id), model.to(device), extractor, names, dict(labels or {}))
        found.hear([np.zeros(SAMPLING_RATE, np.float32)])  # a mistake in it shall be known before anything else is done
        return found

    @torch.no_grad()
    def hear(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """(N,) samples at 16 kHz each, all of one length -> probabilities of the labels (sounds, labels).

        Raises:
            RepositoryError: the model does not hear them, or what it says is no number.
        """
        try:
            read = self.extractor(list(sounds), sampling_rate=SAMPLING_RATE, return_tensors="pt")
            inputs = {name: value.to(self.model.device) for name, value in read.items() if name.startswith("input_")}
            logits = self.model(**inputs, return_dict=True).logits.float()
        except Exception as error:  # of many kinds: whatever a stranger's settings make of it
            raise RepositoryError(f"The model {self.name} cannot hear sound: {one_line(error)[:200]}.") from error
        if logits.shape != (len(sounds), len(self.labels)) or not torch.isfinite(logits).all():
            raise RepositoryError(f"The model {self.name} does not give a number for each of its labels.")
        return logits.softmax(1).cpu().numpy()

    def timeline(
        self,
        waveform: np.ndarray,
        emotions: Sequence[str],
        progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    ) -> list[tuple[float, dict[str, float]]]:
        """What a voice feels, as `EATPipeline` takes it, see `inputs.voice_emotion.emotion_timeline`.

        Args:
            waveform: (N,) at 16 kHz in [-1, 1].
            emotions: that there are.
            progress: shows how far the hearing has come.

        Raises:
            UserError: no label is known, or the table says what is not there; or, of a silent voice, no emotion is
                neutral.
        """
        meanings = label_emotions(self.labels, emotions, self.table)
        starts, size = window_starts(len(waveform)), round(WINDOW * SAMPLING_RATE)
        batches = [starts[k : k + BATCH] for k in range(0, len(starts), BATCH)]
        said = [self.hear([waveform[start : start + size] for start in batch]) for batch in progress(batches)]
        return emotion_timeline(np.concatenate(said), heard_windows(waveform), len(waveform), meanings)
