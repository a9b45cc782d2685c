"""Draws a stratified split once; it is stored with the run and used from then on."""

from dataclasses import replace

import numpy as np

from compress.data.dataset import Dataset, Split
from compress.utils.errors import UserError
from compress.utils.seeding import generator


def draw_split(
    data: Dataset, validation_fraction: float, seed: int, *, to_train_on: bool = True
) -> Dataset:
    """Gives every labelled image without a split one, class by class.

    A class of n images sends n x `validation_fraction` of them to validation, rounded up or down
    at random so that the whole meets the fraction, and always keeps one for training: a class with
    a single image is never validated on. Labelled images without a class (points, several labels)
    are one class.

    Args:
        validation_fraction: in (0, 1).
        to_train_on: whether there must be images of every class to train on, too. What is only
            judged on the images may know its classes from others.

    Raises:
        UserError: no image ends up in validation, or a class has none to train on.
    """
    if all(p.split is not None for p in data.images):
        return _checked(data, to_train_on)
    drawn = _drawn(data, validation_fraction, generator(seed, "split"))
    images = tuple(
        replace(p, split=split) if split else p for p, split in zip(data.images, drawn, strict=True)
    )
    return _checked(replace(data, images=images), to_train_on)


def _drawn(data: Dataset, fraction: float, rng: np.random.Generator) -> list[Split | None]:
    """Return of each labelled image whether it is one to train on or of the other part."""
    splits: list[Split | None] = [None] * len(data.images)
    # In the order of names as text, also where classes are numbers: what is drawn is stored.
    by_class = [data.labels == data.classes.index(name) for name in sorted(data.classes)]
    of_none = np.array([p.is_labelled and p.label is None for p in data.images])
    for group in [*by_class, of_none] if of_none.any() else by_class:
        members = np.flatnonzero(group)
        expected = len(members) * fraction
        count = int(expected) + int(rng.random() < expected - int(expected))
        chosen = set(rng.permutation(members)[: min(count, len(members) - 1)].tolist())
        for i in members.tolist():
            splits[i] = "validation" if i in chosen else "train"
    return splits


def set_aside(data: Dataset, fraction: float, seed: int) -> Dataset:
    """Take a stratified part of the training images out, to choose settings by.

    A class keeps at least one image to train on, as with `draw_split`.

    Args:
        fraction: in (0, 1).

    Raises:
        UserError: it is of no image.
    """
    training = [p.split == "train" for p in data.images]
    asked = [
        p if is_training else replace(p, label=None, points=(), truth=None)
        for p, is_training in zip(data.images, training, strict=True)
    ]
    asked = [replace(p, split=None) for p in asked]
    drawn = _drawn(replace(data, images=tuple(asked)), fraction, generator(seed, "tune"))
    if not any(split == "validation" for split in drawn):
        raise UserError("data.tune_fraction is of no image: raise it.")
    images = tuple(
        replace(p, split="tune") if is_training and split == "validation" else p
        for p, split, is_training in zip(data.images, drawn, training, strict=True)
    )
    return replace(data, images=images)


def _checked(data: Dataset, to_train_on: bool) -> Dataset:
    if not len(data.indices("validation")):
        raise UserError(
            f"{data.root}: there are no images to validate on; add images, raise "
            "data.validation_fraction, or give a split.csv (Image,split)."
        )
    if not to_train_on:
        return data
    trained = set(data.labels[data.indices("train")].tolist())
    if missing := [name for i, name in enumerate(data.classes) if i not in trained]:
        raise UserError(
            f"{data.root}: {len(missing)} classes have no training image "
            f"({', '.join(missing[:3])}): correct the split, or leave these classes out."
        )
    if not len(data.indices("train")):
        raise UserError(f"{data.root}: there are no images to train on; correct the split.")
    return data
