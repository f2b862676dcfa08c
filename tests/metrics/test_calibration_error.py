from __future__ import annotations

import math
from statistics import mean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from distill.metrics import calibration_error
from distill.metrics.calibration_error import (
    ece,
    ece_adaptive,
    ece_classwise,
    ece_equal_mass,
    reliability,
)
from distill.metrics.confidence import mean_confidence
from tests.metrics.drawn import calibrated, draw


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
    assert mean == pytest.approx(mean_confidence(logits))


def test_bins_are_closed_on_the_right():
    logits = torch.tensor([[0.0, 0.0], [200.0, 0.0]])  # Confidence ½ and 1.
    diagram = reliability(logits, torch.tensor([0, 1]), bins=2)
    assert diagram.count.tolist() == [1, 1]
    assert diagram.confidence.tolist() == [0.5, 1.0]
    assert diagram.accuracy.tolist() == [1.0, 0.0]


def test_an_empty_bin_holds_zeros():
    diagram = reliability(torch.tensor([[200.0, 0.0]]), torch.tensor([0]), bins=4)
    assert diagram.accuracy.tolist() == diagram.confidence.tolist() == [0, 0, 0, 1]


def slow_equal_mass(scores: list[float], hits: list[float], bins: int) -> float:
    """Take ranges of the sorted scores; samples whose scores are equal but for rounding share their hits."""
    shared = {
        score: mean([hit for s, hit in zip(scores, hits, strict=True) if math.isclose(s, score, rel_tol=1e-12)])
        for score in set(scores)
    }
    ordered, n = sorted(scores), len(scores)
    error = 0.0
    for r in range(bins):
        members = ordered[r * n // bins : (r + 1) * n // bins]
        error += abs(sum(shared[score] - score for score in members))
    return error / n


def slow_equal_width(scores: list[float], hits: list[float], bins: int) -> float:
    error = 0.0
    for b in range(bins):
        members = [
            (score, hit)
            for score, hit in zip(scores, hits, strict=True)
            if b / bins < score <= (b + 1) / bins or (b == 0 and score == 0)
        ]
        error += abs(sum(hit - score for score, hit in members))
    return error / len(scores)


def top_label(logits, labels):
    confidence, predicted = logits.softmax(1).max(1)
    return confidence.tolist(), (predicted == labels).double().tolist()


def of_classes(logits, labels):
    p = logits.softmax(1)
    return [(p[:, k].tolist(), (labels == k).double().tolist()) for k in range(p.shape[1])]


@pytest.mark.parametrize("bins", [1, 2, 7, 15])
@pytest.mark.parametrize("n", [1, 5, 60, 97])
@pytest.mark.parametrize("ties", [False, True])
def test_other_errors_against_loops(n, bins, ties):
    logits, labels = draw(n + bins, 2.0, n, 4)
    if ties:
        logits = logits.round()
    assert ece_equal_mass(logits, labels, bins) == pytest.approx(slow_equal_mass(*top_label(logits, labels), bins))
    classes = of_classes(logits, labels)
    for measure, slow in ((ece_adaptive, slow_equal_mass), (ece_classwise, slow_equal_width)):
        expected = mean([slow(*each, bins) for each in classes])
        assert measure(logits, labels, bins) == pytest.approx(expected, abs=1e-12)


def test_each_class_against_torchmetrics():
    logits, labels = draw(11, 1.5)
    p = logits.softmax(1)
    of_class = [
        binary_calibration_error(p[:, k].contiguous(), (labels == k).long(), n_bins=12, norm="l1").item()
        for k in range(6)
    ]
    assert ece_classwise(logits, labels, 12) == pytest.approx(mean(of_class), abs=1e-6)


def test_closed_forms_of_one_confidence():
    """Two classes, every image 0.8 sure, 60 % right: each error is 0.2, whatever the bins."""
    logits = torch.tensor([[math.log(4.0), 0.0]]).repeat(50, 1).double()
    labels = torch.tensor([0] * 30 + [1] * 20)
    for measure in (ece, ece_equal_mass, ece_classwise, ece_adaptive):
        assert measure(logits, labels, 15) == pytest.approx(0.2)


def test_equal_mass_sees_what_equal_width_averages_away():
    """Confidences 0.91 and 0.99 in one bin of width 0.1, wrong in opposite directions."""
    sure = torch.tensor([0.91] * 10 + [0.99] * 10, dtype=torch.float64)
    logits = torch.stack([sure.log(), (1 - sure).log()], dim=1)
    labels = torch.tensor([0] * 10 + [1] + [0] * 9)
    assert ece(logits, labels, 10) == pytest.approx(0.0, abs=1e-12)
    assert ece_equal_mass(logits, labels, 2) == pytest.approx(0.09)


ERRORS = (ece, ece_equal_mass, ece_classwise, ece_adaptive)


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 50), n=st.integers(1, 50), bins=st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_errors_are_shares_that_no_order_changes(seed, scale, n, bins):
    logits, labels = draw(seed, scale, n)
    logits = logits.round()  # Ties in plenty.
    generator = torch.Generator().manual_seed(seed)
    rows, classes = torch.randperm(n, generator=generator), torch.randperm(6, generator=generator)
    for measure in ERRORS:
        found = measure(logits, labels, bins)
        assert 0 <= found <= 1
        assert measure(logits[rows], labels[rows], bins) == pytest.approx(found, abs=1e-12)
        if measure not in (ece, ece_equal_mass):  # Which of two equal logits is the answer depends on their order.
            renamed = torch.empty_like(classes).scatter(0, classes, torch.arange(6))
            assert measure(logits[:, classes], renamed[labels], bins) == pytest.approx(found, abs=1e-12)


def test_a_calibrated_network_has_small_errors_of_every_kind():
    logits, labels = calibrated(1, 20_000, 5)
    for measure in ERRORS:
        assert measure(logits, labels) < 0.02 < measure(4 * logits, labels)


def test_intervals_are_wilsons():
    logits, labels = draw(2, 2.0, 300)
    diagram = reliability(logits, labels, 10)
    for share, count, low, high in zip(
        diagram.accuracy.tolist(),
        diagram.count.tolist(),
        diagram.low.tolist(),
        diagram.high.tolist(),
        strict=True,
    ):
        if count:
            expected = binomtest(round(share * count), count).proportion_ci(method="wilson")
            assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        else:
            assert (low, high) == (0, 1)


def test_some_classes_at_a_time_are_all_classes(monkeypatch):
    logits, labels = draw(3, n=50, k=7)
    whole = ece_adaptive(logits, labels)
    for at_once in (1, 100, 149):
        monkeypatch.setattr(calibration_error, "SORTED_AT_ONCE", at_once)
        assert ece_adaptive(logits, labels) == pytest.approx(whole, rel=1e-12)
