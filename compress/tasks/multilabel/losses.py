"""Losses of logits (n, labels); each returns a scalar in nats, the mean over known labels.

Targets are 0 and 1, nan where it is not known whether an image has a label.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-7  # from 0 and 1, in whose logarithms and roots gradients are no numbers


def binary_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross entropy of each label alone; smoothing s makes s/2 of 0 and 1 - s/2 of 1."""
    known = targets.isfinite()
    if not bool(known.any()):
        return logits.sum() * 0.0
    smooth = targets[known] * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits[known], smooth)


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    smoothing: float,
    gamma_positive: float,
    gamma_negative: float,
    margin: float,
) -> Tensor:
    """Ridnik et al. 2021, arXiv:2009.14119: with p the probability and q = max(p - margin, 0),
    -(1 - p)^gamma_positive log p where there is the label, -q^gamma_negative log(1 - q) elsewhere.
    """
    known = targets.isfinite()
    if not bool(known.any()):
        return logits.sum() * 0.0
    x, smooth = logits[known], targets[known] * (1 - smoothing) + smoothing / 2
    missed = x.neg().sigmoid().clamp(min=EPSILON)
    positive = -(missed**gamma_positive) * F.logsigmoid(x)
    false_alarm = (x.sigmoid() - margin).clamp(EPSILON, 1 - EPSILON)
    negative = -(false_alarm**gamma_negative) * torch.log1p(-false_alarm)
    return (smooth * positive + (1 - smooth) * negative).mean()


def binary_kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher_T || student_T) of each label alone, whether it is known or not."""
    ours, theirs = student / temperature, teacher / temperature
    there = theirs.sigmoid() * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    not_there = theirs.neg().sigmoid() * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
    return (there + not_there).mean() * temperature**2


def drawn(logits: Tensor) -> Tensor:
    """Cross entropy with labels drawn by their probabilities, summed."""
    labels = torch.bernoulli(logits.detach().sigmoid())
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
