"""CSV files as spreadsheets write them."""

import pytest

from eat_hf.cli.spreadsheet import read_table
from eat_hf.errors import UserError

TABLE = "image,audio,output\nMüller.png,a.wav,a.mp4\n"


def read(tmp_path, content):
    path = tmp_path / "jobs.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path)


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),
        TABLE.rstrip(),
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", ", "),
        TABLE.replace(",", " , "),
        "sep=;\r\n" + TABLE.replace(",", ";"),
        '"sep=;"\r\n' + TABLE.replace(",", ";"),
        "sep=|\n" + TABLE.replace(",", "|"),
        "\n\n" + TABLE + "\n,,\n , ,\n",
        TABLE.replace("\n", ",,\n"),
        TABLE.replace("image", "Image").replace("audio", "AUDIO"),
        '"image","audio","output"\n"Müller.png","a.wav","a.mp4"\n',
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        TABLE.encode("utf-16-le"),
        TABLE.encode("utf-16-be"),
        TABLE.replace(",", "\t").encode("utf-16"),
        TABLE.encode("cp1252"),
    ],
)
def test_every_way_to_write_a_table(tmp_path, content):
    table = read(tmp_path, content)
    assert table.columns == ("image", "audio", "output")
    [row] = table.rows
    assert row.values == {"image": "Müller.png", "audio": "a.wav", "output": "a.mp4"} and not row.surplus


def test_lines_count_as_editors_count_them(tmp_path):
    table = read(tmp_path, 'sep=,\nimage,audio\n\na,"b\nc"\nd,e\n')
    assert [(row.line, row.values) for row in table.rows] == [
        (5, {"image": "a", "audio": "b\nc"}),
        (6, {"image": "d", "audio": "e"}),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "lists no jobs"),
        (" \n,,\n", "lists no jobs"),
        ("image,image\na,b\n", "two columns 'image'"),
        ('image,audio\na,"b\nc,d\n', "line 3: unexpected end of data"),
        ("image,audio\n" + "x" * 200_000 + ",b\n", "field larger"),
        (b"image,audio\n\x81,b\n", "cannot be read"),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path, content, words):
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
