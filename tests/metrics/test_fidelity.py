"""Student against teacher: the loops of the definitions, the sum that the divergences make, and invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.metrics.accuracy import predictive_kl
from distill.metrics.fidelity import (
    deviation_ratio,
    inter_correlation,
    intra_correlation,
    nontarget_divergence,
    target_divergence,
)

seeds = st.integers(0, 10_000)


def draw(seed: int = 0, n: int = 40, k: int = 5, dtype: torch.dtype = torch.float64):
    """A teacher, a student that is like it, and labels."""
    generator = torch.Generator().manual_seed(seed)
    teacher = 2 * torch.randn(n, k, generator=generator, dtype=dtype)
    student = teacher + torch.randn(n, k, generator=generator, dtype=dtype)
    return student, teacher, torch.randint(k, (n,), generator=generator)


def measures(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, t: float) -> dict[str, float]:
    return {
        "target": target_divergence(student, teacher, labels, t),
        "nontarget": nontarget_divergence(student, teacher, labels, t),
        "inter": inter_correlation(student, teacher, t),
        "intra": intra_correlation(student, teacher, t),
        "deviation": deviation_ratio(student, teacher),
    }


def softmax(logits: torch.Tensor, t: float) -> np.ndarray:
    return np.stack([np.exp(row / t) / np.exp(row / t).sum() for row in logits.double().numpy()])


def slow(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, t: float) -> dict[str, float]:
    p, q = softmax(student, t), softmax(teacher, t)
    target, nontarget = [], []
    for of_student, of_teacher, label in zip(p, q, labels.tolist(), strict=True):
        a, b = of_teacher[label], of_student[label]
        target.append(a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b)))
        a, b = np.delete(of_teacher, label), np.delete(of_student, label)
        a, b = a / a.sum(), b / b.sum()
        nontarget.append(sum(float(v) * math.log(v / w) for v, w in zip(a, b, strict=True)))
    spread = [np.mean([np.std(row, ddof=1) for row in z.double().numpy()]) for z in (student, teacher)]
    return {
        "target": float(np.mean(target)),
        "nontarget": float(np.mean(nontarget)),
        "inter": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])),
        "intra": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])),
        "deviation": float(spread[0] / spread[1]),
    }


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_against_loops(temperature, dtype):
    data = draw(dtype=dtype)
    assert measures(*data, temperature) == pytest.approx(slow(*data, temperature), rel=1e-9)


@given(seed=seeds, k=st.integers(2, 8))
@settings(deadline=None, max_examples=30)
def test_the_parts_make_the_whole(seed, k):
    """KL = target part + mean of (1 - p_t,y) times a sample's non-target part (Zhao et al. 2022, eq. 7)."""
    student, teacher, labels = draw(seed, 12, k)
    rest = 1 - torch.softmax(teacher, 1).gather(1, labels.unsqueeze(1)).squeeze(1)
    of_each = [
        nontarget_divergence(student[i : i + 1], teacher[i : i + 1], labels[i : i + 1]) for i in range(len(labels))
    ]
    weighed = (rest * torch.tensor(of_each)).mean().item()
    whole = target_divergence(student, teacher, labels) + weighed
    assert whole == pytest.approx(predictive_kl(student, teacher), rel=1e-6)
    assert nontarget_divergence(student, teacher, labels) == pytest.approx(sum(of_each) / len(of_each))


@given(seed=seeds, k=st.integers(3, 8), t=st.floats(0.5, 20), shift=st.floats(-50, 50))
@settings(deadline=None, max_examples=40)
def test_bounds_shifts_and_orders(seed, k, t, shift):
    student, teacher, labels = draw(seed, 20, k)
    before = measures(student, teacher, labels, t)
    assert min(before["target"], before["nontarget"]) >= 0
    assert max(abs(before["inter"]), abs(before["intra"])) <= 1 + 1e-12
    shifts = shift * torch.linspace(-1, 1, 20, dtype=torch.float64).unsqueeze(1)
    shifted = measures(student + shifts, teacher - shifts, labels, t)
    assert shifted == pytest.approx(before, rel=1e-5, abs=1e-9)
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(20, generator=generator), torch.randperm(k, generator=generator)
    moved = measures(student[rows][:, columns], teacher[rows][:, columns], columns.argsort()[labels[rows]], t)
    assert moved == pytest.approx(before, rel=1e-8, abs=1e-12)


def test_a_student_that_is_its_teacher():
    _, teacher, labels = draw()
    found = measures(teacher, teacher + 3, labels, 2.0)
    assert found == pytest.approx({"target": 0, "nontarget": 0, "inter": 1, "intra": 1, "deviation": 1}, abs=1e-12)


def test_a_student_that_knows_the_label_and_no_more():
    """Equal non-target logits, with the teacher's probability of the label: the non-target part is log(K-1) - H."""
    _, teacher, labels = draw()
    p = torch.softmax(teacher, 1)
    of_label = p.gather(1, labels.unsqueeze(1))
    student = ((1 - of_label) / 4).expand(-1, 5).scatter(1, labels.unsqueeze(1), of_label).log()
    assert target_divergence(student, teacher, labels) == pytest.approx(0, abs=1e-12)
    others = p.scatter(1, labels.unsqueeze(1), 0.0) / (1 - of_label)
    entropy = torch.special.entr(others).sum(1).mean().item()
    assert nontarget_divergence(student, teacher, labels) == pytest.approx(math.log(4) - entropy)


def test_very_confident_networks_keep_their_digits():
    """1 - p_y is e^-60 and e^-50 times as many: the divergence is their difference, not 0."""
    teacher, student = torch.tensor([[50.0, 0.0, 0.0]]), torch.tensor([[60.0, 0.0, 0.0]])
    a, b = (2 * math.exp(-50), 2 * math.exp(-60))
    expected = a * math.log(a / b) - (a - b)  # to first order in a and b
    assert target_divergence(student, teacher, torch.tensor([0])) == pytest.approx(expected, rel=1e-6)


def test_correlation_with_a_constant_counts_nothing():
    student, teacher, _ = draw()
    half = torch.cat([student[:20], torch.full((20, 5), 0.3)])
    assert inter_correlation(half, teacher) == pytest.approx(inter_correlation(student[:20], teacher[:20]) / 2)
    same = teacher[:1].expand(40, 5)
    assert intra_correlation(same, teacher) == 0
    assert inter_correlation(torch.full((40, 5), 0.3), teacher) == 0


def test_deviation_ratio_is_that_of_the_temperatures():
    _, teacher, _ = draw()
    assert deviation_ratio(teacher / 4 + 1, teacher) == pytest.approx(1 / 4)
    assert math.isnan(deviation_ratio(teacher, torch.ones(40, 5)))
