"""Tables that name images, with their labels or with numbers, and what lies beside them.

`root/train.csv` (or the table that is given) has a column of paths and one of labels, or a column
of 0 and 1 for each class. Images lie beside it or in `imgs/` or `images/`; those there that no
table names are unlabelled. `validation.csv` (or `val.csv`, `valid.csv`) beside `train.csv` is the
validation split, what a `test.csv` with labels names is held out. A `split.csv` (Image,split), or a
column `split`, is honoured, of which all cells name splits, or none does. Further tables with the
same column of images annotate them with their numbers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from compress.data.columns import (
    HELD_OUT_CELLS,
    SPLIT_CELLS,
    Columns,
    choose_columns,
    column_of_images,
    like,
    plain,
    split_column,
)
from compress.data.dataset import Dataset, Sample, Split
from compress.data.image_files import ImageFiles, files_below, is_image, kinds
from compress.data.split_names import (
    HELD_OUT,
    OTHER_SPLITS,
    SPLITS,
    split_file,
    split_word,
    tables_in,
    tables_named,
)
from compress.data.tables import Table, read_csv
from compress.utils.errors import UserError

IMAGE_FOLDERS = ("imgs", "images")
MAX_FAULTS = 10  # shown; the rest is counted


class Source(NamedTuple):
    """A table, and the split of its images where the table's name or folder says so."""

    path: Path
    split: Split | None = None
    alone: bool = False  # whether it was given by itself, so that others beside it are not read


@dataclass
class _Reading:
    """What has been read so far."""

    images: dict[str, Sample] = field(default_factory=dict)  # by path
    held_out: set[str] = field(default_factory=set)  # paths
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_tables(
    root: Path,
    sources: Sequence[Source],
    image_column: str | None,
    label_column: str | None,
    labels: bool = True,
    rows: bool = False,
    several: bool = False,
) -> Dataset:
    """Reads tables, which lie in `root` or a folder of it, and the images that they name.

    Args:
        labels: whether there must be some; without, the tables' own numbers are annotations too.
        rows: whether the truth of an image is its row, the cells' text by column.
        several: whether it may have several of them: its truth is their list.

    Raises:
        UserError: everything that is wrong, in one message.
    """
    reading = _Reading()
    columns: Columns | None = None
    files = [ImageFiles(root, _folders(source.path)) for source in sources]
    for source, own in zip(sources, files, strict=True):
        table = read_csv(source.path)
        if columns is None or not columns.are_in(table):
            columns = choose_columns(table, source.path, image_column, label_column, labels)
        split = split_column(table, columns, source.path, reading.notes)
        columns = replace(columns, split=split, rows=rows, several=several)
        _read_rows(table, source, columns, own, reading)
    assert columns is not None
    answers = columns.labels or table.header
    _hold_out(root, sources[0].path, columns, answers, reading)
    _left_over(sources, columns, answers, reading)
    if reading.faults:
        named = sources[0].path if len(sources) == 1 else root
        raise UserError(listed(f"{named} has {_counted(reading.faults)}:", reading.faults))
    _annotate(sources, columns, files, reading)
    split_by_file(reading.images, root, files)
    images = (*reading.images.values(), *_unlabelled(root, sources, reading))
    return Dataset(root, images, notes=tuple(reading.notes))


def _folders(table: Path) -> list[Path]:
    """Where the images of a table may lie, besides beside it."""
    stems = dict.fromkeys((table.stem, table.stem.lower()))
    own = [name for stem in stems for name in (stem, f"{stem}_images")]
    if table.stem.lower() not in (*SPLITS, HELD_OUT):
        own += ["train", "train_images"]
    found = [table.parent / name for name in (*IMAGE_FOLDERS, *own)]
    return [folder for folder in found if folder.is_dir()] or [table.parent]


