"""Files and folders are whole or not there, and what cannot be written is one sentence."""

import pytest

from eat_hf.errors import UserError
from eat_hf.media.files import unfinished_file, whole_file, whole_folder, write_atomically


def test_an_interrupted_write_keeps_the_older_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "report.txt"
    write_atomically(path, "first")
    with pytest.raises(KeyboardInterrupt), unfinished_file(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["report.txt"] and path.read_text() == "first"
    with whole_file(path) as unfinished:
        unfinished.write_text("second")
    assert path.read_text() == "second"


@pytest.mark.parametrize("name", ["/dev/full/x", "no_such_folder/x", "x" * 249])
def test_what_cannot_be_written_is_one_sentence(name, tmp_path):
    with pytest.raises(UserError, match="Cannot write .*x"):
        write_atomically(tmp_path / name, "text")
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "model"
    with pytest.raises(KeyboardInterrupt), whole_folder(path) as unfinished:
        (unfinished / "half").write_text("half")
        raise KeyboardInterrupt
    assert not list(path.parent.iterdir())
    with whole_folder(path) as unfinished:
        (unfinished / "config.json").write_text("{}")
    assert [each.name for each in path.iterdir()] == ["config.json"]
    with pytest.raises(UserError, match="Cannot write"), whole_folder(path) as unfinished:
        (unfinished / "other").write_text("")
    assert [each.name for each in path.iterdir()] == ["config.json"]
