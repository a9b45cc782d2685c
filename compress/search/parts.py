"""The validation images in two parts: what decisions are made by, and what judges them, once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.measure.relative import with_comparisons
from compress.metrics import resampling
from compress.metrics.accuracy import wilson
from compress.results.schema import Accuracy, Result
from compress.tasks.differences import statistic_of
from compress.utils.errors import UserError
from compress.utils.seeding import generator

FEWEST = 10  # images of a part: of fewer nothing can be said


@dataclass(frozen=True)
class Parts:
    """Positions among the validation images, ascending."""

    searched: np.ndarray
    kept: np.ndarray


def draw_parts(labels: Sequence[int], keep: float, seed: int) -> Parts:
    """Draw which validation images are kept out of the search, class by class.

    The images are put in order of their classes, at random within each, and kept at equal
    distances: every class sends its share, to within one image.

    Args:
        labels: a class for each validation image; all alike where there are none.
        keep: share of the images that are kept, in (0, 1).

    Raises:
        UserError: a part has too few images, or those kept are of one class of several.
    """
    rng = generator(seed, "kept images")
    classes = np.asarray(labels)
    order = np.lexsort((rng.random(len(classes)), classes))
    passed = np.floor(np.arange(len(order) + 1) * keep + rng.random())
    kept = np.zeros(len(order), dtype=bool)
    kept[order] = np.diff(passed) > 0
    found = Parts(np.flatnonzero(~kept), np.flatnonzero(kept))
    _check(found, classes)
    return found


def _check(parts: Parts, classes: np.ndarray) -> None:
    fewest = min(len(parts.searched), len(parts.kept))
    if fewest < FEWEST:
        raise UserError(
            f"There are {len(classes)} validation images, of which {len(parts.kept)} would judge "
            f"the last picks: give more, so that each part has {FEWEST}, or change search.keep."
        )
    if len(np.unique(classes)) > 1 and len(np.unique(classes[parts.kept])) == 1:
        raise UserError(
            f"The {len(parts.kept)} images that would judge the last picks are all of one class: "
            "give more validation images, or raise search.keep."
        )


def on_part(rows: Sequence[Result], positions: np.ndarray, name: str) -> list[Result]:
    """Return rows as if these validation images were all there are.

    Args:
        rows: of one run, with the teacher's.
        positions: among the validation images.
        name: of the part: rows of different parts are not comparable.
    """
    judged = [
        row.model_copy(
            update={
                "data": f"{row.data}, {name}",
                "accuracy": _on(row.accuracy, positions),
                "gain_over_control": None,
            }
        )
        for row in rows
    ]
    return with_comparisons(judged)


def _on(accuracy: Accuracy, positions: np.ndarray) -> Accuracy:
    """Return how right the answers on some of the images are; no further metrics."""
    part = Accuracy(
        images=len(positions),
        top1=accuracy.top1,
        correct="".join(accuracy.correct[i] for i in positions) if accuracy.correct else "",
        answers=[accuracy.answers[i] for i in positions] if accuracy.answers else [],
        records=[accuracy.records[i] for i in positions] if accuracy.records else [],
        task=accuracy.task,
        metric=accuracy.metric or (accuracy.word if accuracy.points else ""),
    )
    if part.correct:
        top1 = wilson(part.correct.count("1"), part.images)
    else:
        top1 = resampling.interval(statistic_of(part), part.images)
    return part.model_copy(update={"top1": top1})
