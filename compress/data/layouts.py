"""Finds out how a folder of images is laid out and reads it. Two layouts:

- class folders: `root/<class>/*.jpg`, or `root/train/<class>/…` with `root/validation/<class>/…`
  (`val` and `valid` are fine too); a folder named `unlabelled` holds images without label
- tables (`annotated.py`): `root/train.csv`, or, where there are no class folders, `labels.csv`,
  `metadata.csv`, the only CSV there is besides those of other splits, or one in `train/` and in
  `validation/` each. This is the layout of many competitions. Where points are to be predicted they
  are numeric columns, and the table needs no labels
"""

import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from compress.data.annotated import (
    MAX_FAULTS,
    Source,
    left_out,
    read_tables,
    split_by_file,
)
from compress.data.dataset import Dataset, Sample, Split
from compress.data.image_files import (
    SUFFIXES,
    ImageFiles,
    files_below,
    images_below,
    is_data,
    is_image,
    kinds,
)
from compress.data.keypoints import PointColumns, take_points
from compress.data.split_names import (
    HELD_OUT,
    OTHER_SPLITS,
    SPLITS,
    is_no_class,
    split_word,
    tables_in,
    tables_named,
)
from compress.data.tables import read_csv
from compress.utils.errors import UserError
from compress.utils.files import is_own, local

UNLABELLED_FOLDERS = ("unlabelled", "unlabeled")
USUAL_TABLES = ("train", "labels", "metadata")  # by preference, .csv in whatever capitals
OTHER_TABLES = (".tsv", ".txt")
UNREAD_TABLES = (".json", ".jsonl", ".xlsx", ".parquet")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
LINES_LOOKED_AT = 20


def read_folder(
    path: Path,
    image_column: str | None = None,
    label_column: str | None = None,
    points: PointColumns | None = None,
) -> Dataset:
    """Reads the dataset at `path` (a folder, or a CSV file); splits may still be missing.

    Args:
        points: what is to be predicted instead of classes; labels are not needed then.

    Raises:
        UserError: no such folder, or everything that is wrong with it, in one message.
    """
    path = _existing(path)
    root = path.parent if path.is_file() else path
    sources = _sources(path, classes=points is None)
    if points is not None:
        if not sources:
            raise UserError(
                f"{path} has no train.csv with annotations: give the CSV file itself, with a "
                f"image column and {', '.join(points.columns)}."
            )
        data = read_tables(root, sources, image_column, None, labels=False)
        return take_points(data, points)
    if sources:
        return read_tables(root, sources, image_column, label_column)
    if named := label_column or image_column:
        raise UserError(
            f"{path} has no table, of which {named!r} could be a column: remove it, or give the "
            "CSV file itself."
        )
    return _read_class_folders(root)


def read_rows(path: Path, image_column: str | None = None, several: bool = False) -> Dataset:
    """Reads images that a table names; the truth of each is its row, the cells' text by column.

    Args:
        several: whether an image may have several rows: its truth is their list.

    Raises:
        UserError: no such folder, no table, or everything that is wrong with it, in one message.
    """
    path = _existing(path)
    sources = _sources(path, classes=False)
    if not sources:
        raise UserError(
            f"{path} has no table that names its images (train.csv, labels.csv, metadata.csv): "
            "give the CSV file itself, with an image column."
        )
    root = path.parent if path.is_file() else path
    return read_tables(root, sources, image_column, None, labels=False, rows=True, several=several)


def check_classes(data: Dataset) -> None:
    """A classifier needs at least two classes.

    Raises:
        UserError: fewer.
    """
    if len(data.classes) < 2:
        what = f"only the class {data.classes[0]!r}" if data.classes else "no labelled images"
        raise UserError(
            f"{data.root} holds {what}: a classifier needs at least two classes. "
            + _where_classes_are(data)
        )


def _where_classes_are(data: Dataset) -> str:
    """Return what to give instead of a folder that has no two classes."""
    inner = [data.root / name for name in data.classes]
    if inner and inner[0].is_dir() and _has_class_folders(inner[0]):
        return f"Give {inner[0]}, which has folders of them."
    folders = (data.root, *inner)
    if told := sorted(x for top in folders for kind in UNREAD_TABLES for x in top.glob(f"*{kind}")):
        return (
            f"{told[0]} may hold the labels, and only CSV tables are read: write a train.csv with "
            "the columns image and label from it."
        )
    return "Give the folder that has a folder for each, or the table that names them."


