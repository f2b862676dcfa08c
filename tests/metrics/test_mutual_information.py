"""Mutual information: against loops, closed forms and the formula as it is printed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.metrics.mutual_information import collapsed_information, mutual_information, printed_information


def sample(seed: int, n: int = 40, draws: int = 5, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A fresh view and others of n images, whose centres spread so much more than their views."""
    generator = torch.Generator().manual_seed(seed)
    centres = spread * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    values = centres + torch.randn(n, draws + 1, generator=generator, dtype=torch.float64)
    return values[:, 0], values[:, 1:]


def slow(evaluated: torch.Tensor, drawn: torch.Tensor) -> float:
    y, means, n = evaluated.tolist(), [sum(row) / len(row) for row in drawn.tolist()], len(evaluated)
    variance = sum((y[x] - means[x]) ** 2 for x in range(n)) / n
    total = 0.0
    for x in range(n):
        inner = sum(math.exp(-((y[x] - means[other]) ** 2) / (2 * variance)) for other in range(n)) / n
        total += -((y[x] - means[x]) ** 2) / (2 * variance) - math.log(inner)
    return total / n


def as_printed(evaluated: torch.Tensor, drawn: torch.Tensor) -> float:
    """The formula with one index in both sums, as the paper has it."""
    residuals = (evaluated - drawn.mean(dim=1)).numpy()
    exponents = -(residuals**2) / (2 * np.mean(residuals**2))
    return float(np.mean(exponents - np.log(np.mean(np.exp(exponents)))))


seeds = st.integers(0, 10_000)
spreads = st.sampled_from([0.0, 0.1, 1.0, 10.0, 1e4])


@given(seed=seeds, n=st.integers(1, 30), draws=st.integers(1, 6), spread=st.sampled_from([0.0, 0.3, 1.0, 5.0]))
@settings(deadline=None, max_examples=40)
def test_against_loops(seed, n, draws, spread):
    data = sample(seed, n, draws, spread)
    assert mutual_information(*data) == pytest.approx(slow(*data), rel=1e-9, abs=1e-9)


def test_more_images_than_are_held_at_a_time():
    data = sample(0, n=1100, draws=2, spread=3)
    assert mutual_information(*data) == pytest.approx(slow(*data), rel=1e-9)


@given(seed=seeds, n=st.integers(1, 50), draws=st.integers(1, 6), spread=spreads)
@settings(deadline=None, max_examples=60)
def test_the_printed_formula_is_never_above_zero(seed, n, draws, spread):
    """It holds no comparison of two images, so images that are far apart do not make it larger."""
    assert as_printed(*sample(seed, n, draws, spread)) <= 1e-12


def test_the_printed_formula_does_not_see_the_data():
    near, far = (sample(3, n=600, spread=spread) for spread in (0.0, 1e4))
    assert as_printed(*near) == pytest.approx(as_printed(*far), abs=1e-6)
    # For Gaussian residuals: -1/2 - log E exp(-r² / 2) = -1/2 + log(2) / 2.
    assert as_printed(*sample(0, n=200_000)) == pytest.approx(-0.5 + math.log(2) / 2, abs=0.01)
    assert mutual_information(*far) > mutual_information(*near) + 5


@given(seed=seeds, n=st.integers(1, 50), draws=st.integers(1, 6), spread=spreads)
@settings(deadline=None, max_examples=60)
def test_bounds(seed, n, draws, spread):
    """The inner mean is at most 1 and at least its own term / n; the first terms average -1/2."""
    assert -0.5 - 1e-12 <= mutual_information(*sample(seed, n, draws, spread)) <= math.log(n) + 1e-12


@given(seed=seeds, shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=40)
def test_a_shift_and_a_scale_change_nothing(seed, shift, scale, sign):
    before = sample(seed, spread=3)
    after = [sign * scale * values + shift for values in before]
    assert mutual_information(*after) == pytest.approx(mutual_information(*before), rel=1e-5, abs=1e-7)


