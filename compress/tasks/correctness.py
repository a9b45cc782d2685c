"""When an answer is right: one question, whatever a network predicts."""

from collections.abc import Callable

import numpy as np

from compress.data.coordinates import to_picture
from compress.data.dataset import DataSet
from compress.data.input_spec import InputSpec
from compress.metrics.accuracy import wilson
from compress.metrics.keypoints import KeypointTolerance, distances, errors, iou
from compress.results.schema import Accuracy

Right = Callable[[np.ndarray], np.ndarray]  # outputs (n, outputs) -> bool (n,)


def judge(
    data: DataSet, indices: np.ndarray, spec: InputSpec, tolerance: KeypointTolerance
) -> Right:
    """Says which outputs for these pictures are right, in the order of `indices`.

    A class is right when it is the one of the largest logit. Points are by the percentage of
    correct keypoints (PCK: Yang & Ramanan 2013, IEEE PAMI 35:2878-2890), asked of all points of a
    picture at once; a box by its intersection over union with the true one. Where there are both,
    both are asked.
    """
    if not spec.points:
        labels = data.labels[indices]
        return lambda outputs: outputs.argmax(1) == labels
    true, sizes = data.coordinates[indices], data.sizes[indices]

    def right(outputs: np.ndarray) -> np.ndarray:
        found = to_picture(coordinates(outputs), sizes, spec)
        near = np.ones(len(found), bool)
        if spec.has_box:
            near &= iou(found[:, :2], true[:, :2]) >= tolerance.iou
        if rest := spec.without_box:
            far = distances(found[:, -len(rest) :], true[:, -len(rest) :], sizes)
            near &= (far <= tolerance.distance).all(1)
        return near

    return right


def coordinates(outputs: np.ndarray) -> np.ndarray:
    """Outputs (n, 2 x points) as float64 (n, points, 2)."""
    return outputs.reshape(len(outputs), -1, 2).astype(np.float64)


def score_points(
    outputs: np.ndarray,
    data: DataSet,
    indices: np.ndarray,
    spec: InputSpec,
    tolerance: KeypointTolerance,
) -> Accuracy:
    """The same for a network that predicts points; a picture is right as `judge` says.

    Args:
        outputs: (n, 2 x points) for the pictures at `indices`.
    """
    correct = judge(data, indices, spec, tolerance)(outputs)
    true, sizes = data.coordinates[indices], data.sizes[indices]
    return Accuracy(
        pictures=len(correct),
        top1=wilson(int(correct.sum()), len(correct)),
        correct="".join("1" if c else "0" for c in correct),
        points=errors(
            to_picture(coordinates(outputs), sizes, spec), true, sizes, spec.has_box, tolerance
        ),
    )
