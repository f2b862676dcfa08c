"""Risk and coverage: every order of equal confidences, closed forms, and what may not matter."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.metrics.selective import (
    excess_risk_coverage_area,
    max_logit_suppression,
    normalised_risk_coverage_area,
    risk_coverage_area,
)

seeds = st.integers(0, 10_000)
AREAS = risk_coverage_area, excess_risk_coverage_area, normalised_risk_coverage_area


def draw(seed: int = 0, n: int = 30, k: int = 4):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return logits, torch.distributions.Categorical(logits=logits / 2).sample()


def slow_area(confidence: list[float], wrong: list[int]) -> float:
    """Mean over all orders that put the more confident first."""
    n, found = len(wrong), []
    for order in itertools.permutations(range(n)):
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order)):
            errors = [wrong[i] for i in order]
            found.append(sum(sum(errors[: i + 1]) / (i + 1) for i in range(n)) / n)
    return sum(found) / len(found)


def of_confidence(confidence: list[float], right: list[bool]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three classes with that largest logit over two zeros, and labels that make the answer right."""
    logits = torch.zeros(len(right), 3, dtype=torch.float64)
    logits[:, 1] = torch.tensor(confidence, dtype=torch.float64)
    return logits, torch.tensor([1 if r else 0 for r in right])


@given(data=st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.booleans()), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_area_is_the_mean_over_all_orders_of_ties(data):
    confidence, right = map(list, zip(*data, strict=True))
    logits, labels = of_confidence(confidence, right)
    wrong = [0 if r else 1 for r in right]
    expected = slow_area(confidence, wrong)
    best = slow_area([-w for w in wrong], wrong)
    assert risk_coverage_area(logits, labels) == pytest.approx(expected)
    assert excess_risk_coverage_area(logits, labels) == pytest.approx(expected - best)


def test_area_against_loops():
    logits, labels = draw(n=200)
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    z = logits.numpy() - logits.numpy().mean(1, keepdims=True)
    wrong = p.argmax(1) != labels.numpy()

    def area(confidence: np.ndarray) -> float:
        ranked = wrong[np.argsort(-confidence)]
        return float(np.mean([ranked[:i].mean() for i in range(1, len(ranked) + 1)]))

    assert risk_coverage_area(logits, labels) == pytest.approx(area(p.max(1)))
    assert excess_risk_coverage_area(logits, labels) == pytest.approx(area(p.max(1)) - area(-wrong.astype(float)))
    for power in (1.5, 2.0, 8.0):
        normalised = z.max(1) / (np.abs(z) ** power).sum(1) ** (1 / power)
        assert normalised_risk_coverage_area(logits, labels, power) == pytest.approx(area(normalised))
    assert normalised_risk_coverage_area(logits, labels) == normalised_risk_coverage_area(logits, labels, 2)


def test_best_and_worst_ranking():
    logits, labels = of_confidence([4, 3, 2, 1], [True, True, False, False])
    assert risk_coverage_area(logits, labels) == pytest.approx((1 / 3 + 2 / 4) / 4)
    assert excess_risk_coverage_area(logits, labels) == pytest.approx(0, abs=1e-15)
    logits, labels = of_confidence([4, 3, 2, 1], [False, False, True, True])
    assert risk_coverage_area(logits, labels) == pytest.approx((1 + 1 + 2 / 3 + 2 / 4) / 4)
    # Without a ranking each area is the error rate.
    logits, labels = of_confidence([2, 2, 2, 2], [True, False, True, True])
    assert risk_coverage_area(logits, labels) == pytest.approx(1 / 4)
    assert normalised_risk_coverage_area(torch.full((4, 3), 0.1), torch.tensor([0, 1, 0, 0])) == pytest.approx(
        1 / 4
    )


def test_probabilities_that_round_to_one_keep_their_order():
    logits, labels = of_confidence([90, 80, 70, 60], [True, True, False, False])
    assert torch.softmax(logits, 1).amax(1).eq(1).all()
    assert excess_risk_coverage_area(logits, labels) == pytest.approx(0, abs=1e-15)


def test_normalising_undoes_what_the_scale_of_a_sample_does():
    """Wrong answers that are larger, but not clearer: the largest probability is misled, its direction is not."""
    right, wrong = torch.tensor([2.0, -1.0, -1.0]), torch.tensor([50.0, 40.0, -90.0])
    logits, labels = torch.stack([right, right, wrong, wrong]), torch.tensor([0, 0, 1, 1])
    assert risk_coverage_area(logits, labels) == pytest.approx((1 + 1 + 2 / 3 + 2 / 4) / 4)
    assert normalised_risk_coverage_area(logits, labels) == pytest.approx((1 / 3 + 2 / 4) / 4)


def test_equal_but_for_rounding_is_equal():
    """By p = 1, a largest logit that alone is above the mean has confidence 1/2, however large."""
    logits = torch.tensor([[0.3, -0.1, -0.1], [7.1, 0.3, -1.1], [0.07, 0.01, 0.03], [3.3, 0.2, 0.1]])
    labels = torch.tensor([0, 1, 0, 0])
    assert normalised_risk_coverage_area(logits, labels, 1) == pytest.approx(1 / 4)
    assert normalised_risk_coverage_area(logits[:, :2], labels) == pytest.approx(1 / 4)


@given(seed=seeds, k=st.integers(2, 6))
@example(seed=1766, k=2)
@example(seed=230, k=2)
@settings(deadline=None, max_examples=40)
def test_bounds_shifts_orders_and_scales(seed, k):
    logits, labels = draw(seed, 30, k)
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(30, generator=generator), torch.randperm(k, generator=generator)
    shifts = torch.randint(-4, 5, (30, 1), generator=generator)
    measures = [*AREAS, *([max_logit_suppression] if 0 < (logits.argmax(1) == labels).sum() < 30 else [])]
    for measure in measures:
        before = pytest.approx(measure(logits, labels), rel=1e-9, abs=1e-12)
        assert measure(logits[rows], labels[rows]) == before
        assert measure(logits + shifts, labels) == before
        assert measure(logits[:, columns], columns.argsort()[labels]) == before
        if measure in (normalised_risk_coverage_area, max_logit_suppression):
            assert measure(3 * logits, labels) == before
    assert 0 <= excess_risk_coverage_area(logits, labels) <= risk_coverage_area(logits, labels) <= 1


def test_max_logit_suppression():
    logits, labels = draw(n=60)
    heights = {True: [], False: []}
    for row, label in zip(logits.numpy(), labels.tolist(), strict=True):
        heights[bool(row.argmax() == label)].append(float(row.max() - row.mean()))
    expected = (np.mean(heights[True]) - np.mean(heights[False])) / np.mean(heights[True] + heights[False])
    assert max_logit_suppression(logits, labels) == pytest.approx(expected)
    # One class over two zeros, at 3 where right and 1 where wrong.
    assert max_logit_suppression(*of_confidence([3, 1], [True, False])) == pytest.approx(1)
    assert max_logit_suppression(*of_confidence([2, 2], [True, False])) == pytest.approx(0)
    for undefined in ([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False]), ([0.0, 0.0], [True, False]):
        assert math.isnan(max_logit_suppression(*of_confidence(*undefined)))
