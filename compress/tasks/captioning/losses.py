"""Losses of sentences, in nats a word; each returns a scalar.

Logits are (n, sentences, steps, words), or (n, steps, words) of a network that is told none.
Targets are words, int64 (n, captions, steps), NOTHING behind a caption's end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.tasks.captioning.words import END, NOTHING, UNKNOWN


def labels(
    logits: Tensor,
    attention: Tensor,
    targets: Tensor,
    smoothing: float,
    doubly_stochastic: float,
) -> Tensor:
    """Cross entropy of words, and the doubly stochastic regularization: Xu et al. 2015, eq. 14.

    That is doubly_stochastic x sum over places of (1 - sum over words of attention)^2, as the cross
    entropy a mean over all words. Unknown words are not learned; they take part in where it looks.

    Args:
        attention: (…, steps, places), as the logits are.
    """
    there = targets != NOTHING
    if not bool(there.any()):
        return logits.sum() * 0.0
    logits, attention = (_of_captions(x, targets) for x in (logits, attention))
    learned = there & (targets != UNKNOWN)
    words = F.cross_entropy(
        logits[learned], targets[learned], reduction="sum", label_smoothing=smoothing
    )
    seen = (attention * there.unsqueeze(-1)).sum(2)
    uneven = ((1 - seen).square().sum(-1) * there.any(-1)).sum()
    return words / learned.sum().clamp(min=1) + doubly_stochastic * uneven / there.sum()


def _of_captions(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the outputs of the captions: the first sentences, or the only one for each."""
    if outputs.ndim == targets.ndim:
        outputs = outputs.unsqueeze(1)
    captions = targets.shape[1]
    return outputs.expand(-1, captions, -1, -1) if outputs.shape[1] == 1 else outputs[:, :captions]


def spoken(logits: Tensor) -> Tensor:
    """Return the words that logits (n, steps, words) say, NOTHING behind the end: (n, steps)."""
    words = logits.argmax(2)
    ended = (words == END).long().cumsum(1) - (words == END).long()
    return torch.where(ended > 0, NOTHING, words)


def word_kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher_T || student_T) of each word up to the teacher's end: Kim & Rush 2016.

    Args:
        student: logits, of which the last sentence is the teacher's.
        teacher: logits of its own sentence, (n, steps, words).
    """
    ours = student if student.ndim == 3 else student[:, -1]
    there = spoken(teacher) != NOTHING
    log_p = (ours / temperature).log_softmax(2)[there]
    log_q = (teacher / temperature).log_softmax(2)[there]
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2


def drawn(logits: Tensor) -> Tensor:
    """Cross entropy with words drawn by their probabilities, summed."""
    flat = logits.flatten(0, -2)
    words = torch.multinomial(flat.detach().softmax(1), 1).squeeze(1)
    return F.cross_entropy(flat, words, reduction="sum")
