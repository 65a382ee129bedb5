"""How often a judge recognises the emotion that a clip was made with (Acc_emo, paper section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...errors import UserError


class Recall(NamedTuple):
    """Attributes:
    recall: share of the clips of one emotion that were recognised, in [0, 1].
    clips: how many there are of that emotion.
    """

    recall: float
    clips: int


@dataclass(frozen=True)
class EmotionAccuracy:
    """Attributes:
    accuracy: share of all clips that were recognised, in [0, 1].
    per_class: of every emotion that occurs, in the order of `classes`.
    confusion: (C, C) int64, clips of the emotion of the row taken for that of the column.
    classes: names of rows and columns.
    """

    accuracy: float
    per_class: dict[str, Recall]
    confusion: np.ndarray
    classes: tuple[str, ...]


def accuracy(true: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> EmotionAccuracy:
    """Top-1 accuracy over clips.

    Args:
        true: the emotion each clip was made with.
        predicted: the one the judge saw.
        classes: all that the judge tells apart.

    Raises:
        UserError: no clips, lists of different length, or a name that is not among the classes.
    """
    if len(true) != len(predicted):
        raise UserError(f"{len(true)} labels do not fit {len(predicted)} predictions.")
    if not true:
        raise UserError("There is no clip with a known emotion to judge; add labels.")
    number = {name: i for i, name in enumerate(classes)}
    for name in (*true, *predicted):
        if name not in number:
            raise UserError(f"The judge does not know the emotion {name!r}, only {', '.join(classes)}.")
    confusion = np.zeros((len(number), len(number)), np.int64)
    np.add.at(confusion, ([number[name] for name in true], [number[name] for name in predicted]), 1)
    per_class = {
        name: Recall(float(confusion[i, i] / confusion[i].sum()), int(confusion[i].sum()))
        for name, i in number.items()
        if confusion[i].any()
    }
    return EmotionAccuracy(float(np.trace(confusion) / len(true)), per_class, confusion, tuple(classes))
