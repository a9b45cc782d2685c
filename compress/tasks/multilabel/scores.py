"""How good labels and their scores are; functions of arrays.

`truth` is float32 (n, labels): 1 where an image has a label, 0 where not, nan where unknown.
"""

import numpy as np


def f1(said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the F1 of each image over the labels that are known of it, float64 (n,).

    1 where it has none of them, and none is said.

    Args:
        said: bool (n, labels).
    """
    hits = (said & (truth == 1)).sum(1)
    mistakes = (said & (truth == 0)).sum(1) + (~said & (truth == 1)).sum(1)
    whole = 2 * hits + mistakes
    return np.divide(2 * hits, whole, out=np.ones(len(said)), where=whole > 0)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return a label's average precision over the images of which it is known; None: none has it.

    The precision at each positive's score, averaged; images of one score come together.

    Args:
        scores: (n,), higher for images that are likelier to have the label.
        truth: of this label, (n,).
    """
    known = np.isfinite(truth)
    scores, has = scores[known], truth[known] == 1
    if not has.any():
        return None
    hits, so_far, last = _from_the_top(scores, has)
    gained = np.diff(hits[last], prepend=0)
    return float((gained * hits[last] / so_far[last]).sum() / has.sum())


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the threshold above which a label is to be said, for its best F1 over known images.

    It lies in the middle between two scores; of equally good ones the nearest to 0. None: nothing
    can be learned of it, as all images have the label, or none.

    Args:
        scores, truth: as `average_precision` takes them.
    """
    known = np.isfinite(truth)
    scores, has = scores[known].astype(np.float64), truth[known] == 1
    if has.all() or not has.any():
        return None
    hits, so_far, last = _from_the_top(scores, has)
    reached = 2 * hits[last] / (so_far[last] + has.sum())
    levels = np.unique(scores)[::-1]
    below = np.append(levels[1:], levels[-1] - 1)  # the last is below all of them
    between = (levels + below) / 2
    best = np.flatnonzero(reached == reached.max())
    return float(between[best[np.abs(between[best]).argmin()]])


def _from_the_top(scores: np.ndarray, has: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, from the highest score on, how many have the label, how many there are, and the
    positions of the last image of each score."""
    order = np.argsort(-scores, kind="stable")
    hits, so_far = np.cumsum(has[order]), np.arange(1, len(order) + 1)
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return hits, so_far, last
