"""Which captions the images of a table have, and what is said of those that are not taken whole."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from compress.data.dataset import Dataset, Sample
from compress.tasks.captioning.settings import Captions
from compress.tasks.captioning.words import (
    NOTHING,
    numbers_of,
    too_long,
    unknown_in,
    vocabulary_of,
    words_of,
)
from compress.utils.errors import UserError


def take_captions(data: Dataset, settings: Captions) -> Dataset:
    """Return images, whose truth is a list of their rows, with their captions as their truth.

    Images without any are unlabelled.

    Raises:
        UserError: there is no such column, or no caption.
    """
    header = dict.fromkeys(name for x in data.images for row in x.truth or () for name in row)
    columns = settings.columns or [
        x for x in header if re.fullmatch(r"captions?[\W_]*\d*", x, re.I)
    ]
    if not columns or (missing := [name for name in columns if name not in header]):
        what = f"no column {missing[0]!r}" if columns else "no column of captions"
        raise UserError(
            f"{data.root}: the table has {what}, but {', '.join(header) or 'no rows'}: name them "
            "(data.task.captioning.columns)."
        )
    images, empty = [], 0
    for image in data.images:
        cells = [row.get(x, "") for row in image.truth or () for x in columns]
        captions = [unicodedata.normalize("NFC", x.strip()) for x in cells if words_of(x)]
        empty += len(image.truth or ()) > 0 and not captions
        images.append(_with_truth(image, captions, columns))
    found = replace(data, images=tuple(images), notes=(*data.notes, *_notes(images, empty)))
    if not captions_of(found.images):
        raise UserError(
            f"{data.root} has no captions: all cells of {', '.join(columns)} are empty."
        )
    return found


def captions_of(images: Sequence[Sample]) -> list[str]:
    """Return the captions of all of them."""
    return [caption for image in images for caption in image.truth or ()]


def in_training(data: Dataset) -> list[str]:
    """Return the captions of training images; before there is a split, of all."""
    training = data.indices("train", "tune")
    chosen = [data.images[i] for i in training] if len(training) else data.images
    return captions_of(chosen)


def vocabulary(data: Dataset, settings: Captions) -> list[str]:
    """Return the words that are learned."""
    return vocabulary_of(in_training(data), settings.min_count)


def check(data: Dataset, settings: Captions, note: Callable[[str], None]) -> None:
    """Say how many captions are cut, and how many words are unknown to the vocabulary."""
    captions = captions_of(data.images)
    if cut := too_long(captions, settings.steps):
        note(
            f"{cut} of {len(captions)} captions have more than {settings.steps} words and are cut "
            "there: raise steps to learn them whole"
        )
    unknown, words = unknown_in(captions, vocabulary(data, settings))
    if unknown:
        note(f"{unknown} of {words} words of captions are unknown: no training caption has them")


def numbers(data: Dataset, known: Sequence[str], steps: int) -> np.ndarray:
    """Return the captions of each image as numbers, int64 (n, most captions of one, steps).

    Of an image that has fewer, the rows behind are all NOTHING.
    """
    places = {word: i for i, word in enumerate(known)}
    most = max((len(image.truth or ()) for image in data.images), default=1) or 1
    found = np.full((len(data.images), most, steps), NOTHING, np.int64)
    for rows, image in zip(found, data.images, strict=True):
        for row, caption in zip(rows, image.truth or (), strict=False):
            row[:] = numbers_of(caption, places, steps)
    return found


def _with_truth(image: Sample, captions: list[str], columns: Sequence[str]) -> Sample:
    """Return an image with its captions, which are not among its annotations."""
    if not captions:
        return replace(image, truth=None, split="unlabelled")
    others = {name: x for name, x in image.annotations.items() if name not in columns}
    return replace(image, truth=captions, annotations=others)


def _notes(images: Sequence[Sample], empty: int) -> list[str]:
    counts = [len(image.truth) for image in images if image.truth]
    if not counts:
        return []
    each = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    said = [f"{sum(counts)} captions, {each} an image"]
    if max(counts) == 1:
        said = [f"{len(counts)} captions, one an image: BLEU and CIDEr compare with that alone"]
    if empty:
        said.append(f"{empty} images, whose captions are empty, are taken as unlabelled")
    return said
