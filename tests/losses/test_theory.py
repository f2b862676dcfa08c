"""Statements about label smoothing, tested on the losses: gradient, parts, optimum, conventions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from distill.losses import cross_entropy, in_uniform
from distill.metrics.confidence import ceiling
from distill.metrics.dark_knowledge import optimal_gap

CLASSES = st.integers(3, 12)
SMOOTHING = st.floats(0.01, 0.6)
CONVENTION = st.sampled_from(["uniform", "others"])
SEED = st.integers(0, 2**31)


def draw(seed: int, classes: int, samples: int = 4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(classes, (samples,), generator=generator)


def target(smoothing: float, convention: str, label: int, classes: int) -> list[float]:
    """As the definitions have it, one number at a time."""
    if convention == "uniform":
        return [(1 - smoothing) * (k == label) + smoothing / classes for k in range(classes)]
    return [1 - smoothing if k == label else smoothing / (classes - 1) for k in range(classes)]


@given(SEED, CLASSES, SMOOTHING, CONVENTION)
@settings(deadline=None)
def test_the_gradient_is_what_is_said_minus_what_is_taught(seed, classes, smoothing, convention) -> None:
    logits, labels = draw(seed, classes)
    (found,) = torch.autograd.grad(cross_entropy(logits, labels, smoothing, convention), logits)
    taught = torch.tensor([target(smoothing, convention, y, classes) for y in labels.tolist()], dtype=torch.float64)
    torch.testing.assert_close(len(labels) * found, logits.softmax(1) - taught, rtol=0, atol=1e-12)


@given(SEED, CLASSES, SMOOTHING, CONVENTION)
@settings(deadline=None)
def test_three_parts_make_the_loss(seed, classes, smoothing, convention) -> None:
    """(1-ε) CE + ε KL(u‖p) + ε H(u), ε that of the uniform convention."""
    logits, labels = draw(seed, classes)
    u = torch.full_like(logits, 1 / classes)
    of_label = F.cross_entropy(logits, labels)
    pull = F.kl_div(logits.log_softmax(1), u, reduction="batchmean")
    e = smoothing if convention == "uniform" else smoothing * classes / (classes - 1)
    expected = (1 - e) * of_label + e * pull + e * math.log(classes)
    torch.testing.assert_close(cross_entropy(logits, labels, smoothing, convention), expected, rtol=1e-12, atol=0)


def gap_at_the_minimum(smoothing: float, convention: str, classes: int) -> tuple[float, float]:
    """Gap of the logits at which the loss is least, and how far the wrong logits are apart; no formula used."""
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor([classes - 1])

    def loss(z):
        logits = torch.tensor(z[None], requires_grad=True)
        value = cross_entropy(logits, label, smoothing, convention)
        return value.item(), torch.autograd.grad(value, logits)[0].numpy()[0]

    start = torch.randn(classes, generator=generator, dtype=torch.float64).numpy()
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-10, "maxiter": 1000}
    ).x
    return found[-1] - found[:-1].mean(), found[:-1].max() - found[:-1].min()


@given(CLASSES, SMOOTHING, CONVENTION)
@settings(deadline=None, max_examples=30)
def test_the_loss_is_least_at_the_optimal_gap(classes, smoothing, convention) -> None:
    gap, spread = gap_at_the_minimum(smoothing, convention, classes)
    best = math.log((1 - smoothing) * classes / smoothing + 1)
    if convention == "others":
        best = math.log((1 - smoothing) * (classes - 1) / smoothing)
    assert gap == pytest.approx(best, abs=1e-5)
    assert spread == pytest.approx(0, abs=1e-5), "wrong classes get one logit"
    assert optimal_gap(in_uniform(smoothing, convention, classes), classes) == pytest.approx(best, rel=1e-12)


@given(CLASSES, SMOOTHING, CONVENTION, st.integers(0, 2**31))
@settings(deadline=None)
def test_no_logits_do_better_than_the_entropy_of_the_target(classes, smoothing, convention, seed) -> None:
    logits, labels = draw(seed, classes, samples=1)
    taught = target(smoothing, convention, int(labels), classes)
    entropy = -sum(share * math.log(share) for share in taught)
    at_the_optimum = torch.tensor([[math.log(share) for share in taught]], dtype=torch.float64)
    assert cross_entropy(at_the_optimum, labels, smoothing, convention).item() == pytest.approx(entropy, rel=1e-12)
    assert cross_entropy(logits, labels, smoothing, convention).item() >= entropy - 1e-12


def test_hard_labels_have_no_minimum() -> None:
    losses = [cross_entropy(torch.tensor([[gap, 0, 0]]).double(), torch.tensor([0])).item() for gap in range(30)]
    assert all(later < sooner for sooner, later in pairwise(losses))
    assert optimal_gap(0, 3) == math.inf
    gaps = [optimal_gap(smoothing, 10) for smoothing in (1e-9, 0.01, 0.1, 0.5, 0.99)]
    assert gaps == sorted(gaps, reverse=True), "more smoothing, smaller gap"


@given(SEED, CLASSES, SMOOTHING)
@settings(deadline=None)
def test_the_conventions_differ_by_this_much(seed, classes, smoothing) -> None:
    """With one ε by ε/K of the label's share and ε/(K-1) (z_y - mean z) of the loss; converted by nothing."""
    logits, labels = draw(seed, classes)
    of_label = logits.gather(1, labels[:, None]).squeeze(1)
    shares = [target(smoothing, convention, 0, classes)[0] for convention in ("uniform", "others")]
    assert shares[0] - shares[1] == pytest.approx(smoothing / classes, rel=1e-9)
    difference = cross_entropy(logits, labels, smoothing, "others") - cross_entropy(logits, labels, smoothing)
    expected = smoothing / (classes - 1) * (of_label - logits.mean(1)).mean()
    torch.testing.assert_close(difference, expected, rtol=1e-9, atol=1e-12)
    converted = cross_entropy(logits, labels, in_uniform(smoothing, "others", classes))
    torch.testing.assert_close(converted, cross_entropy(logits, labels, smoothing, "others"), rtol=1e-12, atol=0)


