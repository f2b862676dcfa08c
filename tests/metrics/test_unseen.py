from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from distill.metrics.accuracy import accuracy
from distill.metrics.unseen import (
    accuracy_among,
    accuracy_of,
    class_margin,
    corrected_accuracy,
    corrected_recall,
    margin_auc,
    prior_bias,
    recall,
)


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
    biased[:, 3] += prior_bias(class_margin(logits, (3,)), prior)
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
    assert prior_bias(class_margin(logits, (1,)), 0.25) == 0.5
    assert prior_bias(class_margin(logits, (1,)), 0.5) == 1.0
    assert corrected_recall(logits, labels, 1, 0.5) == 0.25
    assert corrected_recall(logits, labels, 1, 0.0) == 0
    assert corrected_recall(logits, labels, 1, 1.0) == 1


@pytest.mark.parametrize("prior", [-0.1, 1.1, math.nan])
def test_a_prior_that_is_no_share(prior):
    with pytest.raises(ValueError, match="expected a share"):
        prior_bias(torch.zeros(2), prior)


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
    corrected_accuracy(logits, labels, (0, 3), 0.4)
    accuracy_among(logits, labels, (0, 3))
    accuracy_of(logits, labels, (0, 3))
    assert torch.equal(logits, before)


def test_accuracy_of_some_classes_against_sklearn():
    logits, labels = draw()
    for classes in ((3,), (0, 3), (4, 1, 2), range(5)):
        kept = torch.tensor([int(label) in classes for label in labels])
        answers = logits.argmax(1)[kept]
        assert accuracy_of(logits, labels, classes) == pytest.approx(accuracy_score(labels[kept], answers))


def test_accuracy_among_some_classes_against_a_slow_oracle():
    logits, labels = draw()
    for classes in ((3,), (0, 3), (4, 1, 2), range(5)):
        samples = [i for i, label in enumerate(labels.tolist()) if label in classes]
        answers = [max(classes, key=lambda cls, i=i: logits[i, cls].item()) for i in samples]
        expected = accuracy_score(labels[samples], answers)
        assert accuracy_among(logits, labels, classes) == pytest.approx(expected)
    assert accuracy_among(logits, labels, (3,)) == 1, "one class cannot be confused"


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), prior=st.floats(0, 1), seen=st.sets(st.integers(0, 4)))
@settings(deadline=None, max_examples=100)
def test_corrected_accuracy_is_that_of_the_shifted_logits(seed, n, prior, seen):
    if len(seen) in (0, 5):
        seen = {1, 3}
    logits, labels = draw(seed, n)
    columns, others = sorted(seen), sorted(set(range(5)) - seen)
    gaps = sorted((logits[:, others].double().amax(1) - logits[:, columns].double().amax(1)).tolist())
    wanted = round(n * prior)
    # Any shift above exactly so many gaps is as good as any other.
    inner = [gaps[0] - 2, *gaps, gaps[-1] + 2]
    shifted = logits.double()
    shifted[:, columns] += inner[wanted] + 0.7 * (inner[wanted + 1] - inner[wanted])
    answers = shifted.argmax(1)
    assert sum(answer in seen for answer in answers.tolist()) == wanted
    assert corrected_accuracy(logits, labels, seen, prior) == pytest.approx(accuracy(shifted, labels))


@given(seed=st.integers(0, 10_000), bias=st.floats(-20, 20))
@settings(deadline=None, max_examples=40)
def test_a_bias_of_the_seen_classes_changes_what_is_trained_and_nothing_that_is_corrected(seed, bias):
    logits, labels = draw(seed, 60)
    biased = logits.double()
    biased[:, [1, 2]] += bias
    expected = corrected_accuracy(logits, labels, (1, 2), 0.4)
    assert corrected_accuracy(biased, labels, (1, 2), 0.4) == pytest.approx(expected)
    assert accuracy_among(biased, labels, (0, 3, 4)) == accuracy_among(logits, labels, (0, 3, 4))


def test_a_student_that_only_lacks_its_biases_is_right_after_the_shift():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (300,), generator=generator)
    logits = torch.randn(300, 5, generator=generator)
    logits[torch.arange(300), labels] += 10
    logits[:, [1, 2]] += 30
    prior = ((labels == 1) | (labels == 2)).double().mean().item()
    assert accuracy_of(logits, labels, (0, 3, 4)) == 0
    assert accuracy_among(logits, labels, (0, 3, 4)) == 1
    assert corrected_accuracy(logits, labels, (1, 2), prior) == 1


def test_corrected_accuracy_counted_by_hand():
    logits = torch.tensor([[5.0, 4.0, 0.0], [6.0, 1.0, 2.0], [0.0, 7.0, 1.0], [3.0, 0.0, 2.0]])
    labels = torch.tensor([0, 2, 1, 2])
    # Largest seen (0, 1) minus unseen (2): 5, 4, 6, 1. Half are to be seen: the third and the first.
    assert accuracy(logits, labels) == 0.5
    assert corrected_accuracy(logits, labels, (0, 1), 0.5) == 1
    assert corrected_accuracy(logits, labels, (0, 1), 0.75) == 0.75
    assert corrected_accuracy(logits, labels, (0, 1), 1) == 0.5
    assert corrected_accuracy(logits, labels, (0, 1), 0) == 0.5


def test_ties_are_no_answer():
    flat = torch.zeros(4, 3)
    labels = torch.tensor([0, 1, 2, 2])
    assert accuracy_of(flat, labels, (0, 1)) == 0
    assert accuracy_among(flat, labels, (1, 2)) == 0
    # All margins are equal: none of the samples comes to be answered by a seen class, and 2 is the only other.
    assert corrected_accuracy(flat, labels, (0, 1), 0.5) == 0.5
    # All do, but 0 and 1 are tied.
    assert corrected_accuracy(flat, labels, (0, 1), 1) == 0
    assert corrected_accuracy(flat, labels, (0,), 1) == 0.25


def test_classes_without_samples_have_no_accuracy():
    logits, _ = draw(n=4)
    labels = torch.zeros(4, dtype=torch.int64)
    assert math.isnan(accuracy_of(logits, labels, (1, 2)))
    assert math.isnan(accuracy_among(logits, labels, (1, 2)))
    assert corrected_accuracy(logits, labels, (1, 2), 1) == 0
    assert math.isnan(corrected_accuracy(logits[:0], labels[:0], (1, 2), 0.5))


@pytest.mark.parametrize("classes", [(), (5,), (-1, 0), (0, 0)])
def test_classes_that_there_are_not(classes):
    logits, labels = draw(n=4)
    for call in (accuracy_of, accuracy_among, lambda *values: corrected_accuracy(*values, prior=0.5)):
        with pytest.raises(ValueError, match="expected different numbers from 0 to 4"):
            call(logits, labels, classes)


def test_corrected_accuracy_needs_an_unseen_class_and_a_share():
    logits, labels = draw(n=4)
    with pytest.raises(ValueError, match="fewer than all 5"):
        corrected_accuracy(logits, labels, range(5), 0.5)
    with pytest.raises(ValueError, match="expected a share"):
        corrected_accuracy(logits, labels, (0, 1), 1.1)
