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
    a single image is never validated on. Images with points are one class.

    Args:
        validation_fraction: in (0, 1).
        to_train_on: whether there must be images of every class to train on, too. What is only
            judged on the images may know its classes from others.

    Raises:
        UserError: no image ends up in validation, or a class has none to train on.
    """
    if all(p.split is not None for p in data.images):
        return _checked(data, to_train_on)
    rng = generator(seed, "split")
    images = list(data.images)
    # In the order of names as text, also where classes are numbers: what is drawn is stored.
    by_class = [data.labels == data.classes.index(name) for name in sorted(data.classes)]
    for group in by_class or [np.array([p.is_labelled for p in images])]:
        members = np.flatnonzero(group)
        expected = len(members) * validation_fraction
        count = int(expected) + int(rng.random() < expected - int(expected))
        chosen = set(rng.permutation(members)[: min(count, len(members) - 1)].tolist())
        for i in members.tolist():
            split: Split = "validation" if i in chosen else "train"
            images[i] = replace(images[i], split=split)
    return _checked(replace(data, images=tuple(images)), to_train_on)


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
