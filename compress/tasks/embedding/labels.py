"""Which labels images have, and which of them no image has that is trained on."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compress.data.dataset import Dataset, Sample
from compress.tasks.embedding.settings import Space
from compress.tasks.embedding.words import without_vector
from compress.utils.errors import UserError

SHOWN = 8  # labels that a note names


class Labels(NamedTuple):
    """Those that may be answered, in order; the last ones no image has that is trained on."""

    trained: tuple[str, ...]
    new: tuple[str, ...]


def take_labels(data: Dataset, settings: Space) -> Dataset:
    """Return images, whose label may list several, with their labels as their truth.

    Labels that no image has which is trained on are kept from what draws splits, which would take
    each label for one to be learned. Towards words, labels without a vector are left out.

    Raises:
        UserError: too many labels without a vector.
    """
    truths = [_split(image.label, settings.separator) for image in data.images]
    named = sorted({label for truth in truths for label in truth})
    notes = list(data.notes)
    if settings.words is not None:
        missing = set(without_vector(named, settings, data.root))
        if further := without_vector(settings.more_labels, settings, data.root):
            raise UserError(f"more_labels: {', '.join(further)} have no vector: remove them.")
        truths = [[label for label in truth if label not in missing] for truth in truths]
        if missing:
            notes.append(f"labels without a vector are left out: {', '.join(sorted(missing))}")
    images = tuple(map(_with_truth, data.images, truths))
    found = replace(data, images=images, notes=tuple(notes))
    new = set(labels_in(found, settings.more_labels).new)
    if unseen := sorted(new - set(settings.more_labels)):
        shown = ", ".join(unseen[:SHOWN]) + (", …" if len(unseen) > SHOWN else "")
        notes.append(f"{len(unseen)} labels are never trained on: {shown}")
    images = tuple(
        replace(image, label=None if set(image.truth or ()) & new else image.label)
        for image in found.images
    )
    return replace(found, images=images, notes=tuple(notes))


def labels_in(data: Dataset, more: Sequence[str] = ()) -> Labels:
    """Return the labels of images; before there is a split, all of them are trained on."""
    named = {label for image in data.images for label in image.truth or ()}
    is_split = any(image.split == "train" for image in data.images)
    trained = {
        label
        for image in data.images
        for label in image.truth or ()
        if not is_split or image.split in ("train", "tune")
    }
    return Labels(tuple(sorted(trained)), tuple(sorted((named | set(more)) - trained)))


def indices_of(data: Dataset, labels: Sequence[str]) -> np.ndarray:
    """Return the positions of each image's labels, int64 (n, most of an image), filled with -1."""
    at = {label: i for i, label in enumerate(labels)}
    found = [[at[x] for x in image.truth or () if x in at] for image in data.images]
    most = max((len(x) for x in found), default=1) or 1
    return np.array([x + [-1] * (most - len(x)) for x in found], np.int64).reshape(-1, most)


def name_of(image: Sample) -> str:
    """Return what an image is called in a gallery: its labels, or else its file's name."""
    return ", ".join(image.truth or ()) or image.label or Path(image.path).stem


def _split(label: str | None, separator: str | None) -> list[str]:
    if label is None:
        return []
    parts = label.split(separator) if separator else [label]
    return sorted({unicodedata.normalize("NFC", part.strip()) for part in parts if part.strip()})


def _with_truth(image: Sample, truth: list[str]) -> Sample:
    """Return an image with its labels; without any it is unlabelled."""
    if not truth:
        return replace(image, label=None, truth=None, split="unlabelled")
    return replace(image, label=truth[0] if len(truth) == 1 else None, truth=truth)
