from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from distill.metrics.accuracy import accuracy, agreement, brier, nll, predictive_kl


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(300, 7, generator=generator)
    return logits, torch.randint(7, (300,), generator=generator), torch.randn(300, 7, generator=generator)


def test_against_sklearn(predictions):
    logits, labels, _ = predictions
    p = torch.softmax(logits.double(), 1).numpy()
    assert accuracy(logits, labels) == pytest.approx(accuracy_score(labels, p.argmax(1)))
    assert nll(logits, labels) == pytest.approx(log_loss(labels, p, labels=range(7)))


def test_brier_against_loops(predictions):
    logits, labels, _ = predictions
    p = torch.softmax(logits.double(), 1).tolist()
    total = sum((x - (k == y)) ** 2 for row, y in zip(p, labels.tolist(), strict=True) for k, x in enumerate(row))
    assert brier(logits, labels) == pytest.approx(total / len(p))


def test_agreement_and_kl_against_loops(predictions):
    student, _, teacher = predictions
    p_t, p_s = torch.softmax(teacher.double(), 1).tolist(), torch.softmax(student.double(), 1).tolist()
    same = sum(
        max(range(7), key=a.__getitem__) == max(range(7), key=b.__getitem__) for a, b in zip(p_t, p_s, strict=True)
    )
    kl = sum(x * math.log(x / y) for a, b in zip(p_t, p_s, strict=True) for x, y in zip(a, b, strict=True))
    assert agreement(student, teacher) == pytest.approx(same / 300)
    assert predictive_kl(student, teacher) == pytest.approx(kl / 300)


def test_a_network_agrees_with_itself(predictions):
    logits, _, _ = predictions
    assert agreement(logits, logits + 5) == 1
    assert predictive_kl(logits, logits) == 0
