"""CSV files as people's spreadsheets write them, without being told which program, country or decade it was.

Commas, semicolons or tabs; Excel's first line `sep=;`; UTF-8 or UTF-16 with or without a mark, or Windows-1252; spaces
around values; empty rows and columns.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError, shown
from ..media.files import one_line

LARGEST = 64 * 2**20  # bytes, a million lines of a manifest
DELIMITERS = ",;\t"
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Row:
    """A row that is not empty.

    Attributes:
        line: of the file, from 1, where it ends.
        values: by column, those that are not empty.
        surplus: whether there are values beyond the columns that have names.
    """

    line: int
    values: dict[str, str]
    surplus: bool


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        columns: their names, in small letters, with _ in place of spaces and hyphens.
        decimal_comma: whether numbers may be written 0,5, as where values are separated by something else.
    """

    columns: tuple[str, ...]
    rows: list[Row]
    decimal_comma: bool


def read_table(path: Path) -> Table:
    """A file whose first row names its columns.

    Raises:
        UserError: it cannot be read, is none, or two columns have one name.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UserError(f"The manifest {path} is larger than {LARGEST // 2**20} MB; split it.")
        text = _decoded(data)
        text, delimiter = _delimited(text)
        rows = list(_rows(text, delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The manifest {path} cannot be read ({one_line(error)}).") from error
    if not rows:
        raise UserError(f"The manifest {path} lists no jobs.")
    columns = tuple(re.sub(r"[\s-]+", "_", name.casefold()) for name in rows[0][1])
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice:
        raise UserError(f"The manifest {path} has two columns {shown(twice)}.")
    found = []
    for line, cells in rows[1:]:
        named = {name: cell for name, cell in zip(columns, cells, strict=False) if name and cell}
        surplus = len(named) < sum(map(bool, cells))
        found.append(Row(line, named, surplus))
    return Table(tuple(filter(None, columns)), found, delimiter != ",")


def _decoded(data: bytes) -> str:
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding)
    if data[1:2] == b"\0" or data[:1] == b"\0":  # every other byte of plain letters
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _delimited(text: str) -> tuple[str, str]:
    """The text of the table, and what separates its values."""
    said = re.match(r'"?sep=(.)"?[,;\t]*(?:\r\n|\r|\n)', text, re.IGNORECASE)
    if said:
        # the line stays, empty, so that lines count as the user sees them
        return "\n" + text[said.end() :], said[1]
    head = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    return text, max(DELIMITERS, key=head.count)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, values without the spaces around them) of every row that is not empty."""
    # strict: a quote that is never closed would swallow all that follows
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from error
