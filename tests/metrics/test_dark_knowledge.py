from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from distill.metrics.dark_knowledge import (
    aggregated_variance,
    class_similarity,
    conditional_mutual_information,
    confusion,
    difficulty,
    equivalent_smoothing,
    interclass_variance,
    logit_deviation,
    nontarget,
    nontarget_entropy,
    nontarget_spread,
    optimal_gap,
    similarity_correlation,
    wrong_class_variance,
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


SOFT = (
    wrong_class_variance,
    difficulty,
    nontarget_entropy,
    conditional_mutual_information,
    aggregated_variance,
)
"""Measures of soft targets at a temperature."""


def softmax(row: np.ndarray) -> np.ndarray:
    weights = np.exp(row - row.max())
    return weights / weights.sum()


def slow_soft(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> dict[str, float]:
    """The same, one sample and one class at a time."""
    y, classes = labels.tolist(), logits.shape[1]
    p = [softmax(row / temperature) for row in logits.double().numpy()]
    others = [np.delete(row, label) for row, label in zip(p, y, strict=True)]
    centres = {c: np.mean([row for row, label in zip(p, y, strict=True) if label == c], axis=0) for c in set(y)}
    entropies, divergences = [], []
    for row, rest, label in zip(p, others, y, strict=True):
        conditional = rest / rest.sum()
        entropies.append(-sum(float(v) * math.log(v) for v in conditional))
        divergences.append(sum(float(v) * math.log(v / centres[label][c]) for c, v in enumerate(row)))
    by_class = [
        np.mean([sum((row[c] - centre[c]) ** 2 for c in range(classes)) for row in np.array(p)[np.array(y) == of]])
        for of, centre in centres.items()
    ]
    return {
        "wrong_class_variance": float(np.mean([np.mean((rest - rest.mean()) ** 2) for rest in others])),
        "difficulty": float(np.mean([1 - row[label] for row, label in zip(p, y, strict=True)])),
        "nontarget_entropy": float(np.mean(entropies)),
        "conditional_mutual_information": float(np.mean(divergences)),
        "aggregated_variance": float(np.mean(by_class)),
    }


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_soft_targets_against_loops(temperature, dtype):
    logits, labels = draw(dtype=dtype)
    labels = labels.clamp(max=3)  # a class without samples
    found = {measure.__name__: measure(logits, labels, temperature) for measure in SOFT}
    assert found == pytest.approx(slow_soft(logits, labels, temperature), rel=1e-9)


@given(seed=seeds, n=st.integers(1, 30), k=st.integers(3, 9), shift=st.floats(-50, 50), t=st.floats(0.3, 20))
@settings(deadline=None, max_examples=40)
def test_shifts_and_orders_change_nothing(seed, n, k, shift, t):
    """A shift of each sample's logits, another order of the samples, other numbers for the classes."""
    logits, labels = draw(seed, n, k)
    generator = torch.Generator().manual_seed(seed)
    shifted = logits + shift * torch.linspace(-1, 1, n, dtype=torch.float64).unsqueeze(1)
    rows, columns = torch.randperm(n, generator=generator), torch.randperm(k, generator=generator)
    for measure in SOFT:
        before = measure(logits, labels, t)
        assert measure(shifted, labels, t) == pytest.approx(before, rel=1e-6, abs=1e-9)
        assert measure(logits[rows], labels[rows], t) == pytest.approx(before, rel=1e-9, abs=1e-12)
        assert measure(logits[:, columns], columns.argsort()[labels], t) == pytest.approx(
            before, rel=1e-9, abs=1e-12
        )
    assert logit_deviation(shifted) == pytest.approx(logit_deviation(logits), rel=1e-6)


@given(seed=seeds, n=st.integers(1, 30), k=st.integers(3, 9), t=st.floats(0.1, 100))
@example(seed=1341, n=1, k=7, t=0.1)  # all of the mass on wrong classes, and rounding
@settings(deadline=None, max_examples=40)
def test_bounds(seed, n, k, t):
    logits, labels = draw(seed, n, k)
    assert 0 <= wrong_class_variance(logits, labels, t) <= 1 / (k - 1)
    assert 0 <= difficulty(logits, labels, t) <= 1
    assert 0 <= nontarget_entropy(logits, labels, t) <= math.log(k - 1) + 1e-12
    assert -1e-12 <= conditional_mutual_information(logits, labels, t) <= math.log(k)
    assert 0 <= aggregated_variance(logits, labels, t) <= 1


def test_uniform_and_certain_predictions():
    labels = torch.arange(6) % 3
    flat = torch.zeros(6, 3)
    assert wrong_class_variance(flat, labels) == pytest.approx(0)
    assert difficulty(flat, labels) == pytest.approx(2 / 3)
    assert nontarget_entropy(flat, labels) == pytest.approx(math.log(2))
    assert conditional_mutual_information(flat, labels) == pytest.approx(0)
    assert aggregated_variance(flat, labels) == pytest.approx(0)
    # So sure that the other probabilities underflow: one half of each class answers 0, the other half 1.
    sure = 2000.0 * torch.eye(3)[torch.tensor([0, 0, 0, 1, 1, 1])]
    assert conditional_mutual_information(sure, labels) == pytest.approx(math.log(2))
    assert aggregated_variance(sure, labels) == pytest.approx(1 / 2)
    confident = torch.tensor([[0.0, 60.0, 0.0]])
    assert difficulty(confident, torch.tensor([1])) == pytest.approx(2 * math.exp(-60))


def test_information_is_what_the_entropies_leave():
    """I(X;Ŷ|Y) = H(mean of p) - mean H(p) within a class."""
    logits, _ = draw()
    p = torch.softmax(logits, 1)
    of_mean = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()
    assert conditional_mutual_information(logits, torch.zeros(60).long()) == pytest.approx(of_mean.item())


def test_difficulty_is_equivalent_smoothing_but_for_a_factor():
    logits, labels = draw()
    assert difficulty(logits, labels, 3.0) * 5 / 4 == pytest.approx(equivalent_smoothing(logits, labels, 3.0))


def test_logit_deviation():
    logits, _ = draw()
    slow = [math.sqrt(sum((v - np.mean(row)) ** 2 for v in row) / 4) for row in logits.numpy()]
    assert logit_deviation(logits) == pytest.approx(np.mean(slow))
    assert logit_deviation(3 * logits) == pytest.approx(3 * logit_deviation(logits))


def test_nontarget():
    values = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert nontarget(values, torch.tensor([1, 0])).tolist() == [[1, 3], [5, 6]]


def test_confusion():
    logits = torch.eye(3)[torch.tensor([0, 0, 1, 2, 2])]
    found = confusion(logits, torch.tensor([0, 0, 0, 0, 1]))
    torch.testing.assert_close(found[:2], torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]).double())
    assert found[2].isnan().all()


