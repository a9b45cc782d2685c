"""Losses of vectors (n, dimension); each returns a scalar, the batch's mean.

Targets are the positions of an image's labels among those trained on, int64 (n, most), filled with
-1: an image without any is unlabelled and does not count.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.tasks.embedding.settings import ProxyAnchor, SupCon
from compress.tasks.margins import ArcFace, CosFace, refuse_without_library


class Identities(nn.Module):
    """A loss of pytorch-metric-learning; the vectors that it has for the classes are learned."""

    def __init__(self, settings: Any, classes: int, dimension: int) -> None:
        """Raises UserError where pytorch-metric-learning is missing."""
        super().__init__()
        refuse_without_library(settings.name)
        from pytorch_metric_learning import losses

        match settings:
            case ArcFace():
                given = {"margin": settings.margin_degrees, "scale": settings.scale}
                self.loss = losses.ArcFaceLoss(classes, dimension, **given)
            case CosFace():
                given = {"margin": settings.margin, "scale": settings.scale}
                self.loss = losses.CosFaceLoss(classes, dimension, **given)
            case ProxyAnchor():
                given = {"margin": settings.margin, "alpha": settings.scale}
                self.loss = losses.ProxyAnchorLoss(classes, dimension, **given)
            case SupCon():
                self.loss = losses.SupConLoss(temperature=settings.temperature)
        for weight in self.parameters():  # short ones turn in few steps
            nn.init.normal_(weight, std=0.01)

    def forward(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the loss of labelled images."""
        vectors, labels = outputs["vector"], targets[:, 0]
        labelled = labels >= 0
        if not bool(labelled.any()):
            return vectors.sum() * 0.0
        return self.loss(F.normalize(vectors[labelled]), labels[labelled])


def cosine(vectors: Tensor, targets: Tensor, words: Tensor) -> Tensor:
    """1 - cos of a vector and the mean of its labels'.

    Args:
        words: unit vectors of the labels that are trained on, (labels, dimension).
    """
    labelled = targets[:, 0] >= 0
    if not bool(labelled.any()):
        return vectors.sum() * 0.0
    aims = _shares(targets[labelled], len(words)).to(words.dtype) @ words
    return (1 - F.cosine_similarity(vectors[labelled], aims)).mean()


def hinge_rank(vectors: Tensor, targets: Tensor, words: Tensor, margin: float) -> Tensor:
    """sum over other labels of max(0, margin - v·t_own + v·t_other): Frome et al. 2013, eq. 1.

    Of several labels of an image, the mean; labels are no others of each other.
    """
    labelled = targets[:, 0] >= 0
    if not bool(labelled.any()):
        return vectors.sum() * 0.0
    own = targets[labelled]
    near = F.normalize(vectors[labelled]) @ words.T
    others = (_shares(own, len(words)) == 0).to(near.dtype)
    nearest = near.gather(1, own.clamp(min=0))[:, :, None]
    violated = (margin - nearest + near[:, None]).clamp(min=0) * others[:, None]  # (n, own, labels)
    there = (own >= 0).to(near.dtype)
    return ((violated.sum(2) * there).sum(1) / there.sum(1)).mean()


def _shares(targets: Tensor, labels: int) -> Tensor:
    """Return the share of each label in an image, (n, labels): 1 over their number, or 0."""
    has = torch.zeros(len(targets), labels + 1, device=targets.device)
    has.scatter_(1, torch.where(targets >= 0, targets, labels), 1.0)  # the last one: no label
    return has[:, :labels] / (targets >= 0).sum(1, keepdim=True).clamp(min=1)


def same_direction(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos of each vector and the teacher's."""
    return (1 - F.cosine_similarity(student, teacher)).mean()


def relational(student: Tensor, teacher: Tensor, distance: float, angle: float) -> Tensor:
    """distance x RKD-D + angle x RKD-A: Park et al. 2019, arXiv:1904.05068, eqs. 5 and 7.

    Distances of pairs in units of their mean in the batch, and cosines of the angles of triplets,
    by Huber's loss.
    """
    ours, theirs = F.normalize(student), F.normalize(teacher)
    found = ours.sum() * 0.0
    if distance:
        found = found + distance * F.smooth_l1_loss(_distances(ours), _distances(theirs))
    if angle:
        found = found + angle * F.smooth_l1_loss(_angles(ours), _angles(theirs))
    return found


def _distances(vectors: Tensor) -> Tensor:
    """Return the distances of all ordered pairs over their mean, ((n - 1) n,)."""
    count = len(vectors)
    apart = ~torch.eye(count, dtype=torch.bool, device=vectors.device)
    differences = (vectors[:, None] - vectors[None])[apart]
    lengths = differences.square().sum(1).clamp(min=1e-12).sqrt()
    return lengths / lengths.mean()


def _angles(vectors: Tensor) -> Tensor:
    """Return the cosine of the angle at each image between all pairs of others, (n^3,)."""
    towards = F.normalize(vectors[None] - vectors[:, None], dim=2)
    return torch.einsum("ijd,ikd->ijk", towards, towards).flatten()