def _existing(path: Path) -> Path:
    path = local(path)
    if not path.exists():
        raise UserError(f"No data at {path}: give a folder of images or a CSV file with --data.")
    if path.is_file() and is_image(path):
        raise UserError(f"{path} is an image: give the folder that the images are in.")
    if path.is_file() and path.suffix.lower() in ARCHIVES:
        raise UserError(f"{path} is an archive: unpack it, and give the folder.")
    return path


def _sources(path: Path, classes: bool) -> list[Source]:
    """The tables that say what the images are; none where folders do.

    Args:
        classes: whether folders may.

    Raises:
        UserError: two tables for the validation split, or one of a suffix that is not read.
    """
    if path.is_file():
        if path.stem.lower() not in USUAL_TABLES:
            return [Source(path, alone=True)]
        _refuse_other_tables(path.parent, path)
        return _with_validation(path)
    if train := tables_named(path, "train"):
        _refuse_other_tables(path)
        return _with_validation(train[0])
    if classes and _has_class_folders(path):
        return []
    _refuse_other_tables(path)
    if (table := _usual_table(path)) is not None:
        return _with_validation(table)
    tables = {f: _usual_table(f) for f in _folders(path) if f.name.lower() in SPLITS}
    sources = [Source(x, SPLITS[f.name.lower()]) for f, x in tables.items() if x is not None]
    if len({source.split for source in sources}) > 1:
        return sources
    return [source._replace(split=None) for source in sources]


def _with_validation(table: Path) -> list[Source]:
    """A table, and the one of validation images beside it, if there is one."""
    names = [name for name, split in SPLITS.items() if split == "validation"]
    others = [p for p in tables_named(table.parent, *names) if p != table]
    if split_word(table.stem) in OTHER_SPLITS:  # the only one there is
        return [Source(table)]
    if len(others) > 1:
        said = " and ".join(p.name for p in others)
        raise UserError(f"{table.parent} has {said}, which both name a validation split: keep one.")
    if not others:
        return [Source(table)]
    return [Source(table, "train"), Source(others[0], "validation")]


def _usual_table(folder: Path) -> Path | None:
    """A table of a usual name, or the only one that is not of a split to judge on."""
    for name in USUAL_TABLES:
        if found := tables_named(folder, name):
            return found[0]
    tables = tables_in(folder)
    others = [p for p in tables if split_word(p.stem) not in OTHER_SPLITS] or tables
    return others[0] if len(others) == 1 else None


def _refuse_other_tables(folder: Path, given: Path | None = None) -> None:
    """Refuses tables of usual names whose suffix is not read.

    Raises:
        UserError: one that names images.
    """
    for path in _tables_of_images(folder):
        if path != given and (split_word(path.stem) or path.stem.lower() in USUAL_TABLES):
            raise UserError(
                f"{path} names images, and of a folder only .csv tables are read: call it "
                f"{path.stem}.csv (tabs or spaces may part its columns), or move it elsewhere."
            )


def _tables_of_images(folder: Path) -> list[Path]:
    """The tables of other suffixes that name images and have more to say of them."""
    files = ImageFiles(folder, [folder, *_folders(folder)])

    def names_images(path: Path) -> bool:
        try:
            table = read_csv(path)
        except UserError:
            return False
        cells = [cell.strip() for row in table.rows[:LINES_LOOKED_AT] for cell in row.values()]
        named = (is_image(Path(x)) or files.find(x)[0] is not None for x in cells if x)
        return len(table.header) > 1 and any(named)

    return [path for path in tables_in(folder, *OTHER_TABLES) if names_images(path)]


def _folders(root: Path) -> list[Path]:
    """Return the folders in a folder, linked ones too.

    Raises:
        UserError: a link that leads nowhere: it may have been a class.
    """
    found = []
    for path in sorted(root.iterdir()):
        if path.is_dir():
            found += [path] if is_data(path) and not is_own(path) else []
        elif path.is_symlink() and not path.exists() and is_data(path) and not path.suffix:
            raise UserError(
                f"{path} is a link to {path.readlink()}, which is not there: mount or copy what it "
                "leads to, or remove the link."
            )
    return found


def _has_class_folders(root: Path) -> bool:
    """Whether two folders hold images, or those that are named like splits hold such folders."""
    found = []
    for folder in _folders(root):
        name = folder.name.lower()
        if name in SPLITS and any(any(images_below(f, root)) for f in _folders(folder)):
            return True
        if not (split_word(name) or _is_unlabelled(folder)) and any(images_below(folder, root)):
            found.append(folder)
    return len(found) > 1 and not all(is_no_class(folder.name) for folder in found)


