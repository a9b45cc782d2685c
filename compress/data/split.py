"""Draws a stratified split once; it is stored with the run and used from then on."""

from dataclasses import replace

import numpy as np

from compress.data.dataset import DataSet, Split
from compress.utils.errors import UserError
from compress.utils.seeding import generator


def draw_split(
    data: DataSet, validation_fraction: float, seed: int, *, to_train_on: bool = True
) -> DataSet:
    """Gives every labelled picture without a split one, class by class.

    A class of n pictures sends n x `validation_fraction` of them to validation, rounded up or down
    at random so that the whole meets the fraction, and always keeps one for training: a class with
    a single picture is never validated on. Pictures with points are one class.

    Args:
        validation_fraction: in (0, 1).
        to_train_on: whether there must be pictures of every class to train on, too. What is only
            judged on the pictures may know its classes from others.

    Raises:
        UserError: no picture ends up in validation, or a class has none to train on.
    """
    if all(p.split is not None for p in data.pictures):
        return _checked(data, to_train_on)
    rng = generator(seed, "split")
    pictures = list(data.pictures)
    # In the order of names as text, also where classes are numbers: what is drawn is stored.
    by_class = [data.labels == data.classes.index(name) for name in sorted(data.classes)]
    for group in by_class or [np.array([p.is_labelled for p in pictures])]:
        members = np.flatnonzero(group)
        expected = len(members) * validation_fraction
        count = int(expected) + int(rng.random() < expected - int(expected))
        chosen = set(rng.permutation(members)[: min(count, len(members) - 1)].tolist())
        for i in members.tolist():
            split: Split = "validation" if i in chosen else "train"
            pictures[i] = replace(pictures[i], split=split)
    return _checked(replace(data, pictures=tuple(pictures)), to_train_on)


def _checked(data: DataSet, to_train_on: bool) -> DataSet:
    if not len(data.indices("validation")):
        raise UserError(
            f"{data.root}: there are no pictures to validate on; add pictures, raise "
            "data.validation_fraction, or give a split.csv (Image,split)."
        )
    if not to_train_on:
        return data
    trained = set(data.labels[data.indices("train")].tolist())
    if missing := [name for i, name in enumerate(data.classes) if i not in trained]:
        raise UserError(
            f"{data.root}: {len(missing)} classes have no training picture "
            f"({', '.join(missing[:3])}): correct the split, or leave these classes out."
        )
    if not len(data.indices("train")):
        raise UserError(f"{data.root}: there are no pictures to train on; correct the split.")
    return data
