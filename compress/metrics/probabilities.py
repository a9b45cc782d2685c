"""Answers that are probabilities where logits are expected: recognised by their values."""

from typing import Literal

import numpy as np

Scale = Literal["softmax", "sigmoid"]
EXACT = 1e-3  # how far from 1 a float softmax's sum may be, whatever it was rounded to
ROUNDED = 0.05  # the same of a softmax in int8, whose answers are multiples of 1/256
VARIED = 0.5  # what a probability differs by between images, where a network tells them apart
CHANCE = 0.05  # how probable it may be that logits stay in [0, 1]; probabilities have to
# Smallest and largest probability of a float32: a softmax's 0 is as good as the first of them.
LEAST, MOST = float(np.finfo(np.float32).tiny), 1 - 2.0**-24


def scale_of(answers: np.ndarray, usual: Scale = "softmax") -> Scale | None:
    """Return of what function answers are the probabilities; None: they are logits.

    Of a softmax: all in [0, 1], and each image's sum is 1. Of a sigmoid: all in [0, 1], a class
    differs by more than VARIED between two images, and logits that differ by as much would have
    left [0, 1].

    Args:
        answers: (n, classes), of several images that are not alike.
        usual: what makes probabilities of such logits. Where that is a sigmoid, a sum of 1 is
            chance: of two labels one may always be there.
    """
    if not _in_unit(answers, usual):
        return None
    off = np.abs(answers.sum(1, dtype=np.float64) - 1).max()
    varied = np.ptp(answers, axis=0).max() > VARIED
    if usual == "softmax" and (off < EXACT or (varied and off < ROUNDED)):
        return "softmax"
    return "sigmoid" if varied and _chance_in_unit(answers) < CHANCE else None


def note_on(answers: np.ndarray, usual: Scale = "softmax") -> str | None:
    """Return what people are told of answers on another scale, or perhaps on one; else None.

    Args:
        answers, usual: as `scale_of` takes them.
    """
    scale = scale_of(answers, usual)
    if scale is not None:
        taken = "logarithm" if scale == "softmax" else "logit"
        return f"its answers are the probabilities of a {scale}: their {taken} is taken"
    if _in_unit(answers, usual) and np.ptp(answers) > 0:
        sums = " and do not sum to 1" if usual == "softmax" else ""
        return (
            f"its answers all lie between {answers.min():.3g} and {answers.max():.3g}{sums}: they "
            "are taken for logits. If they are probabilities, export the network "
            "without what makes them"
        )
    return None


def logits_of(answers: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Return answers on a scale as float32 logits: the logarithm, or a sigmoid's inverse."""
    if scale is None:
        return answers
    likely = np.clip(answers, LEAST, 1 if scale == "softmax" else MOST, dtype=np.float32)
    log = np.log(likely)
    return log if scale == "softmax" else log - np.log1p(-likely)


def probabilities_of(logits: np.ndarray, scale: Scale) -> np.ndarray:
    """Return logits on a scale: the softmax over the last axis, or the sigmoid."""
    if scale == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(odds / odds.sum(-1, keepdims=True))


def _chance_in_unit(answers: np.ndarray) -> float:
    """Return how probable it is that logits like these all lie in [0, 1].

    Like these: each class's are normally distributed, with the mean and the deviation it has here.
    """
    from scipy.special import ndtr  # here: it takes a while to load

    mean, deviation = answers.mean(0, dtype=np.float64), answers.std(0, dtype=np.float64)
    varying = deviation > 0
    mean, deviation = mean[varying], deviation[varying]
    inside = ndtr((1 - mean) / deviation) - ndtr(-mean / deviation)
    return float(np.prod(inside) ** len(answers))


def _in_unit(answers: np.ndarray, usual: Scale) -> bool:
    """Whether all numbers are in [0, 1], but for rounding; nan is not, nor a softmax of one."""
    least = 2 if usual == "softmax" else 1
    if answers.ndim != 2 or answers.shape[1] < least or not len(answers):
        return False
    return bool((answers >= -1e-6).all() and (answers <= 1 + 1e-3).all())
