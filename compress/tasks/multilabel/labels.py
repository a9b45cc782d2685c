"""Which labels a table's images have: from columns of 0, 1 and nothing, or from one of all."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from compress.data.annotated import listed
from compress.data.dataset import Dataset, Sample, Split
from compress.tasks.multilabel.settings import Labels
from compress.utils.errors import UserError

Row = Mapping[str, str]  # a row's cells by column
Truth = dict[str, int | None]  # by label: 1 has it, 0 has not, None unknown
KNOWN = {"": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1}  # pandas writes floats where some are empty
SHOWN = 8  # labels that a note names


class _Reading(NamedTuple):
    """What is read of all rows, and what is wrong with them."""

    labels: Sequence[str]
    truths: dict[str, Truth]  # by the image's path
    faults: list[str]


def take_labels(data: Dataset, settings: Labels) -> Dataset:
    """Return images, whose truth is their row, with the labels that it gives them.

    Images of which nothing is known are unlabelled.

    Raises:
        UserError: all that is wrong with the rows, in one message.
    """
    rows = {image.path: image.truth for image in data.images if image.truth is not None}
    if not rows:
        raise UserError(f"{data.root} holds no labelled images: its table names none.")
    read = (_from_columns if settings.label_column is None else _from_one_column)(
        data, rows, settings
    )
    if read.faults:
        some = f"{len(read.faults)} fault{'s' * (len(read.faults) != 1)}"
        raise UserError(listed(f"{data.root}: the table has {some}:", read.faults))
    images = tuple(_with_truth(image, read.truths.get(image.path)) for image in data.images)
    if not any(image.is_labelled for image in images):
        raise UserError(f"{data.root} holds no labelled images: all their labels are unknown.")
    more = f", … ({len(read.labels)})" if len(read.labels) > SHOWN else ""
    notes = [f"labels: {', '.join(read.labels[:SHOWN])}{more}"]
    unknown = sum(image.path in rows and not image.is_labelled for image in images)
    if unknown:
        notes.append(f"{unknown} images, of which no label is known, are taken as unlabelled")
    if settings.label_column is not None:
        none = sum(not any(truth.values()) for truth in read.truths.values())
        notes.append(f"{none} images have none of the labels in {settings.label_column!r}")
    return replace(data, images=images, notes=(*data.notes, *notes))


def names_in(data: Dataset) -> tuple[str, ...]:
    """Return the labels that were read, in order."""
    return tuple(next(image.truth for image in data.images if image.truth is not None))


def truths(data: Dataset, labels: Sequence[str]) -> np.ndarray:
    """Return which labels the images have, float32 (n, labels): 1, 0, or nan where unknown."""
    found = np.full((len(data.images), len(labels)), np.nan, np.float32)
    for row, image in zip(found, data.images, strict=True):
        if image.truth is not None:
            row[:] = [np.nan if (x := image.truth[label]) is None else x for label in labels]
    return found


def without_positive(data: Dataset, *splits: Split) -> list[str]:
    """Return the labels that no image of these splits has; none given: no image at all."""
    labels = names_in(data)
    there = truths(data, labels)
    chosen = data.indices(*splits) if splits else np.arange(len(there))
    return [name for name, has in zip(labels, (there[chosen] == 1).any(0), strict=True) if not has]


def _with_truth(image: Sample, truth: Truth | None) -> Sample:
    """Return an image with its truth, which is not among its annotations."""
    if truth is None or all(x is None for x in truth.values()):
        return replace(image, truth=None, split="unlabelled")
    others = {name: x for name, x in image.annotations.items() if name not in truth}
    return replace(image, truth=truth, annotations=others)


def _from_columns(data: Dataset, rows: Mapping[str, Row], settings: Labels) -> _Reading:
    labels = settings.labels or _columns_of_flags(data, rows)
    faults: list[str] = []
    found: dict[str, Truth] = {}
    for path, row in rows.items():
        if missing := [name for name in labels if name not in row]:
            shown = ", ".join(row)
            faults.append(f"{path}: its table has no column {missing[0]!r}, but {shown}")
            continue
        cells = {name: row[name].strip() for name in labels}
        wrong = [name for name, cell in cells.items() if cell not in KNOWN]
        faults += [
            f"{path}: {cells[name]!r} in {name!r} is neither 0, 1 nor empty" for name in wrong
        ]
        found[path] = {name: KNOWN.get(cell) for name, cell in cells.items()}
    return _Reading(labels, found, faults)


def _columns_of_flags(data: Dataset, rows: Mapping[str, Row]) -> list[str]:
    """Return the columns that hold 0, 1 and nothing else, in their order; empty ones are none.

    Raises:
        UserError: there is none.
    """
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    cells = {name: {row.get(name, "").strip() for row in rows.values()} for name in columns}
    flags = [name for name, held in cells.items() if name and held <= KNOWN.keys() and any(held)]
    if not flags:
        raise UserError(
            f"{data.root}: no column of the table holds only 0, 1 and nothing; it has "
            f"{', '.join(columns)}. Name the labels' columns (data.task.multilabel.labels), or the "
            "one that lists them (label_column, with a separator)."
        )
    return flags


def _from_one_column(data: Dataset, rows: Mapping[str, Row], settings: Labels) -> _Reading:
    column, separator = settings.label_column, settings.separator
    assert column is not None and separator is not None
    faults: list[str] = []
    said: dict[str, list[str]] = {}
    for path, row in rows.items():
        if column not in row:
            faults.append(f"{path}: its table has no column {column!r}, but {', '.join(row)}")
            continue
        parts = (part.strip() for part in row[column].split(separator))
        said[path] = [unicodedata.normalize("NFC", part) for part in parts if part]
    labels = settings.labels or sorted({label for has in said.values() for label in has})
    if not labels and not faults:
        raise UserError(f"{data.root}: the column {column!r} is empty: no image has a label.")
    found: dict[str, Truth] = {}
    for path, has in said.items():
        faults += [
            f"{path}: {label!r} is none of the labels" for label in has if label not in labels
        ]
        found[path] = {label: int(label in has) for label in labels}
    return _Reading(labels, found, faults)