def test_images_that_are_far_apart_are_all_told_apart():
    centres = 100 * torch.arange(600, dtype=torch.float64).unsqueeze(1)
    noise = torch.randn(600, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = centres + noise
    # Only the own term is left in the inner mean, so the residuals cancel: exactly log N.
    assert mutual_information(values[:, 0], values[:, 1:]) == pytest.approx(math.log(600), abs=1e-9)


def test_without_noise_it_is_the_entropy_of_the_distinct_values():
    distinct = torch.arange(7.0)
    assert mutual_information(distinct, distinct.unsqueeze(1).expand(7, 3)) == pytest.approx(math.log(7))
    same = torch.full((7,), 0.3)
    assert mutual_information(same, same.unsqueeze(1).expand(7, 5)) == pytest.approx(0, abs=1e-6)
    groups = torch.tensor([1.0, 1.0, 1.0, 2.0])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert mutual_information(groups, groups.unsqueeze(1)) == pytest.approx(entropy)


def test_float32_values_with_a_large_shift_are_taken_in_float64():
    evaluated, drawn = sample(1, spread=3)
    narrow = (evaluated.float() + 100, drawn.float() + 100)
    wide = tuple(values.double() for values in narrow)
    assert mutual_information(*narrow) == mutual_information(*wide)


def test_two_collapsed_clusters_with_many_views():
    assert collapsed_information(600, 500, repetitions=3) == pytest.approx(math.log(2), abs=0.01)
    assert collapsed_information(600, 500, clusters=1, repetitions=3) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("draws", [1, 2, 5, 20])
@pytest.mark.parametrize("clusters", [1, 2, 3])
def test_the_bias_of_few_views(draws, clusters):
    """Closed form for many images, with μ ~ N(0, 1/L), y ~ N(0, 1) and σ² = 1 + 1/L in the estimator."""
    bias = math.log((draws + 2) / (draws + 1)) / 2 - 1 / (draws + 2)
    found = collapsed_information(900, draws, clusters, repetitions=15)
    assert found == pytest.approx(math.log(clusters) + bias, abs=0.015)


@pytest.mark.parametrize(("clusters", "fresh", "reused"), [(2, 0.625, 0.805), (1, -0.067, 0.114)])
def test_a_view_that_made_the_mean_errs_upwards(clusters, fresh, reused):
    """Values of an independent simulation, N = 600 and L = 5; its noise is about 0.005."""
    assert collapsed_information(600, 5, clusters) == pytest.approx(fresh, abs=0.01)
    generator = torch.Generator().manual_seed(0)
    centres = 1e3 * (torch.arange(600) % clusters).double().unsqueeze(1)
    repeated = []
    for _ in range(50):
        drawn = centres + torch.randn(600, 5, generator=generator, dtype=torch.float64)
        repeated.append(mutual_information(drawn[:, 2], drawn))
    assert np.mean(repeated) == pytest.approx(reused, abs=0.01)
    assert np.mean(repeated) > math.log(clusters) > fresh


def test_the_floor_is_the_same_every_time():
    first = collapsed_information(50, 5)
    collapsed_information.cache_clear()
    assert collapsed_information(50, 5) == first


@given(st.integers(0, 200), st.sampled_from([0.0, 1.0, 100.0]))
@settings(max_examples=20, deadline=None)
def test_the_printed_formula_is_at_most_0_whatever_the_images(seed, spread):
    views = sample(seed, spread=spread)
    assert printed_information(*views) == pytest.approx(as_printed(*views), abs=1e-12)
    assert printed_information(*views) <= 0


def test_the_printed_formula_of_gaussian_outputs_has_a_closed_form():
    for spread in (0.0, 50.0):
        found = printed_information(*sample(1, n=100_000, spread=spread))
        assert found == pytest.approx((math.log(2) - 1) / 2, abs=0.01)
    assert printed_information(torch.ones(3), torch.ones(3, 2)) == 0
