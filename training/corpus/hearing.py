"""How much of what is said a speech encoder hears, by kind of voice."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import torch

from eat_hf.animation.networks import SpeechEncoder
from eat_hf.inputs.audio import SEMANTIC_RATE
from training.corpus.visemes import LIP_SHAPES, frame_classes, shape_of_class
from training.data.dataset import Clip

SHUT = LIP_SHAPES.index("closed")


def kind_of_voice(clip: Clip) -> str:
    """Such as "espeak test" or, for a reader, "recording ljspeech validation"; of a corpus of people "people test"."""
    source = clip.metadata.get("source", "people")
    return " ".join([source, *([str(clip.identity)] if source == "recording" else []), clip.split])


def spoken_classes(clip: Clip, rows: int) -> np.ndarray:
    """(rows,) indices into ``PHONEME_CLASSES``, 50 a second.

    Raises UserError for a clip without phonemes."""
    labels = clip.labels("phonemes", "phoneme_times")
    return frame_classes([str(symbol) for symbol in labels["phonemes"]], labels["phoneme_times"], rows, SEMANTIC_RATE)


@torch.no_grad()
def guessed_classes(encoder: SpeechEncoder, waveform: np.ndarray) -> np.ndarray:
    """(rows,) indices into ``PHONEME_CLASSES`` of (N,) samples at 16 kHz, 50 a second."""
    return encoder.rows(torch.from_numpy(waveform)[None].to(encoder.device))[0, :, :-1].argmax(-1).cpu().numpy()


def shares_right(spoken: np.ndarray, guessed: np.ndarray) -> dict[str, float]:
    """Of classes (rows,) that were spoken and guessed: the share of rows whose class is right, of all and of those with
    speech; whose lip shape is right, of all and of those with speech; and of p, b, m how many are heard as one of them.
    What cannot be told, for want of rows, is not there."""
    speech, shapes, heard = spoken > 0, shape_of_class(spoken), shape_of_class(guessed)
    shares = {
        "rows": guessed == spoken,
        "rows_speech": (guessed == spoken)[speech],
        "shapes": heard == shapes,
        "shapes_speech": (heard == shapes)[speech],
        "closed": (heard == SHUT)[shapes == SHUT],
        "silence": (guessed == 0)[~speech],
    }
    return {name: round(float(right.mean()), 4) for name, right in shares.items() if len(right)}


def measure(encoder: SpeechEncoder, clips: Iterable[Clip]) -> dict[str, dict[str, float]]:
    """`shares_right` by `kind_of_voice`, with the number of seconds."""
    spoken, guessed = defaultdict(list), defaultdict(list)
    for clip in clips:
        heard = guessed_classes(encoder, clip.waveform())
        spoken[kind_of_voice(clip)].append(spoken_classes(clip, len(heard)))
        guessed[kind_of_voice(clip)].append(heard)
    return {
        kind: shares_right(np.concatenate(spoken[kind]), np.concatenate(guessed[kind]))
        | {"seconds": round(sum(map(len, spoken[kind])) / SEMANTIC_RATE)}
        for kind in sorted(spoken)
    }
