"""The estimate of label smoothing: exact where logits are those of the formula, else wide or unknown."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from distill.metrics.confidence import ceiling
from distill.metrics.dark_knowledge import optimal_gap
from distill.metrics.smoothing_estimate import estimate_smoothing, facts, gaps_of, smoothing_of


def _optimal(smoothing: float, classes: int, spread: float = 0.0, images: int = 1000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    gaps = optimal_gap(smoothing, classes) + spread * torch.randn(images, generator=generator)
    logits = torch.zeros(images, classes).scatter_(1, labels.unsqueeze(1), gaps.unsqueeze(1))
    return logits + 5 * torch.randn(images, 1, generator=generator), labels


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("smoothing", [0.02, 0.1, 0.45, 0.75])
def test_logits_of_the_formula_give_their_smoothing(smoothing: float, classes: int) -> None:
    found = estimate_smoothing(*_optimal(smoothing, classes))
    assert found.verdict == ("smoothed or mixed" if classes == 2 else "smoothed")
    assert found.smoothing == pytest.approx(smoothing, rel=1e-4)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.smoothing <= found.high


@pytest.mark.parametrize("smoothing", [0.01, 0.1, 0.75])
def test_the_gap_is_turned_back_into_its_smoothing(smoothing: float) -> None:
    assert smoothing_of(optimal_gap(smoothing, 10), 10) == pytest.approx(smoothing)


def test_gaps_are_log_odds_whatever_the_offset() -> None:
    logits, labels = _optimal(0.1, 10)
    share = torch.sigmoid(gaps_of(logits, labels) - torch.log(torch.tensor(9.0)))
    assert share.numpy() == pytest.approx(ceiling(0.1, 10), rel=1e-5)


def test_the_interval_widens_with_the_pile_and_with_fewer_images() -> None:
    narrow, wide = (estimate_smoothing(*_optimal(0.1, 10, spread)) for spread in (0.1, 0.5))
    few = estimate_smoothing(*_optimal(0.1, 10, 0.5, images=120))
    spans = [each.high - each.low for each in (narrow, wide, few) if each.high and each.low]
    assert spans == sorted(spans)
    assert len(spans) == 3


def test_confident_logits_are_not_smoothed() -> None:
    found = estimate_smoothing(*_optimal(1e-5, 10, spread=3))
    assert found.verdict == "not smoothed"
    assert (found.smoothing, found.low) == (0, 0)
    assert found.high is not None
    assert found.high < 0.01


def test_a_pile_as_wide_as_that_of_a_short_training_tells_nothing() -> None:
    found = estimate_smoothing(*_optimal(0.1, 10, spread=2))
    assert found.verdict == "unknown"
    assert found.smoothing is None
    assert found.low is None


def test_uneven_wrong_logits_may_be_of_mixed_labels_or_tell_nothing() -> None:
    logits, labels = _optimal(0.1, 10)
    steps = torch.linspace(-1, 1, 10)
    assert estimate_smoothing(logits + 1.1 * steps, labels).verdict == "smoothed or mixed"
    assert estimate_smoothing(logits + 4 * steps, labels).verdict == "unknown"


def test_too_few_right_answers_are_refused() -> None:
    logits, labels = _optimal(0.1, 10, images=99)
    with pytest.raises(UserError, match="99 right answers of 99"):
        estimate_smoothing(logits, labels)


def test_what_was_fitted_holds_on_networks_held_aside() -> None:
    aside = facts()["tested"]
    assert aside["covered"] >= 0.9 * aside["told"] > 50
    assert aside["hard_called_smoothed"] <= 0.05 * aside["hard"]
    assert aside["mixed_called_smoothed"] == 0
