"""Labels with a margin: the right class must win by an angle, as faces are learned."""

import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss
from torch import Tensor, nn

from compress.tasks.margins import ArcFace, Margin


def with_margin(logits: Tensor, targets: Tensor, margin: Margin, smoothing: float) -> Tensor:
    """Return the cross entropy once the right class's cosine is made smaller by the margin.

    Args:
        logits: scale x cosine (n, classes).
        targets: classes (n,); unlabelled images (-1) do not count.

    Returns:
        A scalar, the mean over the labelled images in nats.
    """
    labelled = targets >= 0
    if not bool(labelled.any()):
        return logits.sum() * 0.0
    loss = _loss(margin, logits.shape[1])
    loss.cross_entropy = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    value: Tensor = loss(logits[labelled], targets[labelled])
    return value


class _GivenCosines:
    """A loss of the library that takes logits of a head of cosines; its own weights are unused."""

    scale: float

    def get_cosine(self, logits: Tensor) -> Tensor:
        return logits / self.scale


class _CosFace(_GivenCosines, CosFaceLoss):  # type: ignore[misc]
    pass


class _ArcFace(_GivenCosines, ArcFaceLoss):  # type: ignore[misc]
    pass


def _loss(margin: Margin, classes: int) -> torch.nn.Module:
    if isinstance(margin, ArcFace):
        return _ArcFace(classes, 1, margin=margin.margin_degrees, scale=margin.scale)
    return _CosFace(classes, 1, margin=margin.margin, scale=margin.scale)
