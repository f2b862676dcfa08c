from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from distill.metrics.calibration import brier, ece, mean_max_probability, reliability


def draw(seed: int, scale: float = 3.0, n: int = 400, k: int = 6):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return logits, torch.randint(k, (n,), generator=generator)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_ece_against_torchmetrics(bins, scale):
    logits, labels = draw(0, scale)
    p = torch.softmax(logits, 1)
    expected = multiclass_calibration_error(p, labels, num_classes=6, n_bins=bins, norm="l1")
    assert ece(logits, labels, bins) == pytest.approx(expected.item(), abs=1e-6)


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 50), n=st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_ece_is_a_share_and_bins_hold_every_sample(seed, scale, n):
    logits, labels = draw(seed, scale, n)
    diagram = reliability(logits, labels)
    assert 0 <= ece(logits, labels) <= 1
    assert diagram.count.sum().item() == n
    assert diagram.count.shape == diagram.accuracy.shape == diagram.confidence.shape == (15,)
    mean = (diagram.count * diagram.confidence).sum().item() / n
    assert mean == pytest.approx(mean_max_probability(logits))


def test_bins_are_closed_on_the_right():
    logits = torch.tensor([[0.0, 0.0], [200.0, 0.0]])  # Confidence ½ and 1.
    diagram = reliability(logits, torch.tensor([0, 1]), bins=2)
    assert diagram.count.tolist() == [1, 1]
    assert diagram.confidence.tolist() == [0.5, 1.0]
    assert diagram.accuracy.tolist() == [1.0, 0.0]


def test_an_empty_bin_holds_zeros():
    diagram = reliability(torch.tensor([[200.0, 0.0]]), torch.tensor([0]), bins=4)
    assert diagram.accuracy.tolist() == diagram.confidence.tolist() == [0, 0, 0, 1]


def test_brier_against_loops():
    logits, labels = draw(3)
    p = torch.softmax(logits, 1).tolist()
    total = sum((x - (k == y)) ** 2 for row, y in zip(p, labels.tolist(), strict=True) for k, x in enumerate(row))
    assert brier(logits, labels) == pytest.approx(total / len(p))
