"""Which emotions a judge takes for which, whence its accuracy (Acc_emo, paper section 4.1)."""

from collections.abc import Sequence

import numpy as np

from ...errors import UserError


def confusion_matrix(true: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(C, C) int64: clips of the emotion of the row that were taken for that of the column.

    Args:
        true: the emotion each clip was made with.
        predicted: the one the judge saw.
        classes: all that the judge tells apart, in the order of rows and columns.

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
    return confusion
