"""Finds out how a folder of pictures is laid out and reads it. Three layouts:

- class folders: `root/<class>/*.jpg`, or `root/train/<class>/…` with `root/validation/<class>/…`
  (`val` is fine too); a folder named `unlabelled` holds pictures without label
- a table: `root/train.csv` (or the CSV that is given) with a column of paths and one of labels,
  pictures beside it or in `imgs/` or `images/`; pictures there that the table does not name are
  unlabelled; `split.csv` (Image,split) beside it is honoured; further CSVs with the same picture
  column annotate the pictures with their numeric columns. This is the layout of many competitions.
  Where points are to be predicted they are numeric columns, and the table needs no labels
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from compress.data.dataset import DataSet, Picture, Split, read_csv
from compress.data.keypoints import PointColumns, take_points
from compress.utils.errors import UserError
from compress.utils.files import below, inside

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
PICTURE_COLUMNS = ("image", "path", "file", "filename", "picture", "img")
LABEL_COLUMNS = ("label", "class", "target", "category", "id")
UNLABELLED_FOLDERS = ("unlabelled", "unlabeled")
SPLITS: dict[str, Split] = {"train": "train", "validation": "validation", "val": "validation"}
MAX_FAULTS = 10  # shown; the rest is counted


def read_folder(
    path: Path,
    picture_column: str | None = None,
    label_column: str | None = None,
    points: PointColumns | None = None,
) -> DataSet:
    """Reads the data set at `path` (a folder, or a CSV file); splits may still be missing.

    Args:
        points: what is to be predicted instead of classes; labels are not needed then.

    Raises:
        UserError: no such folder, or everything that is wrong with it, in one message.
    """
    if not path.exists():
        raise UserError(f"No data at {path}: give a folder of pictures or a CSV file with --data.")
    if path.is_file():
        table = path
    elif (path / "train.csv").is_file():
        table = path / "train.csv"
    else:
        if points is not None:
            raise UserError(
                f"{path} has no train.csv with annotations: give the CSV file itself, with a "
                f"picture column and {', '.join(points.columns)}."
            )
        return _read_class_folders(path)
    if points is not None:
        return take_points(_read_table(table, picture_column, None, labels=False), points)
    return _read_table(table, picture_column, label_column)


def check_classes(data: DataSet) -> None:
    """A classifier needs at least two classes.

    Raises:
        UserError: fewer.
    """
    if len(data.classes) < 2:
        what = f"only the class {data.classes[0]!r}" if data.classes else "no labelled pictures"
        raise UserError(f"{data.root} holds {what}: a classifier needs at least two classes.")


def _is_data(path: Path) -> bool:
    """Not what notebooks, editors and archivers leave behind."""
    return not path.name.startswith((".", "__MACOSX"))


def _pictures_below(folder: Path, root: Path) -> Iterator[Path]:
    """Gives a folder's pictures; `data.fingerprint` sees through the same links."""
    above = frozenset(p.resolve() for p in folder.parents if p.is_relative_to(root))
    return (path for path in below(folder, _is_data, above) if path.suffix.lower() in SUFFIXES)


def _split_folders(root: Path) -> dict[Path, Split | None]:
    """`train` and `validation` folders of class folders, or the root itself.

    Raises:
        UserError: one without the other, which would make the classes "train" and "test".
    """
    found: dict[Path, Split | None] = {
        root / k: v for k, v in SPLITS.items() if any((root / k).glob("*/"))
    }
    if not found:
        return {root: None}
    if set(found.values()) != {"train", "validation"}:
        raise UserError(
            f"{root} has {', '.join(p.name + '/' for p in found)} with class folders, but not both "
            "train/ and validation/: rename the folders, or give the one with all class folders."
        )
    unlabelled = {root: None} if any((root / u).is_dir() for u in UNLABELLED_FOLDERS) else {}
    return found | unlabelled


def _read_class_folders(root: Path) -> DataSet:
    splits = _split_folders(root)
    pictures: list[Picture] = []
    empty: list[str] = []
    for folder, split in splits.items():
        for class_folder in sorted(p for p in folder.iterdir() if p.is_dir() and _is_data(p)):
            if class_folder in splits:
                continue
            found = [p.relative_to(root).as_posix() for p in _pictures_below(class_folder, root)]
            if not found:
                empty.append(str(class_folder.relative_to(root)))
            unlabelled = class_folder.name.lower() in UNLABELLED_FOLDERS
            label = None if unlabelled else class_folder.name
            pictures += [Picture(p, label, "unlabelled" if unlabelled else split) for p in found]
    if not pictures:
        raise UserError(
            f"{root} is in no layout that is understood: expected a folder of pictures for each "
            f"class ({root.name}/<class>/*.jpg), or a train.csv with a picture and a label column."
        )
    named = {p.path: p for p in pictures if p.label is not None}
    _split(named, root / "split.csv")
    pictures = [named.get(p.path, p) for p in pictures]
    if empty:
        raise UserError(
            f"{root} has class folders without pictures: {', '.join(empty[:MAX_FAULTS])}. "
            "Remove them or add pictures."
        )
    return DataSet(root, tuple(pictures))


