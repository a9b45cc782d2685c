"""What casts doubt on a teacher, said before hours are spent on students; nothing is changed.

It may be no better than a guess, it may have its classes in another order than the data, or it may
have been fed otherwise. Each is told with the figures, and only where the images can tell.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.data.input_spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, normalise
from compress.metrics.significance import mcnemar
from compress.results.schema import Accuracy
from compress.runtimes.outputs import Outputs
from compress.tasks.base import Judge, Task

LEVEL = 0.01  # of the tests against guessing
USEFUL = 0.4  # of a guess's mistakes: a teacher that is worth compressing avoids at least these
SURE = 0.001  # of the test that another order, or another feeding, is better: several are tried
MUCH = 0.1  # as a share of the images: by so much another one must be better to be told
MOST_CLASSES = 5000  # for which any other order is sought: every two of them are a number in memory
NAMED = 6  # classes of an order that are told
EQUAL = 3  # feedings that are told where they are equally good

CAFFE = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # of red, green and blue
BYTE = (1 / 255,) * 3


class Feeding(NamedTuple):
    """A usual way to prepare an image; `mean` and `std` are of red, green and blue in [0, 1]."""

    said: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    blue_first: bool

    def in_order(self, values: Sequence[float], channels: int) -> list[float]:
        """Return numbers of red, green and blue as the network's channels have them."""
        if channels == 1:
            return [float(np.mean(values))]
        return list(reversed(values)) if self.blue_first else list(values)

    def of(self, spec: InputSpec) -> InputSpec:
        """Return the spec of a network that is fed so."""
        grey = spec.channels == "grey"
        mean, std = (tuple(self.in_order(x, 1 if grey else 3)) for x in (self.mean, self.std))
        channels = "grey" if grey else "bgr" if self.blue_first else "rgb"
        return spec.model_copy(update={"channels": channels, "mean": mean, "std": std})

    def suits(self, spec: InputSpec) -> bool:
        """Whether it can be: a file that takes bytes normalises them itself."""
        return spec.dtype == "float32" or (self.mean, self.std) == USUAL_SCALES[AS_BYTES]

    def recipe(self, spec: InputSpec) -> str:
        """Return the keys of a recipe's teacher that ask for it."""
        fed = self.of(spec)
        mean, std = (", ".join(f"{x:.6g}" for x in values) for values in (fed.mean, fed.std))
        return f"channels: {fed.channels}, mean: [{mean}], std: [{std}]"


AS_BYTES = "bytes from 0 to 255"
USUAL_SCALES = {
    "normalised with ImageNet's mean and std": (IMAGENET_MEAN, IMAGENET_STD),
    "scaled to [-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "scaled to [0, 1]": ((0.0,) * 3, (1.0,) * 3),
    AS_BYTES: ((0.0,) * 3, BYTE),
    "bytes less Caffe's means": (CAFFE, BYTE),
}
USUAL = [
    Feeding(said + ", blue first" * blue_first, mean, std, blue_first)
    for blue_first in (False, True)
    for said, (mean, std) in USUAL_SCALES.items()
]


def of_guessing(
    scored: Accuracy, guess: tuple[str, float], order_of: str, given: bool
) -> Iterator[str]:
    """Yield that the teacher may be no better than a guess, if the images speak for it.

    Args:
        guess: what is answered without a look at the image, and how that is judged.
        order_of: what the network's outputs are: "classes".
        given: whether its weights come from outside.
    """
    answer, share = guess
    if no_better(scored, share):
        advice = (
            f"the order of its {order_of}, mean, std and image_size"
            if given
            else "the labels, and how it was trained"
        )
        yield (
            f"The teacher seems no better than always naming {answer}: {scored.word} "
            f"{scored.top1.value:.1%} of {scored.images} validation images, where that would have "
            f"{share:.1%}. Check {advice}."
        )


def no_better(scored: Accuracy, share: float) -> bool:
    """Whether a teacher that might as well guess is likely, and one of use is not.

    Right answers have to be too few for a test to call it better than the guess, and too few for a
    teacher that avoids a part of the guess's mistakes: on a handful of images neither is shown, and
    a bound of an interval is no fact. Tests of right and wrong are exact (binomial).

    Args:
        share: of the images, that the guess is right on.
    """
    from scipy import stats

    useful = share + USEFUL * (1 - share)
    if share >= 1:
        return False
    if not scored.correct:
        return scored.top1.low <= share and scored.top1.high < useful
    right, images = scored.correct.count("1"), len(scored.correct)
    better = stats.binomtest(right, images, share, "greater").pvalue < LEVEL
    worse = stats.binomtest(right, images, useful, "less").pvalue < LEVEL
    return worse and not better


def of_order(scored: Accuracy, targets: np.ndarray, spec: InputSpec, share: float) -> Iterator[str]:
    """Yield in which other order of the classes the teacher would be far better, if in any.

    Args:
        targets: of the images that were judged, int64 (n,) if each is of one class.
        share: of the images, that a guess is right on.
    """
    if not scored.answers or not spec.classes or targets.ndim != 1:
        return
    order = better_order(np.array(scored.answers), targets, spec.classes, share)
    if order is None:
        return
    right = np.mean(positions(order, spec.classes)[scored.answers] == targets)
    named = ", ".join(order[:NAMED]) + ", …" * (len(order) > NAMED)
    yield (
        f"The teacher seems to have its classes in another order: {scored.word} "
        f"{scored.top1.value:.1%} of {scored.images} validation images, but {right:.1%} if its "
        f"outputs were {named}. If they are, give weights whose metadata name the classes in this "
        "order (classes, a JSON list), or rename the classes so that they sort in it."
    )


