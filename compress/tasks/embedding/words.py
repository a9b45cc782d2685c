"""The vectors of labels: of the label itself where it has one, else the mean of its words'."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compress.tasks.embedding.packed import unit
from compress.tasks.embedding.settings import Space, Text
from compress.tasks.embedding.text import WORD, learn_vectors, sentences_in
from compress.tasks.embedding.vectors import Found, read_vectors, spellings
from compress.utils.errors import UserError

MAY_LACK = 0.05  # share of the labels that may have no vector


def without_vector(labels: Sequence[str], settings: Space, root: Path) -> list[str]:
    """Return the labels for which there are no vectors.

    Raises:
        UserError: more than a twentieth of them, or a file that cannot be read.
    """
    assert settings.words is not None
    known = vectors_known(labels, settings, root)
    missing = [label for label in labels if words_of(label, known) is None]
    if len(missing) > MAY_LACK * len(labels):
        raise UserError(
            f"{len(missing)} of {len(labels)} labels have no vector in "
            f"{root / settings.words.source}, more than {MAY_LACK:.0%}: {', '.join(missing)}. "
            "Spell them as the words there, or give other vectors."
        )
    return missing


def vectors_known(labels: Sequence[str], settings: Space, root: Path) -> Mapping[str, object]:
    """Return something by each word of the labels that has a vector: of a text, nothing is learned.

    Raises:
        UserError: a file that cannot be read.
    """
    assert settings.words is not None
    path = root / settings.words.source
    if isinstance(settings.words, Text):
        return dict.fromkeys(word for sentence in sentences_in(path) for word in sentence)
    return _read(path, labels, settings.dimension)


def label_vectors(labels: Sequence[str], settings: Space, root: Path) -> np.ndarray:
    """Return the labels' unit vectors, float32 (labels, dimension); each of them has one.

    Raises:
        UserError: a file that cannot be read; vectors of another length than `dimension`.
    """
    assert settings.words is not None
    path = root / settings.words.source
    if isinstance(settings.words, Text):
        known = learn_vectors(path, settings.words, settings.dimension)
    else:
        known = _read(path, labels, settings.dimension)
    found = []
    for label in labels:
        words = words_of(label, known)
        assert words is not None
        found.append(unit(np.stack([known[word] for word in words])).mean(0))
    return unit(np.stack(found))


def words_of(label: str, known: Mapping[str, object]) -> list[str] | None:
    """Return the words whose vectors make the label's: one, or each of several; None: one lacks."""
    for spelt in spellings(label):
        if spelt in known:
            return [spelt]
    parts = [next((x for x in spellings(part) if x in known), None) for part in _parts(label)]
    found = [part for part in parts if part is not None]
    return found if found and len(found) == len(parts) else None


def _parts(label: str) -> list[str]:
    """Return the words of a label: "North_Atlantic right whale" has four."""
    return WORD.findall(label.replace("_", " "))


def _read(path: Path, labels: Sequence[str], dimension: int) -> Found:
    """Return the vectors that the file has for labels and their words.

    Raises:
        UserError: they are of another length.
    """
    wanted = {x for label in labels for part in (label, *_parts(label)) for x in spellings(part)}
    found = read_vectors(path, wanted.__contains__)
    for vector in found.values():
        if len(vector) != dimension:
            raise UserError(
                f"The vectors in {path} have {len(vector)} numbers, and dimension is {dimension}: "
                f"set dimension: {len(vector)}."
            )
    return found
