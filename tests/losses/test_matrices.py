"""Where smoothed mass goes: closed forms, the paper's formula, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import UserError
from distill.losses.matrices import (
    smoothed,
    towards_all,
    towards_confused,
    towards_given,
    towards_near,
    towards_similar,
)
from tests.losses.slow_losses import slow_target

NAMES = ["cat", "dog", "car", "bus", "ship"]
TREE = [["cat", "dog"], [["car", 3], "ship"]]


def is_sharing(towards: torch.Tensor) -> bool:
    sums = torch.allclose(towards.sum(1), torch.ones(len(towards)).double(), rtol=1e-12, atol=0)
    return sums and bool((towards >= 0).all()) and not towards.diagonal().any()


@pytest.mark.parametrize("convention", ["uniform", "others"])
@given(st.integers(2, 30), st.floats(0, 0.49))
@settings(deadline=None, max_examples=40)
def test_equal_shares_are_the_plain_conventions(convention, classes, smoothing):
    expected = [slow_target(label, classes, smoothing, convention) for label in range(classes)]
    for towards in (
        towards_all(classes),
        towards_near([list(range(classes))], [str(k) for k in range(classes)]),
        towards_given([[0.7] * classes] * classes, [str(k) for k in range(classes)]),
        towards_confused(torch.arange(classes), torch.arange(classes), classes),
        towards_similar(torch.ones(classes, classes)),
    ):
        found = smoothed(smoothing, towards, convention, torch.float64)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-16)
        each = smoothed([smoothing] * classes, towards, convention, torch.float64)
        assert torch.equal(each, found)
        assert torch.equal(smoothed(smoothing, towards, convention), found.float())


@given(st.integers(2, 12), st.integers(0, 2**31), st.floats(0, 0.49), st.sampled_from(["uniform", "others"]))
@settings(deadline=None)
def test_rows_sum_to_one_and_the_label_has_its_own(classes, seed, smoothing, convention):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(classes, classes, generator=generator) + 1e-3
    answers, labels = (torch.randint(classes, (50,), generator=generator) for _ in range(2))
    names = [str(k) for k in range(classes)]
    for towards in (
        towards_similar(weights),
        towards_given(weights.tolist(), names),
        towards_confused(answers, labels, classes, 0.5),
    ):
        assert is_sharing(towards)
        found = smoothed(smoothing, towards, convention, torch.float64)
        torch.testing.assert_close(found.sum(1), torch.ones(classes).double(), rtol=1e-12, atol=0)
        mass = smoothing * (classes - 1) / classes if convention == "uniform" else smoothing
        torch.testing.assert_close(found.diagonal(), torch.full((classes,), 1 - mass).double())


@given(st.floats(0, 1e5))
@settings(deadline=None)
def test_near_classes_get_what_the_paper_says(beta):
    """exp(-β d), d the height of the lowest common ancestor over the largest: here 1/3, 2/3 and 1."""
    towards = towards_near(TREE, NAMES, beta)
    assert is_sharing(towards)
    heights = {frozenset({"cat", "dog"}): 1, frozenset({"car", "bus"}): 1}
    heights |= {frozenset({"car", "ship"}): 2, frozenset({"bus", "ship"}): 2}
    for i, one in enumerate(NAMES):
        d = {other: heights.get(frozenset({one, other}), 3) / 3 for other in NAMES if other != one}
        # Relative to the nearest, so that a large β leaves numbers above 0.
        weights = {other: math.exp(-beta * (value - min(d.values()))) for other, value in d.items()}
        for j, other in enumerate(NAMES):
            expected = weights.get(other, 0) / sum(weights.values())
            assert towards[i, j].item() == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_names_and_numbers_are_the_same_tree():
    assert torch.equal(towards_near([[0, 1], [[2, 3], 4]], NAMES, 4), towards_near(TREE, NAMES, 4.0))
    assert torch.equal(towards_near(((0, 1), ((2, 3), 4)), NAMES), towards_near(TREE, NAMES))
    # A name that looks like a number is a name.
    turned = towards_near([["1", "0"], "2"], ["2", "1", "0"])
    assert torch.equal(turned, towards_near([[1, 2], 0], ["2", "1", "0"]))


def test_confusions_are_counted():
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    answers = torch.tensor([0, 1, 1, 2, 1, 0])
    expected = torch.tensor([[0, 3 / 5, 2 / 5], [1 / 2, 0, 1 / 2], [2 / 3, 1 / 3, 0]]).double()
    torch.testing.assert_close(towards_confused(answers, labels, 3), expected, rtol=1e-7, atol=0)
    with pytest.raises(UserError, match=r"^loss\.labels\.kwargs = \{'count': 0\}.*class 1"):
        towards_confused(answers, labels, 3, 0)


BAD_TREES = {
    "no list": ("cat", "nested lists"),
    "unknown name": ([["cat", "dgo"], "car", "bus", "ship"], "'dgo'.*dog"),
    "unknown number": ([[0, 1], 2, 3, 5], "= 5.*0 to 4"),
    "a truth value": ([[0, True], 2, 3, 4], "= True"),
    "twice": ([["cat", 0], 1, 2, 3, 4], "only once"),
    "missing": ([["cat", "dog"], "bus"], "car, ship"),
    "empty": ([], "cat, dog"),
}


@pytest.mark.parametrize("case", BAD_TREES)
def test_a_tree_that_is_not_of_these_classes_is_refused(case):
    tree, reason = BAD_TREES[case]
    with pytest.raises(UserError, match=rf"^loss\.labels\.kwargs .*{reason}") as refusal:
        towards_near(tree, NAMES)
    assert "tree" in str(refusal.value)


BAD_ROWS = {
    "too few": ([[0, 1]], "1 rows.*2 rows"),
    "no rows": (3, "2 rows"),
    "ragged": ([[0, 1], [1]], "2 numbers in the row of dog"),
    "negative": ([[0, -1], [1, 0]], "-1.*row of cat"),
    "infinite": ([[0, math.inf], [1, 0]], "inf.*row of cat"),
    "not a number": ([[0, math.nan], [1, 0]], "nan.*row of cat"),
    "words": ([[0, "1"], [1, 0]], "'1'.*row of cat"),
    "nowhere to go": ([[0, 1], [0, 5]], "another class than dog"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_are_not_of_these_classes_are_refused(case):
    rows, reason = BAD_ROWS[case]
    with pytest.raises(UserError, match=rf"^loss\.labels\.kwargs = .*{reason}"):
        towards_given(rows, NAMES[:2])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_class_that_the_source_says_nothing_of_is_refused(bad):
    similarity = torch.rand(4, 4) + 0.1
    similarity[2, 1] = bad
    with pytest.raises(UserError, match="what class 2 is like"):
        towards_similar(similarity)
    similarity[2] = 0
    with pytest.raises(UserError, match="what class 2 is like"):
        towards_similar(similarity)
    # The diagonal is left out, whatever it holds.
    similarity[2] = 1
    similarity[2, 2] = bad
    assert is_sharing(towards_similar(similarity))


@pytest.mark.parametrize(("name", "value"), [("beta", -1), ("beta", math.inf), ("beta", "4"), ("beta", True)])
def test_a_beta_that_is_no_number_is_refused(name, value):
    with pytest.raises(UserError, match=f"^loss.labels.kwargs = {{'{name}'"):
        towards_near(TREE, NAMES, value)


@pytest.mark.parametrize(
    ("smoothing", "convention", "reason"),
    [
        ([0.1, 0.2], "uniform", "labels.per_class.*one for each of the 3"),
        ([0.1, 0.2, 1.0], "uniform", "labels.per_class.*less than 1"),
        (-0.1, "others", "less than 1"),
        (0.7, "others", "Lower the smoothing"),
        (0.1, "maxsup", "smoothing_convention"),
    ],
)
def test_smoothing_that_does_not_fit_is_refused(smoothing, convention, reason):
    with pytest.raises(UserError, match=reason):
        smoothed(smoothing, towards_all(3), convention)


def test_a_label_that_would_get_no_more_than_its_neighbour_is_refused():
    towards = towards_given([[0, 1, 0], [1, 0, 0], [1, 1, 0]], NAMES[:3])
    smoothed(0.49, towards, "others")
    with pytest.raises(UserError, match="class 0"):
        smoothed(0.5, towards, "others")


def test_one_class_has_no_others():
    with pytest.raises(UserError, match="at least 2"):
        towards_all(1)


def test_a_tree_that_is_nested_too_deep_is_refused_in_a_line():
    tree: list[object] = ["cat", "dog", "car", "bus"]
    for _ in range(5000):
        tree = [tree]
    with pytest.raises(UserError, match="nested too deep"):
        towards_near([tree, "ship"], NAMES)
