from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.metrics.dark_knowledge import (
    class_similarity,
    equivalent_smoothing,
    interclass_variance,
    nontarget_spread,
    optimal_gap,
)


def draw(seed: int = 0, n: int = 60, k: int = 5, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, k, generator=generator, dtype=dtype)
    return logits, torch.randint(k, (n,), generator=generator)


def slow(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    z, y, classes = logits.double().numpy(), labels.numpy(), logits.shape[1]
    others = [np.delete(row, label) for row, label in zip(z, y, strict=True)]
    variance = [np.var(row) for row in others]
    gap = np.array([row[label] - rest.mean() for row, label, rest in zip(z, y, others, strict=True)])
    within = between = 0.0
    for c in set(y.tolist()):
        u = np.array([rest - rest.mean() for rest, label in zip(others, y, strict=True) if label == c])
        between += len(u) * np.square(u.mean(0)).sum() / (classes - 1)
        within += np.square(u - u.mean(0)).sum() / (classes - 1)
    return {
        "total": float(np.mean(variance)),
        "relative": float(np.mean(variance) / np.mean(gap**2)),
        "within": within / len(y),
        "between": between / len(y),
        "gap": float(gap.mean()),
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_interclass_variance_against_loops(dtype):
    logits, labels = draw(dtype=dtype)
    assert vars(interclass_variance(logits, labels)) == pytest.approx(slow(logits, labels), rel=1e-10)


seeds = st.integers(0, 10_000)


@given(seed=seeds, n=st.integers(1, 30), k=st.integers(3, 12))
@settings(deadline=None, max_examples=30)
def test_within_and_between_sum_to_the_total(seed, n, k):
    measured = interclass_variance(*draw(seed, n, k))
    assert measured.within + measured.between == pytest.approx(measured.total, rel=1e-12)


@given(seed=seeds, shift=st.floats(-1e3, 1e3), scale=st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_a_shift_changes_nothing_and_a_scale_squares(seed, shift, scale):
    logits, labels = draw(seed)
    shifts = shift * torch.linspace(-1, 1, len(labels), dtype=torch.float64).unsqueeze(1)
    before, after = interclass_variance(logits, labels), interclass_variance(scale * logits + shifts, labels)
    for name, power in (("total", 2), ("within", 2), ("between", 2), ("gap", 1), ("relative", 0)):
        expected = getattr(before, name) * scale**power
        assert getattr(after, name) == pytest.approx(expected, rel=1e-8, abs=1e-9), name


def test_collapsed_classes_have_no_variance_within():
    labels = torch.arange(4).repeat(3)
    measured = interclass_variance(torch.randn(4, 4).double()[labels], labels)
    assert measured.within == pytest.approx(0, abs=1e-20)
    assert measured.between == pytest.approx(measured.total)


def test_the_optimum_of_smoothing():
    """Values of the closed form, and the network that reaches it has γ = ε and no inter-class variance."""
    assert [round(optimal_gap(e, 10), 3) for e in (0.05, 0.1, 0.3)] == [5.252, 4.511, 3.192]
    assert optimal_gap(0.1, 100) == pytest.approx(6.804, abs=1e-3)
    assert optimal_gap(0, 10) == math.inf
    labels = torch.arange(10)
    logits = torch.eye(10) * optimal_gap(0.1, 10)
    assert equivalent_smoothing(logits, labels, 1.0) == pytest.approx(0.1, rel=1e-6)
    measured = interclass_variance(logits, labels)
    assert measured.total == pytest.approx(0, abs=1e-12)
    assert measured.gap == pytest.approx(4.511, abs=1e-3)


def test_equivalent_smoothing():
    logits, labels = draw()
    p = torch.softmax(logits / 3, 1)
    wrong = [1 - row[label].item() for row, label in zip(p, labels, strict=True)]
    assert equivalent_smoothing(logits, labels, 3.0) == pytest.approx(sum(wrong) / len(wrong) * 5 / 4)
    assert equivalent_smoothing(logits, labels, 1e9) == pytest.approx(1)
    confident = torch.tensor([[0.0, 60.0, 0.0]])
    assert equivalent_smoothing(confident, torch.tensor([1]), 1.0) == pytest.approx(3 * math.exp(-60))


def test_nontarget_spread():
    logits, labels = draw()
    spread = nontarget_spread(logits, labels)
    for c in range(5):
        rows = np.delete(logits[labels == c].numpy(), c, axis=1)
        assert spread[c].item() == pytest.approx(math.sqrt(rows.var(axis=1).mean()))
    assert nontarget_spread(logits, labels.clamp(max=3))[4].isnan()


def test_class_similarity():
    logits, labels = draw()
    similarity = class_similarity(logits, labels, temperature=2.0)
    for c in range(5):
        rows = np.exp(np.delete(logits[labels == c].numpy(), c, axis=1) / 2)
        expected = np.insert((rows / rows.sum(1, keepdims=True)).mean(0), c, 0)
        np.testing.assert_allclose(similarity[c].numpy(), expected)
    torch.testing.assert_close(similarity.sum(1), torch.ones(5).double())
    assert class_similarity(logits, labels.clamp(max=3))[4].isnan().all()
