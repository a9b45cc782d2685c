"""Which columns of a table hold images, labels and splits.

Known names of columns are taken in the order of IMAGE_COLUMNS and LABEL_COLUMNS; names are compared
without capitals, spaces and underscores.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.data.dataset import Split
from compress.data.image_files import is_image
from compress.data.split_names import HELD_OUT, SPLITS, split_file
from compress.data.tables import Table
from compress.utils.errors import UserError

# By preference.
IMAGE_COLUMNS = (
    *("image", "path", "file", "filename", "image", "img", "imagepath", "imgpath", "filepath"),
    *("imagename", "imgname", "imagefile", "imageid", "name", "id"),
)
LABEL_COLUMNS = ("label", "class", "target", "category", "labelname", "classname")
LAST_LABEL_COLUMNS = ("id",)  # of individuals; often of images or patients
# What cells say, which have more words for it than tables and folders.
SPLIT_CELLS: dict[str, Split] = SPLITS | {"training": "train"}
HELD_OUT_CELLS = {HELD_OUT, "testing"}
SPLIT_FLAGS = {"isvalid", "isval", "isvalidation", "istest", "istrain", "fold", "kfold"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are taken for what."""

    image: str
    labels: tuple[str, ...]  # one, or one of 0 and 1 for each class; none where points are asked
    split: str | None = None
    rows: bool = False  # whether the truth of an image is its row, cells by column
    several: bool = False  # whether an image may have several rows: its truth is a list of them

    def label(self, table: Table, row: dict[str, str]) -> str:
        """A row's class; empty where it has none, or several."""
        if len(self.labels) == 1:
            return unicodedata.normalize("NFC", row[self.labels[0]].strip())
        ones = [name for name in self.labels if table.number(row, name) == 1]
        return unicodedata.normalize("NFC", ones[0]) if len(ones) == 1 else ""

    def are_in(self, table: Table) -> bool:
        """Whether another table has the same columns."""
        return {self.image, *self.labels} <= set(table.header)

    @property
    def no_label(self) -> str:
        """What is wrong with a row whose label is empty."""
        if len(self.labels) == 1:
            return "has an empty label (leave unlabelled images out of the table)"
        return f"must have 1 in exactly one of the columns {_some(self.labels)}, and 0 in the rest"

    def describe(self) -> str:
        """In words, for a note."""
        said = [f"images from the column {self.image!r}"]
        if len(self.labels) == 1:
            said.append(f"labels from {self.labels[0]!r}")
        elif self.labels:
            said.append(f"labels from {len(self.labels)} columns of 0 and 1, {_some(self.labels)}")
        if self.split is not None:
            said.append(f"splits from {self.split!r}")
        return ", ".join(said)


def choose_columns(
    table: Table, path: Path, image: str | None, label: str | None, labels: bool = True
) -> Columns:
    """Says which columns hold the images and the labels.

    Args:
        image: the column that the user names; likewise `label`.

    Raises:
        UserError: none that is known, or not the one that was named.
    """
    image = column_of_images(table, path, image)
    others = [name for name in table.header if name and name != image]
    taken: tuple[str, ...] = ()
    if labels:
        taken = (label,) if label is not None else _label_columns(table, others)
        _require(next(iter(taken), None), "label", table, path)
    return Columns(image, taken)


def column_of_images(table: Table, path: Path, named: str | None = None) -> str:
    """Return the column of images: the one that is named, or else the first that is known.

    Raises:
        UserError: there is none.
    """
    found = next(_known(table.header, IMAGE_COLUMNS), None) if named is None else named
    _require(found, "image", table, path)
    assert found is not None
    return found


def split_column(table: Table, columns: Columns, path: Path, notes: list[str]) -> str | None:
    """The column `split`, if it names splits and no split.csv does; a note says if it does not.

    So does one of a column of another name that may tell splits.
    """
    found = next(_known(table.header, ("split",)), None)
    other = next((x for x in table.header if found is None and _may_tell_splits(x, table)), None)
    of_others = {columns.image, *columns.labels, None}
    if other not in of_others and split_file(path.parent) is None:
        notes.append(
            f"{path.name}: the column {other!r} may tell splits, and is not used: call it split, "
            "with the words train and validation"
        )
    if found is None or found in columns.labels or split_file(path.parent) is not None:
        return None
    cells = {plain(row[found]) for row in table.rows}
    if cells.isdisjoint({*SPLIT_CELLS, *HELD_OUT_CELLS}):
        why = f"it names neither train nor validation nor {HELD_OUT}"
    elif cells <= HELD_OUT_CELLS:  # such a table is there to be judged, and has nothing else
        why = f"all rows are of one split, {HELD_OUT}"
    else:
        return found
    notes.append(f"{path.name}: the column {found!r} is not used: {why}")
    return None


def _may_tell_splits(column: str, table: Table) -> bool:
    if _bare(column) in SPLIT_FLAGS:
        return True
    cells = {plain(row[column]) for row in table.rows}
    return len(cells) > 1 and cells <= {*SPLIT_CELLS, *HELD_OUT_CELLS}


def plain(cell: str) -> str:
    """Return a cell's word without capitals and the spaces round it."""
    return cell.strip().lower()


def _known(header: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Gives the columns of known names, in the order of these."""
    plain = [_bare(name) for name in header]
    return (header[plain.index(name)] for name in names if name in plain)


def like(
    columns: Columns, answers: Sequence[str], header: Sequence[str]
) -> tuple[str | None, list[str]]:
    """Return the columns of images and of labels of another table; none where it has none.

    Args:
        answers: the columns of labels, or those that take their place, of the first table.
    """
    image = next(_known(header, (_bare(columns.image), *IMAGE_COLUMNS)), None)
    wanted = [_bare(name) for name in answers if name != columns.image]
    found = list(_known(header, wanted))
    if len(found) < len(wanted):
        found = list(_known(header, LABEL_COLUMNS))[:1] if columns.labels else []
    return image, [name for name in found if name != image]


def _bare(name: str) -> str:
    """Return a column's name without capitals, spaces and underscores."""
    return re.sub(r"[\W_]", "", name).lower()


def _label_columns(table: Table, others: list[str]) -> tuple[str, ...]:
    if len(others) == 1:
        return (others[0],)
    if found := next(_known(others, LABEL_COLUMNS), None):
        return (found,)
    flags = tuple(n for n in others if all(table.number(row, n) in (0, 1) for row in table.rows))
    if table.rows and len(flags) > 1:
        return flags
    return tuple(_known(others, LAST_LABEL_COLUMNS))


def _require(column: str | None, kind: str, table: Table, path: Path) -> None:
    shown = ", ".join(table.header)
    if column is None:
        hint = " If that is an image already, add a header line, such as path,label."
        raise UserError(
            f"{path}: which column holds the {kind}s? It has {shown}; set data.{kind}_column in "
            f"the recipe.{hint if is_image(Path(table.header[0])) else ''}"
        )
    if column not in table.header:
        raise UserError(f"{path} has no column {column!r}; it has {shown}.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
