"""Names of tables and folders that say which split of a dataset something is."""

import re
from pathlib import Path

from compress.data.dataset import Split
from compress.data.image_files import is_data

SPLITS: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
}
HELD_OUT = "test"  # a split that nothing is trained on or judged by
TRAINING = {"train", "training"}
OTHER_SPLITS = {
    *("validation", "validate", "val", "valid", "dev", "eval", "evaluation"),
    *(HELD_OUT, "testing", "holdout", "heldout"),
}
SPLIT_FILE = "split.csv"
# What people add to the name of a split; folders that are named so hold no class either.
IMAGES_OF = {"image", "images", "img", "imgs", "mask", "masks"}
_ADDED = IMAGES_OF | {"set", "data", "split", "label", "labels", "annotations", "list", "folder"}


def split_word(name: str) -> str:
    """Return the word for a split that a name is: "val" of "Val_Set2"; else an empty text."""
    words = [x for x in re.split(r"[\W\d_]+", name.lower()) if x and x not in _ADDED]
    if len(words) != 1:
        return ""
    word = words[0] if words[0] in TRAINING | OTHER_SPLITS else re.sub("(set|data)$", "", words[0])
    return word if word in TRAINING | OTHER_SPLITS else ""


def is_no_class(name: str) -> bool:
    """Return whether a folder's name says which images it holds rather than of which class."""
    return bool(split_word(name)) or name.lower() in IMAGES_OF


def tables_in(folder: Path, *suffixes: str) -> list[Path]:
    """Return the tables in a folder but for split.csv, CSV files by default; capitals or not."""
    wanted = suffixes or (".csv",)
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in wanted
        and p.name.lower() != SPLIT_FILE
        and is_data(p)
        and p.is_file()
    )


def tables_named(folder: Path, *stems: str) -> list[Path]:
    """Return the CSV files of such names, in whatever capitals; as written first."""
    found = [p for p in tables_in(folder) if p.stem.lower() in stems]
    return sorted(found, key=lambda p: p.stem not in stems)


def split_file(folder: Path) -> Path | None:
    """Return the table that says which image is of which split, if there is one."""
    found = [p for p in folder.iterdir() if p.name.lower() == SPLIT_FILE and p.is_file()]
    return min(found, key=lambda p: p.name != SPLIT_FILE, default=None)