def _read_rows(
    table: Table, source: Source, columns: Columns, files: ImageFiles, reading: _Reading
) -> None:
    """Adds a table's images; what is wrong with its lines is added to the faults."""
    shown = source.path.relative_to(files.root).as_posix()
    reading.notes.append(f"{shown}: {columns.describe()}")
    splits = [plain(row[columns.split]) for row in table.rows] if columns.split else []
    drawn_later = bool(splits) and not any(SPLIT_CELLS.get(s) == "validation" for s in splits)
    for i, row in enumerate(table.rows):
        name = row[columns.image].strip()
        path, fault = files.find(name)
        label = columns.label(table, row) if columns.labels else None
        if path is None:
            pass
        elif label == "":
            fault = columns.no_label
        elif columns.labels and len(row[columns.labels[0]].strip().splitlines()) > 1:
            fault = "has a label of several lines: is a quote before it not closed?"
        elif (path in reading.images or path in reading.held_out) and not columns.several:
            fault = "is there twice"
        elif splits and splits[i] in HELD_OUT_CELLS:
            if path in reading.images:
                fault = "is in two splits"
            reading.held_out.add(path)
        elif splits and splits[i] not in SPLIT_CELLS:
            fault = (
                f"has {splits[i]!r} in the column {columns.split!r}: write train, validation or "
                f"{HELD_OUT}"
            )
        else:
            split = SPLIT_CELLS[splits[i]] if splits and not drawn_later else source.split
            before = reading.images.get(path)
            if path in reading.held_out or (before and before.split != split):
                fault = "is in two splits"
            truth: Any = row if columns.rows else None
            if columns.several:
                truth = [*(before.truth if before else []), row]
            reading.images[path] = Sample(path, label, split, truth=truth)
        if fault:
            reading.faults.append(f"{shown}:{table.lines[i]}: {name!r} {fault}")
    if reading.held_out:
        reading.notes.append(_held_out_note(len(reading.held_out), f"{shown} calls {HELD_OUT}"))


def _hold_out(
    root: Path, table: Path, columns: Columns, answers: Sequence[str], reading: _Reading
) -> None:
    """Leaves out what a test.csv names; its images without labels may be trained on as such.

    Args:
        answers: the columns that it has where it is one of labelled images.
    """
    test = next(iter(tables_named(table.parent, HELD_OUT)), None)
    if test is None or test == table:
        return
    read = read_csv(test)
    image, found = like(columns, answers, read.header)
    if image is None:
        reading.notes.append(f"{test.name} is not read, as it has no column of images")
        return
    if not any(row[name].strip() for row in read.rows for name in found):
        reading.notes.append(f"{test.name} has no labels: its images may be used as unlabelled")
        return
    files = ImageFiles(root, _folders(test))
    named = set()
    for line, row in zip(read.lines, read.rows, strict=True):
        name = row[image].strip()
        path, _ = files.find(name)
        if path in reading.images:
            what = f"{name!r} is in two splits: another table names it, too"
            reading.faults.append(f"{test.name}:{line}: {what}")
        elif path is not None:
            named.add(path)
    reading.held_out |= named
    reading.notes.append(_held_out_note(len(named), f"{test.name} names"))


def _left_over(
    sources: Sequence[Source], columns: Columns, answers: Sequence[str], reading: _Reading
) -> None:
    """Refuses tables that look like the labels of a split and are not read.

    Their images would be taken for unlabelled ones, and be trained on. Where a table of another
    name was given, that is meant, and said.

    Args:
        answers: the columns that a table of labelled images has.

    Raises:
        UserError: one that is not read.
    """
    first = sources[0].path
    if split_word(first.stem) in OTHER_SPLITS:  # given to be judged on
        return
    own = {source.path for source in sources} | set(tables_named(first.parent, HELD_OUT)[:1])
    if sources[0].alone:
        for table in tables_in(first.parent, ".csv", ".tsv", ".txt"):
            if table not in own and split_word(table.stem) in OTHER_SPLITS:
                reading.notes.append(
                    f"{table.name} is not read, as {first.name} was named: its images count as "
                    "unlabelled"
                )
        return
    for table in tables_in(first.parent):
        if not split_word(table.stem) or table in own:
            continue
        image, found = like(columns, answers, read_csv(table).header)
        if image is None or not found:
            continue
        raise UserError(
            f"{table} looks like the labels of a split, and is not read beside "
            f"{' and '.join(sorted(x.name for x in own))}: call it validation.csv or test.csv, "
            "add its rows to one of these, or move it elsewhere."
        )