def test_five_classes() -> None:
    assert target(0.1, "uniform", 2, 5) == pytest.approx([0.02, 0.02, 0.92, 0.02, 0.02])
    assert target(0.1, "others", 2, 5) == pytest.approx([0.025, 0.025, 0.9, 0.025, 0.025])
    assert in_uniform(0.1, "others", 5) == pytest.approx(0.125)
    assert in_uniform(0.08, "others", 5) == pytest.approx(0.1)
    for convention, smoothing in (("uniform", 0.1), ("others", 0.1)):
        taught = torch.tensor([target(smoothing, convention, 2, 5)], dtype=torch.float64)
        logits = torch.tensor([[0.3, -1, 2, 0, 1]], dtype=torch.float64)
        found = cross_entropy(logits, torch.tensor([2]), smoothing, convention)
        assert found.item() == pytest.approx(-(taught * logits.log_softmax(1)).sum().item(), rel=1e-12)


@given(CLASSES, SMOOTHING)
@settings(deadline=None)
def test_the_ceiling_is_the_probability_at_the_optimum(classes, smoothing) -> None:
    logits = torch.zeros(classes, dtype=torch.float64)
    logits[0] = optimal_gap(smoothing, classes)
    assert logits.softmax(0).max().item() == pytest.approx(ceiling(smoothing, classes), rel=1e-12)


@given(CLASSES, SMOOTHING, st.floats(0.2, 5))
@settings(deadline=None)
def test_a_temperature_turns_one_optimum_into_another(classes, smoothing, temperature) -> None:
    """Logits at the optimum of ε, divided by T, are at the optimum of some other ε: wrong classes stay alike."""
    logits = torch.zeros(1, classes, dtype=torch.float64)
    logits[0, 0] = optimal_gap(smoothing, classes) / temperature
    wrong = logits.softmax(1)[0, 1:].sum().item()
    other = wrong * classes / (classes - 1)
    assert optimal_gap(other, classes) == pytest.approx(logits[0, 0].item(), rel=1e-6)
    tempered = logits.requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(tempered, torch.tensor([0]), other), tempered)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)
