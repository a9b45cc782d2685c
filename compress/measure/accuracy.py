"""Accuracy from logits that an artifact's runtime computed."""

import numpy as np
from scipy import stats

from compress.data.pictures import DataSet
from compress.input_spec import InputSpec, preprocess
from compress.results import Accuracy, Interval, SinglePictureClasses
from compress.runtimes import Session
from compress.seeding import generator

CONFIDENCE = 0.95
RESAMPLES = 4000


def run_on_pictures(
    session: Session, data: DataSet, indices: np.ndarray, spec: InputSpec, batch_size: int = 16
) -> np.ndarray:
    """float32 (n, classes) logits for picture files, prepared exactly as in deployment."""
    outputs = [
        session.run(preprocess(data.paths(indices[i : i + batch_size]), spec))
        for i in range(0, len(indices), batch_size)
    ]
    return np.concatenate(outputs)


def score(
    logits: np.ndarray, labels: np.ndarray, single_picture: SinglePictureClasses | None = None
) -> Accuracy:
    """All accuracy numbers of one artifact.

    Args:
        logits: (n, classes).
        labels: int64 (n,), class indices.
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
        correct="".join("1" if c else "0" for c in correct),
    )


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(1, keepdims=True)
    return np.asarray(top + np.log(np.exp(logits - top).sum(1, keepdims=True)))


def wilson(successes: int, trials: int) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927)."""
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, "wilson")
    return Interval(value=successes / trials, low=interval.low, high=interval.high)


def paired_drop(teacher: str, candidate: str) -> Interval:
    """Teacher's minus the candidate's top-1 on the same pictures, with a paired bootstrap interval.

    Args:
        teacher, candidate: one '1' or '0' per picture, in the same order.
    """
    a = np.frombuffer(teacher.encode(), np.uint8).astype(np.int64)
    b = np.frombuffer(candidate.encode(), np.uint8).astype(np.int64)
    difference = a - b
    rng = generator(0, "paired bootstrap", len(a))
    chosen = rng.integers(len(a), size=(RESAMPLES, len(a)))
    low, high = np.quantile(
        difference[chosen].mean(1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return Interval(value=float(difference.mean()), low=float(low), high=float(high))
