from __future__ import annotations

import math
from statistics import mean
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from distill.metrics import calibration_error
from distill.metrics.accuracy import nll
from distill.metrics.calibration_error import (
    SHARPEST,
    brier,
    by_temperature,
    ece,
    ece_adaptive,
    ece_classwise,
    ece_equal_mass,
    fit_temperature,
    mean_max_probability,
    reliability,
)


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


def calibrated(seed: int, n: int = 20_000, k: int = 5):
    """Logits whose softmax is where the labels were drawn from: calibrated by construction."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


def mostly_right(seed: int, scale: float, n: int, k: int):
    logits, labels = draw(seed, scale, n, k)
    keep = torch.rand(n, generator=torch.Generator().manual_seed(seed + 1)) < 0.3
    return logits, torch.where(keep, labels, logits.argmax(1))


@pytest.mark.parametrize("n", [30, 2_000])
@pytest.mark.parametrize("k", [2, 10, 100])
@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
def test_temperature_against_scipy(scale, k, n):
    logits, labels = mostly_right(n + k, scale, n, k)

    def at(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels).item()

    bounds = math.log(scale / SHARPEST), math.log(scale * SHARPEST)
    expected: Any = minimize_scalar(at, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(math.exp(expected.x), rel=1e-5)
    assert at(math.log(fitted)) <= expected.fun + 1e-12


@given(seed=st.integers(0, 10_000), factor=st.floats(1e-4, 1e4), shift=st.floats(-50, 50), n=st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_scaled_logits_get_the_scaled_temperature(seed, factor, shift, n):
    logits, labels = mostly_right(seed, 3.0, n, 4)
    of_scaled = fit_temperature(factor * logits + shift * torch.arange(n).double().unsqueeze(1), labels)
    assert of_scaled == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_a_calibrated_network_gets_back_what_its_logits_were_multiplied_by(temperature):
    logits, labels = calibrated(0)
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.03)
    assert ece(logits, labels) < 0.01


def test_where_every_sample_is_right_the_temperature_is_the_lower_bound():
    logits, _ = draw(5)
    spread = (logits - logits.mean(1, keepdim=True)).square().mean().sqrt().item()
    assert fit_temperature(logits, logits.argmax(1)) == pytest.approx(spread / SHARPEST)
    assert fit_temperature(logits, logits.argmin(1)) == pytest.approx(spread * SHARPEST)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e6])
def test_equal_logits_get_temperature_1(value):
    assert fit_temperature(torch.full((6, 7), value, dtype=torch.float64), torch.arange(6)) == 1


@pytest.mark.parametrize("rows", [[], [[0.0, math.nan]], [[math.inf, 0.0]]])
def test_temperature_of_nothing_or_of_what_diverged(rows):
    logits = torch.tensor(rows).reshape(-1, 2)
    with pytest.raises(ValueError, match="finite logits"):
        fit_temperature(logits, torch.zeros(len(logits), dtype=torch.int64))


def test_float32_logits_are_fitted_in_float64():
    logits, labels = mostly_right(8, 3.0, 500, 10)
    logits = logits.float()
    assert fit_temperature(logits, labels) == fit_temperature(logits.double(), labels)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 50), n=st.integers(1, 50), bins=st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_by_temperature_is_nll_and_ece_of_divided_logits(seed, scale, n, bins):
    logits, labels = draw(seed, scale, n)
    temperatures = (0.25, 1.0, 3.0)
    found = by_temperature(logits, labels, temperatures, bins)
    assert found.nll == pytest.approx([nll(logits / t, labels) for t in temperatures])
    assert found.ece == pytest.approx([ece(logits / t, labels, bins) for t in temperatures])


def slow_equal_mass(scores: list[float], hits: list[float], bins: int) -> float:
    """Ranges of the sorted scores, one sample at a time; samples of equal scores share their hits."""
    shared = {
        score: mean([hit for s, hit in zip(scores, hits, strict=True) if s == score]) for score in set(scores)
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
    logits, labels = calibrated(1)
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
        monkeypatch.setattr(calibration_error, "_SORTED", at_once)
        assert ece_adaptive(logits, labels) == pytest.approx(whole, rel=1e-12)
