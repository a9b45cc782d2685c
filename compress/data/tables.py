"""Tables of text as people have them: commas, semicolons, tabs, bars or spaces part columns."""

import codecs
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from compress.data.image_files import SUFFIXES, is_image
from compress.utils.errors import UserError

SEPARATORS = ",;\t"
BAR = "|"  # as databases print tables; in others' cells it parts several labels
WITHOUT_HEADER = ["path", "label"]  # what the columns of a list without a header are called


class Table(NamedTuple):
    """The cells of each row by column, and the line of the file that it ends on."""

    header: list[str]
    rows: list[dict[str, str]]
    lines: list[int]
    separator: str

    def number(self, row: dict[str, str], column: str) -> float | None:
        """A cell as a number; where no comma parts the columns, one may part decimals.

        None: it is empty, no number, or says that there is none (`nan`, as pandas writes it).
        """
        text = row[column].replace(",", ".") if self.separator in ";\t|" else row[column]
        try:
            found = float(text)
        except ValueError:
            return None
        return found if math.isfinite(found) else None


def read_csv(path: Path) -> Table:
    """Reads a table with a header line; what parts its columns is what parts its first line most.

    A list of images and labels needs no header: its columns are WITHOUT_HEADER. Such lists may
    have spaces between the two, as Caffe's do. Blank lines are left out.

    Raises:
        UserError: no text in UTF-8 (or UTF-16), nothing in it, a quote that is not closed, or a row
            that is longer or shorter than the header.
    """
    try:
        raw = path.read_bytes()
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = raw.decode("utf-16" if wide else "utf-8-sig")
        separator = _separator(text)
        if (line := _unclosed(text, separator)) is not None:
            raise UserError(
                f"{path}:{line}: a quote that opens here is not closed where its cell ends: close "
                "it, or remove it; quotes within quoted cells are written twice."
            )
        records = list(_records(text, separator))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} is not a CSV file in UTF-8: {error}. Save the table as CSV in UTF-8, or give "
            "the folder of images."
        ) from error
    if not records:
        raise UserError(f"{path} is empty: it needs a header line and one line an image.")
    header = [cell.strip() for cell in records[0][1]]
    if len(header) == 2 and Path(header[0]).suffix.lower() in SUFFIXES:
        header = WITHOUT_HEADER
    else:
        del records[0]
    for line, cells in records:
        if len(cells) != len(header):
            raise UserError(
                f"{path}:{line}: expected {len(header)} columns ({','.join(header)}), and there "
                f"are {len(cells)}: correct the line, or quote what holds the separator."
            )
    rows = [dict(zip(header, cells, strict=True)) for _, cells in records]
    return Table(header, rows, [line for line, _ in records], separator)


def _separator(text: str) -> str:
    """The one that makes most columns of the first line; bars or spaces where no other parts it."""
    firsts = {mark: next(_records(text, mark), (0, [""]))[1] for mark in SEPARATORS}
    best = max(SEPARATORS, key=lambda mark: len(firsts[mark]))
    (first, *others) = firsts[best]
    if others:
        return best
    image, *label = first.rsplit(None, 1)[:2] or [""]
    if BAR in first and not (label and is_image(Path(image))):
        return BAR
    return " " if len(first.split()) > 1 else best


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Gives the cells of each line that is not blank, with its number."""
    lines = io.StringIO(text, newline="")
    if separator == " ":  # the last word is the label: names may have spaces in them
        parted = ((n, line.rsplit(None, 1)) for n, line in enumerate(lines, 1))
    else:
        reader = csv.reader(lines, **_form(separator))
        parted = ((reader.line_num, cells) for cells in reader)
    return ((n, cells) for n, cells in parted if any(cell.strip() for cell in cells))


def _unclosed(text: str, separator: str) -> int | None:
    """Return the first line of a row that goes on over others for a quote that is not closed.

    Such a row would swallow them. Quotes that stand loose within a line are read as they are.
    """
    if '"' not in text or separator == " ":
        return None
    lines = [*io.StringIO(text, newline=""), "\n"]  # for a row to go on to, behind the last
    reader, done = csv.reader(lines, **_form(separator)), 0
    try:
        for _ in reader:
            if reader.line_num > done + 1:
                list(csv.reader(lines[done : reader.line_num], strict=True, **_form(separator)))
            done = reader.line_num
    except csv.Error:  # also of a cell that has become too long
        return done + 1
    return None


def _form(separator: str) -> dict[str, Any]:
    return {"delimiter": separator, "skipinitialspace": separator != "\t"}