def _column(header: list[str], wanted: str | None, known: tuple[str, ...], table: Path) -> str:
    kind = "picture" if known is PICTURE_COLUMNS else "label"
    if wanted is not None:
        if wanted in header:
            return wanted
        raise UserError(f"{table} has no column {wanted!r}; it has {', '.join(header)}.")
    for name in header:
        if name.lower() in known:
            return name
    raise UserError(
        f"{table}: which column holds the {kind}s? It has {', '.join(header)}; "
        f"set data.{kind}_column in the recipe."
    )


def _read_table(
    table: Path, picture_column: str | None, label_column: str | None, labels: bool = True
) -> DataSet:
    """Without labels, the numbers of the table itself are annotations too."""
    root = table.parent
    header, rows = read_csv(table)
    picture_column = _column(header, picture_column, PICTURE_COLUMNS, table)
    if labels:
        others = [name for name in header if name != picture_column]
        if label_column is None and len(others) == 1:
            label_column = others[0]
        label_column = _column(header, label_column, LABEL_COLUMNS, table)

    folders = [root / f for f in ("imgs", "images") if (root / f).is_dir()] or [root]
    faults: list[str] = []
    pictures: dict[str, Picture] = {}
    seen: set[Path] = set()
    for number, row in enumerate(rows, 2):
        name = row[picture_column].strip()
        label = row[label_column].strip() if label_column is not None else None
        where = f"{table.name}:{number}: {name!r}"
        path = _find(name, folders, root)
        if path is None:
            faults.append(f"{where} lies outside {root}, which is refused")
        elif not path.is_file():
            faults.append(f"{where} does not exist in {' or '.join(map(str, folders))}")
        elif label == "":
            faults.append(
                f"{where} has an empty label (leave unlabelled pictures out of the table)"
            )
        elif path in seen:
            faults.append(f"{where} is there twice")
        else:
            seen.add(path)
            relative = path.relative_to(os.path.normpath(root)).as_posix()
            pictures[name] = Picture(relative, label)
    if faults:
        raise UserError(_listed(f"{table} has {len(faults)} faults:", faults))

    tables = [path for path in sorted(root.glob("*.csv")) if path.name != "split.csv"]
    _annotate(pictures, [path for path in tables if path != table or not labels], picture_column)
    _split(pictures, root / "split.csv")
    labelled = {p.path for p in pictures.values()}
    if folders != [root]:
        found = (
            p.relative_to(root).as_posix()
            for folder in folders
            for p in _pictures_below(folder, root)
        )
        unlabelled = [Picture(p, None, "unlabelled") for p in found if p not in labelled]
    else:
        unlabelled = []
    return DataSet(root, (*pictures.values(), *unlabelled))


def _find(name: str, folders: list[Path], root: Path) -> Path | None:
    """The picture's path below the root, None when the name leads out of it."""
    places = [
        p
        for f in (*folders, root)
        if (p := inside(root, str(f.relative_to(root) / name))) is not None
    ]
    return next((p for p in places if p.is_file()), places[0] if places else None)


def _annotate(pictures: dict[str, Picture], tables: list[Path], picture_column: str) -> None:
    for path in tables:
        header, rows = read_csv(path)
        if picture_column not in header:
            continue
        for row in rows:
            name = row[picture_column].strip()
            if name in pictures:
                numbers = {k: v for k in header if (v := _number(row[k])) is not None}
                merged = pictures[name].annotations | numbers
                pictures[name] = replace(pictures[name], annotations=merged)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _split(pictures: dict[str, Picture], path: Path) -> None:
    if not path.is_file():
        return
    header, rows = read_csv(path)
    if "split" not in header:
        raise UserError(f"{path} needs the columns Image,split; it has {', '.join(header)}.")
    name_column = _column(header, None, PICTURE_COLUMNS, path)
    faults = []
    by_path = {p.path: name for name, p in pictures.items()}
    for number, row in enumerate(rows, 2):
        name, split = row[name_column].strip(), row["split"].strip().lower()
        name = by_path.get(name, name)
        if split not in SPLITS:
            faults.append(f"{path.name}:{number}: {split!r} is neither train nor validation")
        elif name in pictures:
            pictures[name] = replace(pictures[name], split=SPLITS[split])
    faults += [f"{p.path} is not in {path.name}" for p in pictures.values() if p.split is None]
    if faults:
        raise UserError(_listed(f"{path} has {len(faults)} faults:", faults))


def _listed(title: str, faults: list[str]) -> str:
    more = len(faults) - MAX_FAULTS
    shown = [f"  {fault}" for fault in faults[:MAX_FAULTS]]
    return "\n".join([title, *shown] + ([f"  … and {more} more"] if more > 0 else []))
