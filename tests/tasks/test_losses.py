"""Losses against formulas written down independently in NumPy; gradients by finite differences."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from compress.methods.distill.settings import Distillation
from compress.tasks import discover
from compress.tasks.classification import losses
from compress.tasks.classification.settings import KD

STUDENT, TEACHER = np.random.default_rng(0).normal(size=(2, 6, 5)) * 2
LABELS = np.array([0, 4, 2, -1, 1, -1])


def kd(student: np.ndarray, teacher: np.ndarray, t: float) -> float:
    q = softmax(teacher / t, 1)
    kl = (q * (np.log(q) - log_softmax(student / t, 1))).sum(1)
    return float(kl.mean() * t * t)


def dkd(
    student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, t: float, a: float, b: float
) -> float:
    total = 0.0
    for s, q_logits, label in zip(student / t, teacher / t, labels, strict=True):
        target = label if label >= 0 else int(q_logits.argmax())
        p, q = softmax(s), softmax(q_logits)
        pair_p, pair_q = [np.array([x[target], 1 - x[target]]) for x in (p, q)]
        others_p, others_q = [np.delete(x, target) / (1 - x[target]) for x in (p, q)]
        total += a * (pair_q * np.log(pair_q / pair_p)).sum()
        total += b * (others_q * np.log(others_q / others_p)).sum()
    return total / len(student) * t * t


def dist(student: np.ndarray, teacher: np.ndarray, t: float, b: float, g: float) -> float:
    p, q = softmax(student / t, 1), softmax(teacher / t, 1)
    rows = np.mean([1 - np.corrcoef(x, y)[0, 1] for x, y in zip(p, q, strict=True)])
    columns = np.mean([1 - np.corrcoef(x, y)[0, 1] for x, y in zip(p.T, q.T, strict=True)])
    return float((b * rows + g * columns) * t * t)


CASES = {
    "kd": (
        lambda s, t, y: losses.kd(s, t, 3.0),
        lambda s, t, y: kd(s, t, 3.0),
    ),
    "dkd": (
        lambda s, t, y: losses.dkd(s, t, y, 4.0, 1.0, 8.0),
        lambda s, t, y: dkd(s, t, y, 4.0, 1.0, 8.0),
    ),
    "dist": (
        lambda s, t, y: losses.dist(s, t, 2.0, 2.0, 1.5),
        lambda s, t, y: dist(s, t, 2.0, 2.0, 1.5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    ours, formula = CASES[name]
    got = ours(torch.tensor(STUDENT), torch.tensor(TEACHER), torch.tensor(LABELS))
    assert float(got) == pytest.approx(formula(STUDENT, TEACHER, LABELS), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    ours, formula = CASES[name]
    student = torch.tensor(STUDENT, requires_grad=True)
    ours(student, torch.tensor(TEACHER), torch.tensor(LABELS)).backward()
    assert student.grad is not None
    for i, j in [(0, 0), (1, 3), (3, 2), (5, 4)]:
        step = np.zeros_like(STUDENT)
        step[i, j] = 1e-5
        numeric = formula(STUDENT + step, TEACHER, LABELS) - formula(
            STUDENT - step, TEACHER, LABELS
        )
        assert float(student.grad[i, j]) == pytest.approx(numeric / 2e-5, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_a_perfect_student_has_no_loss(name: str) -> None:
    ours, _ = CASES[name]
    same = torch.tensor(TEACHER)
    assert float(ours(same, same, torch.tensor(LABELS))) == pytest.approx(0, abs=1e-6)


def test_confident_logits_stay_finite() -> None:
    sure = torch.tensor([[300.0, -300.0, 0.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    for ours, _ in CASES.values():
        loss = ours(student, sure, torch.tensor([0]))
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_a_recipe_that_names_no_loss_means_that_of_classification() -> None:
    """Whatever tasks there are: the default is part of the keys of what was trained."""
    assert next(iter(discover())) == "classification"
    assert Distillation.model_fields["loss"].default == KD()
