"""The fitted temperature against scipy and closed forms, and what it does at the bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from distill.errors import UnfitTeacher
from distill.metrics.accuracy import nll
from distill.metrics.calibration_error import ece
from distill.metrics.dark_knowledge import equivalent_smoothing
from distill.metrics.temperature import SHARPEST, by_temperature, fit_temperature, solve_temperature
from tests.metrics.drawn import calibrated, draw


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
    logits, labels = calibrated(0, 20_000, 5)
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
    nlls, errors = by_temperature(logits, labels, temperatures, bins)
    assert nlls == pytest.approx([nll(logits / t, labels) for t in temperatures])
    assert errors == pytest.approx([ece(logits / t, labels, bins) for t in temperatures])


def with_margin(margin: float, right: int, wrong: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw logits of which one is `margin` above all others: that of the label in `right` samples, else another."""
    labels = torch.arange(right + wrong) % k
    chosen = torch.cat([labels[:right], (labels[right:] + 1) % k])
    return margin * F.one_hot(chosen, k).double(), labels


@pytest.mark.parametrize("k", [2, 10, 1000])
@pytest.mark.parametrize("temperature", [0.02, 0.7, 1.0, 4.0, 300.0])
def test_solved_temperature_against_its_closed_form(temperature, k):
    # One margin m: γ = K / (e^(m/T) + K - 1).
    margin = 3.0 * temperature
    logits, labels = with_margin(margin, 7, 0, k)
    gamma = k / (math.exp(margin / temperature) + k - 1)
    found = solve_temperature(gamma, lambda t: equivalent_smoothing(logits, labels, t))
    assert found == pytest.approx(temperature, rel=1e-9)


@given(st.integers(0, 100), st.sampled_from([0.1, 1.0, 20.0]), st.integers(2, 12), st.floats(0.001, 0.999))
@settings(max_examples=25, deadline=None)
def test_a_solved_temperature_has_the_smoothing_that_was_asked_for(seed, scale, k, gamma):
    logits, labels = mostly_right(seed, scale, 20, k)

    def of(t: float) -> float:
        return equivalent_smoothing(logits, labels, t)

    try:
        found = solve_temperature(gamma, of)
    except UnfitTeacher:
        seen = [of(2.0**power) for power in range(-20, 21)]
        assert not min(seen) <= gamma <= max(seen)
    else:
        assert of(found) == pytest.approx(gamma, abs=1e-6)


def test_a_smoothing_out_of_reach_is_refused_with_the_range():
    # One of four samples is wrong however sharp the answers: γ falls to 1/4 times K/(K-1).
    logits, labels = with_margin(5.0, 3, 1, 5)
    with pytest.raises(UnfitTeacher, match=r"loss.equivalent_smoothing = 0.2: expected 0.3125 to 1, "):
        solve_temperature(0.2, lambda t: equivalent_smoothing(logits, labels, t))