def better_order(
    answers: np.ndarray, targets: np.ndarray, classes: Sequence[str], share: float
) -> tuple[str, ...] | None:
    """Return the order of classes in which answers are right far more often; None as they stand.

    Names are often sorted otherwise, numbers as text, say. Any other order is the best one for half
    of the images and judged on the other half, so that what fits by chance does not count.

    Args:
        answers, targets: positions in `classes`, int64 (n,).
        share: of the images, that a guess is right on.
    """
    as_it_stands = answers == targets
    if as_it_stands.mean() + MUCH > 1:  # no other can be much better
        return None
    best, shown = None, 0.0
    for names in sortings(classes):
        right = positions(names, classes)[answers] == targets
        if right.mean() > shown and far_better(right, as_it_stands, share):
            best, shown = names, float(right.mean())
    if len(classes) > MOST_CLASSES:
        return best
    right = held_out(answers, targets, len(classes))
    if right.mean() > shown and far_better(right, as_it_stands, share):
        return tuple(classes[i] for i in assigned(answers, targets, len(classes)))
    return best


def sortings(classes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the names as other programs sort them: as text, numbers in them as such, any case."""

    def parts(name: str) -> list[Any]:
        """Text and numbers in turn."""
        return [int(x) if i % 2 else x for i, x in enumerate(re.split("([0-9]{1,18})", name))]

    yield tuple(sorted(classes))
    yield tuple(sorted(classes, key=parts))
    yield tuple(sorted(classes, key=str.casefold))


def positions(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return where each of the names stands in `classes`, int64 (n,)."""
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[name] for name in names])


def held_out(answers: np.ndarray, targets: np.ndarray, count: int) -> np.ndarray:
    """Return whether each image is right in the best order for the other half, bool (n,)."""
    half = np.empty(len(targets), dtype=int)
    for label in np.unique(targets):  # every other image of a class; of one image, either half
        of_class = np.flatnonzero(targets == label)
        half[of_class] = (label + np.arange(len(of_class))) % 2
    right = np.zeros(len(targets), bool)
    for part in (0, 1):
        here = half == part
        right[here] = (
            assigned(answers[~here], targets[~here], count)[answers[here]] == (targets[here])
        )
    return right


def assigned(answers: np.ndarray, targets: np.ndarray, count: int) -> np.ndarray:
    """Return the class that each output best stands for, int64 (count,), a permutation.

    Of equally good ones it is the one in which more outputs stay: what no image tells is unchanged.
    """
    from scipy.optimize import linear_sum_assignment

    met = np.union1d(answers, targets)
    confusion = np.eye(len(met)) / (len(met) + 1)
    np.add.at(confusion, (np.searchsorted(met, answers), np.searchsorted(met, targets)), 1)
    found = np.arange(count)
    found[met] = met[linear_sum_assignment(confusion, maximize=True)[1]]
    return found


class Scores(NamedTuple):
    """What a network reaches on images: on all of them, and on each alone, float64 (n,)."""

    reached: float
    each: np.ndarray


def scores(task: Task[Any], judge: Judge, outputs: Outputs) -> Scores:
    """Return what outputs of n images reach; nothing where they are no numbers."""
    images = len(next(iter(outputs.values())))
    if not all(np.isfinite(output).all() for output in outputs.values()):
        return Scores(0.0, np.zeros(images))
    records = judge(outputs)
    reached = task.statistic(records, np.ones((1, images)))[0]
    return Scores(float(reached), task.statistic(records, np.eye(images)))


def of_feeding(
    images: np.ndarray,
    spec: InputSpec,
    score: Callable[[np.ndarray], Scores],
    word: str,
    share: float,
) -> Iterator[str]:
    """Yield by which usual feeding the teacher would be far better, if by any.

    Args:
        images: uint8 (n, height, width, channels), red first.
        score: judges what the teacher answers to them when prepared, float32 (n, channels, …).
        word: what it is judged by.
        share: that a guess reaches.
    """
    now = normalise(images, spec)
    asked = score(now)
    if asked.reached + MUCH > 1:  # no other can be much better
        return
    best, shown = list[Feeding](), asked.reached
    for feeding in USUAL:
        if not feeding.suits(spec):
            continue
        prepared = normalise(images, feeding.of(spec))
        if np.allclose(prepared, now, atol=1e-3):
            continue
        other = score(prepared)
        much = other.reached >= max(asked.reached, share) + MUCH
        if much and other.reached >= shown and surely(other.each, asked.each):
            best = [*(best if other.reached == shown else ()), feeding]
            shown = other.reached
    if best:
        ways = " or ".join(f"{way.said} ({way.recipe(spec)})" for way in best[:EQUAL])
        yield (
            f"The teacher seems to be fed otherwise than it was trained: {word} "
            f"{asked.reached:.1%} of {len(images)} labelled images, but {shown:.1%} if they are "
            f"{ways}. If it was trained so, write that under teacher."
        )


def far_better(other: np.ndarray, now: np.ndarray, share: float) -> bool:
    """Whether images, bool (n,), are surely right more often, and far more than by a guess."""
    enough = bool(other.mean() >= max(float(now.mean()), share) + MUCH)
    return enough and surely(other, now)


def surely(other: np.ndarray, now: np.ndarray) -> bool:
    """Whether scores of the same images, (n,), are better and not by chance.

    The exact sign test; where they are right and wrong it is McNemar's.
    """
    better, worse = other > now, other < now
    if better.sum() <= worse.sum():
        return False
    return mcnemar(*("".join("01"[int(x)] for x in side) for side in (better, worse))) < SURE
