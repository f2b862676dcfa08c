"""Wrong labels: how many, which, the same for the same seed, and part of each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from distill.data.sets.noise import noisy_labels

COUNT = 60_000
CLASSES = 10
INDEX = torch.arange(COUNT)
LABELS = INDEX % CLASSES

rates, kinds, seeds = st.floats(0, 1), st.sampled_from(["symmetric", "pair"]), st.integers(0, 2**63 - 1)
numbers = st.integers(2, 1000)


def steps(noisy, labels, classes):
    """How many classes further each label is; 0 where it is as it was."""
    return (noisy - labels) % classes


def some_labels(classes, count=300):
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(classes))


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.4, 0.9])
def test_as_many_are_wrong_as_the_rate_says(kind, rate):
    wrong = int((noisy_labels(LABELS, INDEX, rate, kind, CLASSES, seed=3) != LABELS).sum())
    low, high = binom.interval(1 - 1e-6, COUNT, rate)
    assert low <= wrong <= high


def test_whether_a_label_is_wrong_does_not_depend_on_its_class():
    wrong = noisy_labels(LABELS, INDEX, 0.4, "symmetric", CLASSES, seed=0) != LABELS
    assert chisquare(LABELS[wrong].bincount(minlength=CLASSES).numpy()).pvalue > 1e-6


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_symmetric_noise_takes_every_other_class_alike(classes):
    labels = INDEX % classes
    found = steps(noisy_labels(labels, INDEX, 0.4, "symmetric", classes, seed=1), labels, classes)
    counts = found[found > 0].bincount(minlength=classes)[1:]
    assert len(counts) == classes - 1
    assert chisquare(counts.numpy()).pvalue > 1e-6


def test_the_matrix_of_symmetric_noise_is_that_of_co_teaching():
    """Han et al. 2018, and their published code: 1 - rate on the diagonal and rate / (K - 1) everywhere else."""
    rate, classes = 0.4, 4
    labels = INDEX % classes
    noisy = noisy_labels(labels, INDEX, rate, "symmetric", classes, seed=5)
    counts = (labels * classes + noisy).bincount(minlength=classes**2).view(classes, classes)
    matrix = torch.full((classes, classes), rate / (classes - 1), dtype=torch.float64).fill_diagonal_(1 - rate)
    for row, shares in zip(counts, matrix, strict=True):
        assert chisquare(row.numpy(), (shares * COUNT / classes).numpy()).pvalue > 1e-6


@given(rates, seeds, numbers)
def test_pair_noise_takes_the_next_class_and_the_first_after_the_last(rate, seed, classes):
    labels = some_labels(classes)
    noisy = noisy_labels(labels, torch.arange(300), rate, "pair", classes, seed)
    assert set(steps(noisy, labels, classes).tolist()) <= {0, 1}


@given(rates, kinds, seeds, numbers)
def test_noisy_labels_are_classes(rate, kind, seed, classes):
    noisy = noisy_labels(some_labels(classes), torch.arange(300), rate, kind, classes, seed)
    assert noisy.dtype == torch.int64
    assert 0 <= int(noisy.min()) <= int(noisy.max()) < classes


@given(kinds, seeds, numbers)
def test_at_rate_0_none_is_wrong_and_at_rate_1_all_are(kind, seed, classes):
    labels, index = some_labels(classes), torch.arange(300)
    assert torch.equal(noisy_labels(labels, index, 0.0, kind, classes, seed), labels)
    assert not (noisy_labels(labels, index, 1.0, kind, classes, seed) == labels).any()


@given(rates, rates, kinds, seeds, numbers)
def test_a_lower_rate_replaces_a_part_of_what_a_higher_one_replaces(one, other, kind, seed, classes):
    labels, index = some_labels(classes), torch.arange(300)
    few, many = (noisy_labels(labels, index, rate, kind, classes, seed) for rate in sorted((one, other)))
    wrong = few != labels
    assert torch.equal(few[wrong], many[wrong])


@given(rates, seeds)
def test_with_two_classes_both_kinds_are_the_same(rate, seed):
    labels, index = some_labels(2), torch.arange(300)
    symmetric, pair = (noisy_labels(labels, index, rate, kind, 2, seed) for kind in ("symmetric", "pair"))
    assert torch.equal(symmetric, pair)


@given(rates, kinds, seeds, st.permutations(range(20)))
def test_a_sample_has_its_label_whatever_stands_beside_it(rate, kind, seed, order):
    rows = torch.tensor(order)
    labels = some_labels(CLASSES, 20)
    whole = noisy_labels(labels, torch.arange(20), rate, kind, CLASSES, seed)
    assert torch.equal(noisy_labels(labels[rows], rows, rate, kind, CLASSES, seed), whole[rows])


def test_another_seed_or_another_counter_replaces_others():
    def wrong(seed, counter):
        return noisy_labels(LABELS, INDEX, 0.4, "symmetric", CLASSES, seed, counter) != LABELS

    first = wrong(0, 0)
    assert torch.equal(first, wrong(0, 0))
    for other in (wrong(1, 0), wrong(0, 1)):
        both = int((first & other).sum())
        low, high = binom.interval(1 - 1e-6, COUNT, 0.4**2)
        assert low <= both <= high, "independent of the first"
