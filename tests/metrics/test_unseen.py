from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from distill.metrics.unseen import corrected_recall, margin_auc, prior_bias, recall


def draw(seed: int = 0, n: int = 200, k: int = 5):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(k, (n,), generator=generator)
    logits = torch.randn(n, k, generator=generator)
    logits[torch.arange(n), labels] += 2
    logits[:, 3] -= 4  # Never seen: hardly ever predicted.
    return logits, labels


def margin(logits: torch.Tensor, cls: int) -> torch.Tensor:
    others = [k for k in range(logits.shape[1]) if k != cls]
    return logits[:, cls].double() - logits[:, others].double().amax(1)


def test_recall_against_sklearn():
    logits, labels = draw()
    for cls in range(5):
        expected = recall_score(labels, logits.argmax(1), labels=[cls], average=None)[0]
        assert recall(logits, labels, cls) == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), prior=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_the_bias_gives_the_prior(seed, n, prior):
    logits, _ = draw(seed, n)
    biased = logits.double()
    biased[:, 3] += prior_bias(logits, 3, prior)
    assert (biased.argmax(1) == 3).sum().item() == round(n * prior)


def test_the_bias_recovers_a_class_that_only_lacks_its_bias():
    logits, labels = draw()
    logits[torch.arange(200), labels] += 10
    logits[:, 3] -= 20
    assert recall(logits, labels, 3) == 0
    prior = (labels == 3).double().mean().item()
    assert corrected_recall(logits, labels, 3, prior) == 1


def test_ties_stay_out():
    logits = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    labels = torch.tensor([1, 1, 1, 1])
    assert recall(logits, labels, 1) == 0
    assert prior_bias(logits, 1, 0.25) == 0.5
    assert prior_bias(logits, 1, 0.5) == 1.0
    assert corrected_recall(logits, labels, 1, 0.5) == 0.25
    assert corrected_recall(logits, labels, 1, 0.0) == 0
    assert corrected_recall(logits, labels, 1, 1.0) == 1


@pytest.mark.parametrize("prior", [-0.1, 1.1, math.nan])
def test_a_prior_that_is_no_share(prior):
    with pytest.raises(ValueError, match="expected a share"):
        prior_bias(torch.zeros(2, 2), 0, prior)


@pytest.mark.parametrize("rounded", [False, True])
def test_auc_against_sklearn(rounded):
    logits, labels = draw()
    if rounded:  # Many ties.
        logits = logits.round()
    for cls in range(5):
        expected = roc_auc_score((labels == cls).numpy(), margin(logits, cls).numpy())
        assert margin_auc(logits, labels, cls) == pytest.approx(expected)


def test_without_samples_there_is_no_value():
    logits, _ = draw(n=4)
    labels = torch.zeros(4, dtype=torch.int64)
    assert math.isnan(recall(logits, labels, 1))
    assert math.isnan(margin_auc(logits, labels, 1))
    assert math.isnan(margin_auc(logits, labels, 0))


def test_the_logits_are_left_alone():
    logits, labels = draw()
    before = logits.clone()
    corrected_recall(logits, labels, 3, 0.2)
    assert torch.equal(logits, before)
