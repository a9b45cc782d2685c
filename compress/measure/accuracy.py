"""Accuracy from logits that an artifact's runtime computed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from compress.data.pictures import DataSet
from compress.errors import UserError
from compress.input_spec import InputSpec, preprocess
from compress.measure.points import Bounds, errors
from compress.measure.right import coordinates, judge
from compress.placement import to_picture
from compress.results import Accuracy, Interval, SinglePictureClasses, Slice
from compress.runtimes import Session

CONFIDENCE = 0.95
BINS = 15  # of the calibration error, as in Guo et al.
# A class belongs to the slice with the largest of these numbers of training pictures that it has.
SLICES = {"never trained on": 0, "single picture": 1, "rare": 2, "frequent": 5}


def run_on_pictures(
    session: Session, paths: list[Path], spec: InputSpec, batch_size: int = 16
) -> np.ndarray:
    """float32 (n, classes) logits for picture files, prepared exactly as in deployment.

    Raises:
        UserError: a file that is no picture, or a model whose outputs are not the spec's.
    """
    size = session.batch_size or batch_size
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    return np.concatenate([infer(session, preprocess(chunk, spec), spec) for chunk in chunks])


def infer(session: Session, pictures: np.ndarray, spec: InputSpec) -> np.ndarray:
    """float32 (n, classes) logits for float32 (n, 3, height, width) prepared pictures.

    A file with a fixed batch gets its pictures repeated up to that number.

    Raises:
        UserError: not as many outputs as the spec has classes, or coordinates of points.
    """
    count = len(pictures)
    if session.batch_size:
        pictures = np.resize(pictures, (session.batch_size, *pictures.shape[1:]))
    logits = session.run(pictures)[:count]
    if logits.shape != (count, spec.outputs):
        named = f"{len(spec.points)} points" if spec.points else f"{len(spec.classes)} classes"
        raise UserError(
            f"The model gives an output of shape {logits.shape} for {count} pictures, but its "
            f"input spec names {named}."
        )
    return logits


def score(
    logits: np.ndarray,
    labels: np.ndarray,
    single_picture: SinglePictureClasses | None = None,
    trained_on: np.ndarray | None = None,
) -> Accuracy:
    """All accuracy numbers of one artifact.

    Args:
        logits: (n, classes).
        labels: int64 (n,), class indices.
        trained_on: int64, the class index of each training picture; without it, no slices.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    correct = order[:, 0] == labels
    log_p = logits - _logsumexp(logits)
    recalls = [correct[labels == label].mean() for label in np.unique(labels)]
    return Accuracy(
        pictures=len(labels),
        top1=wilson(int(correct.sum()), len(correct)),
        top5=float((order[:, :5] == labels[:, None]).any(1).mean()),
        log_loss=float(-log_p[np.arange(len(labels)), labels].mean()),
        macro_recall=float(np.mean(recalls)),
        single_picture_classes=single_picture,
        slices=[] if trained_on is None else slices(correct, labels, trained_on),
        calibration_error=calibration_error(np.exp(log_p.max(1)), correct),
        correct="".join("1" if c else "0" for c in correct),
        answers=order[:, 0].tolist(),
    )


def slices(correct: np.ndarray, labels: np.ndarray, trained_on: np.ndarray) -> list[Slice]:
    """Top-1 by how many pictures a class had to learn from; slices without pictures are left out.

    Args:
        correct: bool (n,).
        labels, trained_on: class indices of the n judged pictures, and of the training pictures.
    """
    each = np.bincount(trained_on, minlength=labels.max() + 1)[labels]  # of the picture's class
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
                    pictures=int(inside.sum()),
                    top1=wilson(int(correct[inside].sum()), int(inside.sum())),
                )
            )
    return found


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """How far confidence is from being right, in [0, 1]: the expected calibration error.

    Pictures are put into BINS bins of equal width by the softmax probability of their answer. The
    error is the mean over the pictures of |share right in the bin - mean probability in the bin|
    (Guo et al. 2017, On Calibration of Modern Neural Networks, ICML).

    Args:
        confidence: (n,) in [0, 1].
        correct: bool (n,).
    """
    bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(int)  # each (low, high]
    gaps = np.bincount(bins, correct - confidence, BINS)  # pictures times the bin's gap
    return float(np.abs(gaps).sum() / len(correct))


def agreement(one: Sequence[int], other: Sequence[int]) -> float | None:
    """The share of pictures on which both give the same answer; None where they are not known."""
    return float(np.mean(np.equal(one, other))) if one and other else None


def score_points(
    outputs: np.ndarray, data: DataSet, indices: np.ndarray, spec: InputSpec, bounds: Bounds
) -> Accuracy:
    """The same for a network that predicts points; a picture is right as `judge` says.

    Args:
        outputs: (n, 2 x points) for the pictures at `indices`.
    """
    correct = judge(data, indices, spec, bounds)(outputs)
    true, sizes = data.coordinates[indices], data.sizes[indices]
    return Accuracy(
        pictures=len(correct),
        top1=wilson(int(correct.sum()), len(correct)),
        correct="".join("1" if c else "0" for c in correct),
        points=errors(to_picture(coordinates(outputs), sizes, spec), true, sizes, spec, bounds),
    )


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(1, keepdims=True)
    return np.asarray(top + np.log(np.exp(logits - top).sum(1, keepdims=True)))


def wilson(successes: int, trials: int) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927)."""
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, "wilson")
    return Interval(value=successes / trials, low=interval.low, high=interval.high)


def paired_drop(teacher: str, candidate: str) -> Interval:
    """Teacher's minus the candidate's top-1 on the same pictures, with a paired interval.

    The interval is Wald's after half a picture was added to each cell of the 2 x 2 table (Agresti &
    Min 2005, Statistics in Medicine 24:729-740): unlike a bootstrap it does not shrink to nothing
    where the two never disagree.

    Args:
        teacher, candidate: one '1' or '0' per picture, in the same order.
    """
    n = len(teacher)
    pairs = list(zip(teacher, candidate, strict=True))
    lost, gained = pairs.count(("1", "0")), pairs.count(("0", "1"))
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    centre = (lost - gained) / (n + 2)
    half = z * np.sqrt((lost + gained + 1) - (lost - gained) ** 2 / (n + 2)) / (n + 2)
    value = (lost - gained) / n
    low, high = max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half))
    return Interval(value=value, low=float(low), high=float(high))
