"""The sheets that show a corpus' people."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("numba")

from eat_hf.errors import UserError  # noqa: E402
from training.experiments import corpus_sheets  # noqa: E402
from training.experiments.contact_sheet import HEADER  # noqa: E402


def test_two_sheets_are_drawn(tmp_path):
    corpus_sheets.main(["--output", str(tmp_path / "sheets"), "--people", "2", "--closeups", "1", "--size", "64"])
    people, expressions = (Image.open(tmp_path / "sheets" / f"{name}.jpg") for name in ("people", "expressions"))
    assert people.size == (HEADER + 8 * 64, HEADER + 64) and expressions.size == (HEADER + 16 * 64, HEADER + 64)
    tiles = np.asarray(expressions)[HEADER:, HEADER:].reshape(64, 16, 64, 3).swapaxes(0, 1).astype(int)
    assert all(tile.std() > 10 for tile in tiles)
    neutral, said = tiles[0], tiles[-3]
    assert np.abs(said - neutral)[36:].mean() > 2 * np.abs(said - neutral)[:28].mean()  # "ah" opens the mouth alone


def test_sheets_without_people_are_refused(tmp_path):
    with pytest.raises(UserError, match="at least one person"):
        corpus_sheets.main(["--output", str(tmp_path / "sheets"), "--people", "0"])
    assert not (tmp_path / "sheets").exists()
