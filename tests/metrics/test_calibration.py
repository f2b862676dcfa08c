from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torchmetrics.functional.classification import multiclass_calibration_error

from distill.metrics.accuracy import nll
from distill.metrics.calibration import (
    SHARPEST,
    brier,
    by_temperature,
    ece,
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
