"""Losses of coordinates; each returns a scalar, the batch's mean."""

import torch.nn.functional as F
from torch import Tensor

BETA = 0.02  # of the input's side


def points(found: Tensor, true: Tensor) -> Tensor:
    """Smooth L1 of coordinates (n, 2 x points) in input fractions; Girshick 2015, arXiv:1504.08083.

    Linear beyond BETA, so that a few wrong annotations do not rule; quadratic within it.
    """
    return F.smooth_l1_loss(found, true, beta=BETA)


def annotated(outputs: Tensor, targets: Tensor) -> Tensor:
    """How far the coordinates are from the annotated ones; unlabelled images do not count."""
    labelled = targets.isfinite().all(1)
    if not bool(labelled.any()):
        return outputs.sum() * 0.0
    return points(outputs[labelled], targets[labelled])