@given(seed=seeds, k=st.integers(3, 8), ties=st.booleans())
@settings(deadline=None, max_examples=30)
def test_similarity_correlation_is_spearmans_off_the_diagonal(seed, k, ties):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, k, k, generator=generator, dtype=torch.float64)
    if ties:
        a, b = (4 * a).round(), (4 * b).round()
    pairs = [(a[i, j].item(), b[i, j].item()) for i in range(k) for j in range(k) if i != j]
    if all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
        assert similarity_correlation(a, b) == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
        assert similarity_correlation(a, a**3) == pytest.approx(1)
        assert similarity_correlation(a, 1 - a) == pytest.approx(-1)
    else:
        assert math.isnan(similarity_correlation(a, b))


def test_similarity_correlation_leaves_out_classes_without_samples():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 4, 4, generator=generator, dtype=torch.float64)
    kept = [(a[i, j].item(), b[i, j].item()) for i in range(3) for j in range(4) if i != j]
    a[3] = math.nan
    assert similarity_correlation(a, b) == pytest.approx(spearmanr(*zip(*kept, strict=True)).statistic)
    assert similarity_correlation(b, a) == pytest.approx(similarity_correlation(a, b))
    assert math.isnan(similarity_correlation(torch.full((4, 4), 1 / 3) + 1e-16 * a.nan_to_num(), b))
    assert math.isnan(similarity_correlation(torch.full((4, 4), math.nan), b))


def test_a_network_that_confuses_what_it_finds_similar():
    """Answers drawn from the similarities themselves, with as many errors in each class."""
    generator = torch.Generator().manual_seed(0)
    template = 2 * torch.randn(6, 6, generator=generator, dtype=torch.float64)
    truth = torch.arange(6).repeat_interleave(4000)
    similarity = class_similarity(template, torch.arange(6))
    said = torch.multinomial(similarity / 2 + torch.eye(6) / 2, 4000, True, generator=generator).flatten()
    found = confusion(torch.nn.functional.one_hot(said, 6).double(), truth)
    assert similarity_correlation(similarity, found) > 0.95
