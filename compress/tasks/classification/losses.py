"""Losses of logits (n, classes); each returns a scalar in nats, the batch's mean."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross entropy with the classes; unlabelled images (-1) do not count."""
    labelled = targets >= 0
    if not bool(labelled.any()):
        return outputs.sum() * 0.0
    return F.cross_entropy(outputs[labelled], targets[labelled], label_smoothing=smoothing)


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher_T || student_T): Hinton et al. 2015, arXiv:1503.02531."""
    log_p = F.log_softmax(student / temperature, 1)
    log_q = F.log_softmax(teacher / temperature, 1)
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Decoupled KD: alpha TCKD + beta NCKD. Zhao et al. 2022, arXiv:2203.08679.

    TCKD compares the target class against all others as a pair, NCKD the distribution among the
    others. `labels` (n,) are the targets; where an image has none (-1) the teacher's first is.
    """
    target = torch.where(labels >= 0, labels, teacher.argmax(1))[:, None]
    log_p = F.log_softmax(student / temperature, 1)
    log_q = F.log_softmax(teacher / temperature, 1)
    is_target = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, target, True)

    def pair(log: Tensor) -> Tensor:
        others = log.masked_fill(is_target, -torch.inf).logsumexp(1, keepdim=True)
        return torch.cat([log.gather(1, target), others], 1)

    tckd = F.kl_div(pair(log_p), pair(log_q), reduction="batchmean", log_target=True)
    # A large negative number, not -inf: the removed class would give 0 x inf = nan in the gradient.
    removed = -1e4
    log_p_others = F.log_softmax((student / temperature).masked_fill(is_target, removed), 1)
    log_q_others = F.log_softmax((teacher / temperature).masked_fill(is_target, removed), 1)
    nckd = F.kl_div(log_p_others, log_q_others, reduction="batchmean", log_target=True)
    return (alpha * tckd + beta * nckd) * temperature**2


def dist(student: Tensor, teacher: Tensor, temperature: float, beta: float, gamma: float) -> Tensor:
    """beta x inter-class + gamma x intra-class (1 - Pearson correlation), times T^2.

    Huang et al. 2022, arXiv:2205.10536: rows are compared per image, columns per class.
    """
    p = F.softmax(student / temperature, 1)
    q = F.softmax(teacher / temperature, 1)
    inter = 1 - _pearson(p, q).mean()
    intra = 1 - _pearson(p.T, q.T).mean()
    return (beta * inter + gamma * intra) * temperature**2


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), 1, 1e-8)
