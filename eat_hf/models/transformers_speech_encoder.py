"""Speech encoders of the Hub: wav2vec2, HuBERT, WavLM and Whisper of transformers, as A2ET reads them."""

import math
import os
from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..constants import SAMPLING_RATE
from ..errors import RepositoryError
from ..hub.client import explained
from ..inputs.audio import SPEECH_ROW
from .base_speech_encoder import BaseSpeechEncoder
from .pretrained_speech import fetch_pretrained, load_pretrained, make_config, make_extractor, read_config

FAMILIES = ("hubert", "wav2vec2", "wavlm", "whisper")
RECEPTIVE = 400  # samples that a row of the first three is made of
BLOCK = 1500  # rows, half a minute, that are heard at a time; Whisper hears no more
SPARE = 6  # of a block, that part at either end is heard for the sake of the rows between


class TransformersSpeechEncoder(BaseSpeechEncoder):
    """Speech at 16 kHz -> windows of the hidden states of a network that was trained on speech, frozen.

    For those who train A2ET on data of their own. It hears what is before and after, up to half a minute at a time, so
    it is none for live sound. It is saved with its weights, and loaded as every component.

    Args:
        encoder: configuration of transformers, with its `model_type`: one of `FAMILIES`, of Whisper the encoder alone.
        classes: width of a row, the network's hidden size.
        window: rows in one frame's window.
        normalize: whether each clip is brought to mean 0 and variance 1, as the network was trained. Whisper's spectra
            are what they are.

    Raises:
        ValueError: there is no such network, its rows are not 50 a second, or `classes` is not their width.
    """

    _no_split_modules = ["TransformersSpeechEncoder"]  # weight norms read weights of their parts

    @register_to_config
    def __init__(self, encoder: dict[str, Any], classes: int, window: int = 16, normalize: bool = True):
        super().__init__()
        self.network: Any = _build(encoder)
        self.network.requires_grad_(False)
        width = int(self.network.config.hidden_size)
        if width != classes:
            raise ValueError(f"classes must be the width of a row, which is {width}, got {classes}.")

    @classmethod
    def from_transformers(
        cls, path_or_id: str | os.PathLike, *, layers: int | None = None, window: int = 16, **options: Any
    ) -> Self:
        """Take a network of transformers: a folder, or a repository of the Hub; safetensors only, and no code of it.

        Args:
            layers: how many layers of its transformer are used; None is all. Those in the middle know most of sounds.
            window: rows in one frame's window, as A2ET reads them (`semantic_steps`).
            options: of the Hub, such as `revision` and `token`.

        Raises:
            RepositoryError: there is none, it cannot be had, or it is no such network.
        """
        with explained(path_or_id):
            folder = fetch_pretrained(path_or_id, **options)
            config = read_config(folder, FAMILIES)
            name = "encoder_layers" if config.model_type == "whisper" else "num_hidden_layers"
            if layers is not None:
                there = getattr(config, name)
                if not 1 <= layers <= there:
                    raise RepositoryError(f"{path_or_id} has {there} layers, so layers cannot be {layers}.")
                setattr(config, name, layers)
            settings = {key: value for key, value in config.to_diff_dict().items() if key not in _BESIDE}
            settings["model_type"] = config.model_type
            normalize = config.model_type != "whisper" and bool(make_extractor(folder, config).do_normalize)
            try:
                _check_rows(config)
            except ValueError as error:
                raise RepositoryError(f"{folder / 'config.json'} cannot be used; {error}.") from error
            part = "encoder" if config.model_type == "whisper" else ""
            network = load_pretrained(folder, _kind(config), config, part)
        encoder = cls(settings, config.hidden_size, window, normalize)
        encoder.network = network
        return encoder.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode whatever `mode` says: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def rows(self, waveform: Tensor) -> Tensor:
        """See `BaseSpeechEncoder`; longer clips are heard in blocks of half a minute, whose ends are left out."""
        return torch.cat([self._rows(clip)[None] for clip in waveform.float()])

    def _rows(self, clip: Tensor) -> Tensor:
        if self.config.normalize:
            clip = (clip - clip.mean()) / (clip.var(unbiased=False) + 1e-7).sqrt()
        count = max(1, round(len(clip) / SPEECH_ROW))
        most = min(BLOCK, getattr(self.network.config, "max_source_positions", BLOCK))
        if count <= most:
            return self._block(clip, 0, count)
        spare, found = most // SPARE, []
        step = most - 2 * spare
        for first in range(0, count, step):
            start, last = max(0, first - spare), min(count, first + step)
            heard = self._block(clip, start, min(count, last + spare) - start)
            found.append(heard[first - start : last - start])
        return torch.cat(found)

    def _block(self, clip: Tensor, first: int, count: int) -> Tensor:
        """Rows `first` and so many after it of a clip (N,): (count, classes)."""
        if self.network.config.model_type == "whisper":
            return self._whisper(clip[first * SPEECH_ROW : (first + count) * SPEECH_ROW], count)
        # a row's sound is around its time
        begin = first * SPEECH_ROW - RECEPTIVE // 2
        end = (first + count - 1) * SPEECH_ROW + RECEPTIVE // 2
        part = F.pad(clip[max(0, begin) : end], (max(0, -begin), max(0, end - len(clip))))
        return self.network(part[None].to(self.dtype), return_dict=True).last_hidden_state[0]

    def _whisper(self, part: Tensor, count: int) -> Tensor:
        from transformers import WhisperFeatureExtractor

        rows = self.network.config.max_source_positions
        extractor = WhisperFeatureExtractor(feature_size=self.network.config.num_mel_bins)
        samples = F.pad(part, (0, max(0, rows * SPEECH_ROW - len(part)))).cpu().numpy()
        read = extractor(samples, sampling_rate=SAMPLING_RATE, return_tensors="pt", padding=False, truncation=False)
        spectrum = read.input_features[..., : 2 * rows].to(self.device, self.dtype)
        return self.network(spectrum, return_dict=True).last_hidden_state[0, :count]


# of a configuration, what says nothing about the encoder
_BESIDE = ("architectures", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id", "_name_or_path")


def _kind(config: Any) -> Any:
    """The class of the network that is the encoder of a configuration."""
    from transformers import AutoModel

    if config.model_type == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder
    return AutoModel


def _build(settings: Mapping[str, Any]) -> Any:
    if settings.get("model_type") not in FAMILIES:
        raise ValueError(f"encoder must be of one of {', '.join(FAMILIES)}, got {settings.get('model_type')!r}.")
    config = make_config(settings)
    _check_rows(config)
    kind = _kind(config)
    return kind(config) if config.model_type == "whisper" else kind.from_config(config)


def _check_rows(config: Any) -> None:
    """Raise a ValueError for a network whose rows are not 50 a second, each around its time."""
    if config.model_type == "whisper":
        return
    strides, kernels = list(config.conv_stride), list(config.conv_kernel)
    receptive = 1 + sum((kernel - 1) * math.prod(strides[:n]) for n, kernel in enumerate(kernels))
    if math.prod(strides) != SPEECH_ROW or receptive != RECEPTIVE or getattr(config, "add_adapter", False):
        raise ValueError("its rows are not 50 a second")
