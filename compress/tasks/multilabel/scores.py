"""How good labels and their scores are; functions of arrays.

`truth` is float32 (n, labels): 1 where an image has a label, 0 where not, nan where unknown.
"""

import numpy as np

AT_ONCE = 100  # draws, of which each needs memory for all images


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


def average_precision(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return a label's average precision over the images of which it is known.

    The precision at each positive's score, averaged; images of one score come together.

    Args:
        scores: (n,), higher for images that are likelier to have the label.
        truth: of this label, (n,).
        weights: of the images, float64 (draws, n).

    Returns:
        float64 (draws,); nan where no image of a weight has the label.
    """
    known = np.isfinite(truth)
    if not (truth == 1).any():
        return np.full(len(weights), np.nan)
    hits, so_far, last = _from_the_top(scores[known], truth[known] == 1, weights[:, known])
    hits, so_far = hits[:, last], so_far[:, last]
    gained = np.diff(hits, prepend=0) * hits / np.where(so_far > 0, so_far, 1)
    positives = hits[:, -1]
    nothing = np.full(len(weights), np.nan)
    return np.divide(gained.sum(1), positives, out=nothing, where=positives > 0)


def mean_average_precision(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the mean over labels (n, labels) of their average precision, (draws,).

    Labels that no image of a weight has do not count; 0 where none is left.
    """
    found = []
    for some in np.array_split(weights, -(-len(weights) // AT_ONCE)):
        pairs = zip(scores.T, truth.T, strict=True)
        each = np.array([average_precision(*pair, some) for pair in pairs])
        there = np.isfinite(each)
        found.append(np.where(there, each, 0).sum(0) / np.maximum(there.sum(0), 1))
    return np.concatenate(found)


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the threshold above which a label is to be said, for its best F1 over known images.

    It lies in the middle between two scores; of equally good ones the nearest to 0. None: nothing
    can be learned of it, as all images have the label, or none.

    Args:
        scores, truth: of one label, as `average_precision` takes them.
    """
    known = np.isfinite(truth)
    scores, has = scores[known].astype(np.float64), truth[known] == 1
    if has.all() or not has.any():
        return None
    (hits,), (so_far,), last = _from_the_top(scores, has, np.ones((1, len(has))))
    reached = 2 * hits[last] / (so_far[last] + has.sum())
    levels = np.unique(scores)[::-1]
    below = np.append(levels[1:], levels[-1] - 1)  # the last is below all of them
    between = (levels + below) / 2
    best = np.flatnonzero(reached == reached.max())
    return float(between[best[np.abs(between[best]).argmin()]])


def _from_the_top(
    scores: np.ndarray, has: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, from the highest score on, how many have the label and how many there are, both
    (draws, n), and the positions of the last image of each score."""
    order = np.argsort(-scores, kind="stable")
    so_far = np.cumsum(weights[:, order], 1)
    hits = np.cumsum(weights[:, order] * has[order], 1)
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return hits, so_far, last
