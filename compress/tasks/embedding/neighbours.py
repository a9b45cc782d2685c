"""How good a space is: which labels and images are nearest, by exact search; functions of arrays.

All vectors are unit vectors, float32 (n, dimension); the similarity of two is their cosine.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Record = list[Any]  # see `record`; empty: the image is not asked


def record(
    similarities: np.ndarray, right: np.ndarray, known: np.ndarray, new: str | None = None
) -> Record:
    """Return what is kept of one image's answer; empty where nothing right is to be found.

    That is how many are nearer than the nearest right one; the average precision; and, of an
    image whose label was never trained on (else None), how many of the other such ones are nearer,
    and that label.

    Args:
        similarities: to each of a gallery's images, or to each label, (m,); -inf: not there.
        right: which of them have its label, bool (m,).
        known: which of them were trained on, bool (m,).
        new: the image's label, where it was never trained on.
    """
    there = np.isfinite(similarities)
    if not (right & there).any():
        return []
    best = similarities[right & there].max()
    nearer = there & ~right & (similarities >= best)  # of equally near ones the wrong come first
    among_new = None if new is None else int((nearer & ~known).sum())
    precision = average_precision(similarities[there], right[there])
    return [int(nearer.sum()), round(precision, 6), among_new, new]


def average_precision(similarities: np.ndarray, right: np.ndarray) -> float:
    """Return the precision at each right one, the nearest first, averaged; equals come together.

    Args:
        right: bool (m,), at least one.
    """
    order = np.argsort(-similarities, kind="stable")
    hits = np.cumsum(right[order])
    last = np.flatnonzero(np.append(np.diff(similarities[order]) != 0, True))
    gained = np.diff(hits[last], prepend=0)
    return float((gained * hits[last] / (last + 1)).sum() / right.sum())


def among_each_other(vectors: np.ndarray, labels: np.ndarray) -> list[Record]:
    """Return records of images whose gallery are all the others; the labels are int64 (n,)."""
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    all_known = np.ones(len(labels), bool)
    return [
        record(row, labels == label, all_known)
        for row, label in zip(similarities, labels, strict=True)
    ]


def mean_of(records: Sequence[Record], weights: np.ndarray, score: Any) -> np.ndarray:
    """Return the weighted mean of a score of records that have one, (draws,); none: 0.

    Args:
        score: makes a number of a record, or None.
        weights: float64 (draws, n).
    """
    scores = [score(x) if x else None for x in records]
    counts = np.array([x is not None for x in scores], float)
    values = np.array([x or 0.0 for x in scores], float)
    whole = weights @ counts
    return np.divide(weights @ values, whole, out=np.zeros(len(weights)), where=whole > 0)