def _held_out_note(count: int, named: str) -> str:
    return f"{count} images that {named} are held out: neither trained on nor judged by"


def _annotate(
    sources: Sequence[Source], columns: Columns, files: Sequence[ImageFiles], reading: _Reading
) -> None:
    """Adds the numbers of all tables that have the column of images."""
    own = {source.path for source in sources}
    beside = {p for path in own for p in tables_in(path.parent)}
    for path in sorted(beside - own if columns.labels else beside | own):
        table = read_csv(path)
        if columns.image not in table.header:
            continue
        for row in table.rows:
            name = row[columns.image].strip()
            found = _of(reading.images, name, files)
            if found is not None:
                numbers = {k: v for k in table.header if (v := table.number(row, k)) is not None}
                merged = found.annotations | numbers
                reading.images[found.path] = replace(found, annotations=merged)


def _of(images: dict[str, Sample], name: str, files: Sequence[ImageFiles]) -> Sample | None:
    """The one of the images that a name means."""
    paths = (path for each in files if (path := each.find(name)[0]) is not None)
    return next((images[path] for path in paths if path in images), None)


def _unlabelled(root: Path, sources: Sequence[Source], reading: _Reading) -> Iterator[Sample]:
    """Gives the images in folders of images that no table names; says what is no image."""
    parents = dict.fromkeys(source.path.parent for source in sources)
    for folder in [p / name for p in parents for name in IMAGE_FOLDERS if (p / name).is_dir()]:
        files = list(files_below(folder, root))
        for file in filter(is_image, files):
            path = file.relative_to(root).as_posix()
            if path not in reading.images and path not in reading.held_out:
                yield Sample(path, None, "unlabelled")
        others = [file for file in files if not is_image(file)]
        named = {root / path for path in (*reading.images, *reading.held_out)}
        reading.notes += left_out([file for file in others if file not in named], folder)


def left_out(others: Sequence[Path], folder: Path) -> list[str]:
    """A note on the files below a folder of images that are none, if there are such."""
    if not others:
        return []
    return [f"left out, as these suffixes are not read: {kinds(others)} in {folder.name}/"]


def split_by_file(images: dict[str, Sample], root: Path, files: Sequence[ImageFiles]) -> None:
    """Gives images, which are by path, the splits that split.csv names, if there is one.

    Args:
        files: that know which images its names mean.

    Raises:
        UserError: images that it leaves out, or splits that are none.
    """
    path = split_file(root)
    if path is None:
        return
    table = read_csv(path)
    if "split" not in table.header:
        shown = ", ".join(table.header)
        raise UserError(f"{path} needs the columns Image,split; it has {shown}.")
    name_column = column_of_images(table, path)
    faults = []
    for line, row in zip(table.lines, table.rows, strict=True):
        split = plain(row["split"])
        if split not in SPLIT_CELLS:
            faults.append(f"{path.name}:{line}: {split!r} is neither train nor validation")
        elif (found := _of(images, row[name_column].strip(), files)) is not None:
            images[found.path] = replace(found, split=SPLIT_CELLS[split])
    faults += [f"{p.path} is not in {path.name}" for p in images.values() if p.split is None]
    if faults:
        raise UserError(listed(f"{path} has {_counted(faults)}:", faults))


def _counted(faults: Sequence[str]) -> str:
    return f"{len(faults)} fault{'s' * (len(faults) != 1)}"


def listed(title: str, faults: Iterable[str]) -> str:
    """A line for each of the first faults below the title."""
    all_of_them = list(faults)
    more = len(all_of_them) - MAX_FAULTS
    shown = [f"  {fault}" for fault in all_of_them[:MAX_FAULTS]]
    return "\n".join([title, *shown] + ([f"  … and {more} more"] if more > 0 else []))
