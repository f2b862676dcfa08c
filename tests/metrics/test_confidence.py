"""How sure a network may be by its labels, and whether it is less sure than it is right."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from distill.losses import in_uniform
from distill.metrics.confidence import Gap, ceiling, confidence_gap, under_confident
from tests.metrics.drawn import calibrated


def sure(confidences: list[float], right: list[bool], classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose class 0 has these probabilities, the rest alike; the label is 0 where right, else 1."""
    p = torch.tensor(confidences, dtype=torch.float64).unsqueeze(1)
    rest = ((1 - p) / (classes - 1)).expand(-1, classes - 1)
    return torch.cat([p, rest], 1).log(), (~torch.tensor(right)).long()


@given(smoothing=st.floats(0, 0.99), classes=st.integers(2, 1000))
def test_the_ceiling_is_the_largest_target(smoothing, classes):
    target = torch.full((classes,), smoothing / classes, dtype=torch.float64)
    target[0] += 1 - smoothing
    assert ceiling(smoothing, classes) == pytest.approx(target.max().item())


def test_the_ceiling_in_closed_form():
    assert ceiling(0.0, 10) == 1
    assert ceiling(0.1, 10) == pytest.approx(0.91)
    assert ceiling(in_uniform(0.1, "others", 10), 10) == pytest.approx(0.9), "over the others the label keeps 1 - ε"


def test_a_network_at_its_targets_is_as_sure_as_the_ceiling():
    """The optimal gap of logits, log((1-ε)K/ε + 1), gives that probability."""
    smoothing, classes = 0.1, 10
    logits = torch.zeros(1, classes, dtype=torch.float64)
    logits[0, 3] = math.log((1 - smoothing) * classes / smoothing + 1)
    assert confidence_gap(logits, torch.tensor([3])).confidence == pytest.approx(ceiling(smoothing, classes))


def test_gap_by_hand():
    logits, labels = sure([0.9, 0.8, 0.7, 0.6], [True, True, True, False])
    found = confidence_gap(logits, labels)
    assert found[:3] == pytest.approx((0.75, 0.75, 0.0))


def test_with_all_right_and_one_confidence_the_interval_is_wilsons():
    found = confidence_gap(*sure([0.9] * 40, [True] * 40))
    wilson = binomtest(40, 40).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low - 0.9, wilson.high - 0.9))
    assert under_confident(found)
    assert not under_confident(confidence_gap(*sure([0.9] * 4, [True] * 4))), "four samples prove nothing"


def test_with_many_samples_the_interval_is_that_of_paired_differences():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 4, generator=generator, dtype=torch.float64)
    labels = torch.softmax(logits, 1).multinomial(1, generator=generator).squeeze(1)
    found = confidence_gap(logits, labels)
    confidences, answers = torch.softmax(logits, 1).max(1)
    differences = (answers == labels).double() - confidences
    half = 1.96 * differences.std().item() / math.sqrt(len(labels))
    assert found.gap == pytest.approx(differences.mean().item())
    assert (found.low, found.high) == pytest.approx((found.gap - half, found.gap + half), abs=0.01 * half)


def test_a_calibrated_network_is_seldom_called_under_confident():
    """One side of a 95 % interval: about 1 in 40; of 400 drawn, 20 would be 3 standard deviations above."""
    generator = torch.Generator().manual_seed(1)
    called = 0
    for _ in range(400):
        logits = 3 * torch.randn(200, 10, generator=generator, dtype=torch.float64)
        labels = torch.softmax(logits, 1).multinomial(1, generator=generator).squeeze(1)
        called += under_confident(confidence_gap(logits, labels))
    assert called < 20


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 50), n=st.integers(1, 60), classes=st.integers(2, 6))
@settings(deadline=None, max_examples=60)
def test_the_gap_lies_in_its_interval(seed, scale, n, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator)
    found = confidence_gap(logits, torch.randint(classes, (n,), generator=generator))
    assert found.low <= found.gap <= found.high
    assert found.gap == pytest.approx(found.accuracy - found.confidence)
    assert all(map(math.isfinite, found))


def test_under_confident_is_an_interval_wholly_above_0():
    assert under_confident(Gap(0.9, 0.8, 0.1, 0.01, 0.2))
    assert not under_confident(Gap(0.9, 0.8, 0.1, -0.01, 0.2))
    assert not under_confident(Gap(0.8, 0.9, -0.1, -0.2, -0.01))


def test_no_sample_is_refused():
    with pytest.raises(ValueError, match="one sample or more"):
        confidence_gap(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))


def test_a_temperature_on_top_of_smoothing_softens_twice():
    """A network that a calibrated one became by T = 2 is under-confident, and more so at another 2."""
    logits, labels = calibrated(9, 4_000, 4)

    def gap(temperature: float) -> Gap:
        return confidence_gap(logits / temperature, labels)

    assert not under_confident(gap(1))
    assert under_confident(gap(2))
    assert under_confident(gap(4))
    assert gap(4).gap > gap(2).gap > 0
    # A network that is too sure is mended by its own temperature only.
    assert not under_confident(gap(1 / 3))
    assert under_confident(gap(6 / 3))
