"""Accuracy from logits that an artifact's runtime computed."""

from collections.abc import Sequence

import numpy as np

from compress.results.schema import Accuracy, SingleImageClasses, Slice
from compress.utils.interval import Interval

CONFIDENCE = 0.95
BINS = 15  # of the calibration error, as in Guo et al.
# A class belongs to the slice with the largest of these numbers of training images that it has.
SLICES = {"never trained on": 0, "single image": 1, "rare": 2, "frequent": 5}


def score(
    logits: np.ndarray,
    labels: np.ndarray,
    single_image: SingleImageClasses | None = None,
    trained_on: np.ndarray | None = None,
) -> Accuracy:
    """All accuracy numbers of one artifact.

    Args:
        logits: (n, classes).
        labels: int64 (n,), class indices.
        trained_on: int64, the class index of each training image; without it, no slices.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    correct = order[:, 0] == labels
    log_p = logits - _logsumexp(logits)
    recalls = [correct[labels == label].mean() for label in np.unique(labels)]
    return Accuracy(
        images=len(labels),
        top1=wilson(int(correct.sum()), len(correct)),
        top5=float((order[:, :5] == labels[:, None]).any(1).mean()),
        log_loss=float(-log_p[np.arange(len(labels)), labels].mean()),
        macro_recall=float(np.mean(recalls)),
        single_image_classes=single_image,
        slices=[] if trained_on is None else slices(correct, labels, trained_on),
        calibration_error=calibration_error(np.exp(log_p.max(1)), correct),
        correct="".join("1" if c else "0" for c in correct),
        answers=order[:, 0].tolist(),
    )


def slices(correct: np.ndarray, labels: np.ndarray, trained_on: np.ndarray) -> list[Slice]:
    """Top-1 by how many images a class had to learn from; slices without images are left out.

    Args:
        correct: bool (n,).
        labels, trained_on: class indices of the n judged images, and of the training images.
    """
    each = np.bincount(trained_on, minlength=labels.max() + 1)[labels]  # of the image's class
    ends = [*list(SLICES.values())[1:], None]
    found = []
    for (name, fewest), above in zip(SLICES.items(), ends, strict=True):
        inside = (each >= fewest) & (each < (np.inf if above is None else above))
        if inside.any():
            found.append(
                Slice(
                    name=name,
                    fewest=fewest,
                    most=None if above is None else above - 1,
                    classes=len(np.unique(labels[inside])),
                    images=int(inside.sum()),
                    top1=wilson(int(correct[inside].sum()), int(inside.sum())),
                )
            )
    return found


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """How far confidence is from being right, in [0, 1]: the expected calibration error.

    Images are put into BINS bins of equal width by the softmax probability of their answer. The
    error is the mean over the images of |share right in the bin - mean probability in the bin|
    (Guo et al. 2017, On Calibration of Modern Neural Networks, ICML).

    Args:
        confidence: (n,) in [0, 1].
        correct: bool (n,).
    """
    bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(int)  # each (low, high]
    gaps = np.bincount(bins, correct - confidence, BINS)  # images times the bin's gap
    return float(np.abs(gaps).sum() / len(correct))


def agreement(one: Sequence[int], other: Sequence[int]) -> float | None:
    """The share of images on which both give the same answer; None where they are not known."""
    return float(np.mean(np.equal(one, other))) if one and other else None


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(1, keepdims=True)
    return np.asarray(top + np.log(np.exp(logits - top).sum(1, keepdims=True)))


def wilson(successes: int, trials: int) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927)."""
    from scipy import stats  # here: it takes longer to load than a recipe to read

    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, "wilson")
    return Interval(value=successes / trials, low=interval.low, high=interval.high)


def newcombe(before: Interval, after: Interval) -> Interval:
    """Return the loss before - after of two shares of other images, from Wilson's intervals.

    Newcombe 1998, Statistics in Medicine 17:873-890, method 10.
    """
    value = before.value - after.value
    below = np.hypot(before.value - before.low, after.high - after.value)
    above = np.hypot(before.high - before.value, after.value - after.low)
    return Interval(value=value, low=float(value - below), high=float(value + above))


def paired_drop(teacher: str, candidate: str) -> Interval:
    """Teacher's minus the candidate's top-1 on the same images, with a paired interval.

    The interval is Wald's after half an image was added to each cell of the 2 x 2 table (Agresti &
    Min 2005, Statistics in Medicine 24:729-740): unlike a bootstrap it does not shrink to nothing
    where the two never disagree.

    Args:
        teacher, candidate: one '1' or '0' per image, in the same order.
    """
    from scipy import stats

    n = len(teacher)
    pairs = list(zip(teacher, candidate, strict=True))
    lost, gained = pairs.count(("1", "0")), pairs.count(("0", "1"))
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    centre = (lost - gained) / (n + 2)
    half = z * np.sqrt((lost + gained + 1) - (lost - gained) ** 2 / (n + 2)) / (n + 2)
    value = (lost - gained) / n
    low, high = max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half))
    return Interval(value=value, low=float(low), high=float(high))