def _split_folders(root: Path) -> dict[Path, Split]:
    """`train` and `validation` folders of class folders; none where the root holds those itself.

    Raises:
        UserError: one without the other, or images right inside, which would make classes "train"
            and "test" of them.
    """
    named = {f: SPLITS[f.name.lower()] for f in _folders(root) if f.name.lower() in SPLITS}
    found = {folder: split for folder, split in named.items() if _folders(folder)}
    if found and set(found.values()) != {"train", "validation"}:
        raise UserError(
            f"{root} has {', '.join(p.name + '/' for p in found)} with class folders, but not both "
            "train/ and validation/: rename the folders, or give the one with all class folders."
        )
    filled = [f for f in _folders(root) if not _is_unlabelled(f) and any(images_below(f, root))]
    splits = all(split_word(f.name) for f in filled)
    no_classes = splits or (len(filled) > 1 and all(is_no_class(f.name) for f in filled))
    if filled and not found and no_classes:
        tables = [p.name for p in tables_in(root)]
        what = "splits" if splits else "kinds of images"
        table = f" It has {' and '.join(tables)}: which is it?" if tables else ""
        raise UserError(
            f"{root} has {', '.join(p.name + '/' for p in filled)}: these are {what}, not "
            "classes. Put the images of each class into a folder of its own "
            "(train/<class>/*.jpg and validation/<class>/*.jpg), or add a train.csv with an image "
            f"and a label column.{table}"
        )
    return found


def _class_folders(root: Path) -> list[tuple[Path, Split | None]]:
    """Folders of images with their splits: of one class each, or unlabelled."""
    splits = _split_folders(root)
    if not splits:
        return [(folder, None) for folder in _folders(root)]
    found: list[tuple[Path, Split | None]]
    found = [(folder, split) for top, split in splits.items() for folder in _folders(top)]
    return found + [(folder, None) for folder in _folders(root) if _is_unlabelled(folder)]


def _is_unlabelled(folder: Path) -> bool:
    return folder.name.lower() in UNLABELLED_FOLDERS


def _read_class_folders(root: Path) -> Dataset:
    images: list[Sample] = []
    empty: list[str] = []
    others: list[Path] = []  # files that are no images
    for folder, split in _class_folders(root):
        files = list(files_below(folder, root))
        found = [p.relative_to(root).as_posix() for p in files if is_image(p)]
        rest = [p for p in files if not is_image(p)]
        if not found:
            holds = f" (it holds {kinds(rest)})" if rest else ""
            empty.append(f"{folder.relative_to(root)}{holds}")
        if _is_unlabelled(folder):
            images += [Sample(p, None, "unlabelled") for p in found]
        else:
            label = _class_name(folder)
            images += [Sample(p, label, split) for p in found]
        others += rest
    if not images:
        raise UserError(
            f"{root} is in no layout that is understood: expected a folder of images for each "
            f"class ({root.name}/<class>/*.jpg), or a train.csv with an image and a label column. "
            f"It holds {kinds(files_below(root, root)) or 'nothing'}; images are read from "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    named = {p.path: p for p in images if p.label is not None}
    split_by_file(named, root, [ImageFiles(root, [root])])
    images = [named.get(p.path, p) for p in images]
    if empty:
        raise UserError(
            f"{root} has class folders without images: {', '.join(empty[:MAX_FAULTS])}. "
            "Remove them or add images."
        )
    return Dataset(root, tuple(images), notes=(*left_out(others, root), *_beside(root)))


def _class_name(folder: Path) -> str:
    """A folder's name, its accents as one character each.

    Raises:
        UserError: it is not text in the encoding of file names.
    """
    name = unicodedata.normalize("NFC", folder.name)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"The folder {folder} has a name that is not text in {sys.getfilesystemencoding()}: "
            "rename it, or set LC_ALL=C.UTF-8."
        ) from error
    return name


def _beside(root: Path) -> Iterator[str]:
    """Gives notes on what lies beside class folders and is not read."""
    splits = _split_folders(root)
    loose = [p for top in (root, *splits) for p in top.iterdir() if is_data(p) and is_image(p)]
    if loose:
        yield f"left out, as they lie in no class folder: {len(loose)} images ({loose[0].name}, …)"
    tables = [p.name for p in (*tables_in(root), *_tables_of_images(root))]
    if tables:
        yield f"not read, as the class folders say what the images are: {', '.join(tables)}"
    if splits and (held_out := [f.name for f in _folders(root) if f.name.lower() == HELD_OUT]):
        yield f"{held_out[0]}/ is held out: neither trained on nor judged by"
