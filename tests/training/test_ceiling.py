"""What the trainer reads off the loss: how sure a network that gave its targets would be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.config import LabelsConfig, LossConfig
from distill.losses import make_loss, matrices
from distill.metrics.confidence import ceiling
from distill.training.ceiling import confidence_ceiling

LABELS = torch.tensor([0, 1, 1, 2, 2, 2])


@given(smoothing=st.floats(0, 0.99), classes=st.integers(3, 300))
def test_of_one_smoothing_it_is_the_closed_form(smoothing, classes):
    loss = make_loss(LossConfig(alpha=0, smoothing=smoothing))
    assert confidence_ceiling(loss, LABELS, classes, 0.5) == pytest.approx(ceiling(smoothing, classes), abs=2e-6)


def test_over_the_others_the_label_keeps_the_rest():
    loss = make_loss(LossConfig(alpha=0, smoothing=0.1, smoothing_convention="others"))
    assert confidence_ceiling(loss, LABELS, 10, 0.5) == pytest.approx(0.9, abs=1e-6)


def test_of_a_matrix_it_is_the_mean_of_the_largest_entries_of_the_labels_rows():
    matrix = matrices.smoothed([0.0, 0.3, 0.6, 0.9], matrices.towards_all(4))
    loss = make_loss(LossConfig(alpha=0, labels=LabelsConfig(per_class=(0.0, 0.3, 0.6, 0.9))), matrix)
    by_hand = matrix.amax(1)[LABELS].mean().item()
    assert confidence_ceiling(loss, LABELS, 4, 0.5) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (LabelsConfig(schedule="linear"), {0.0: 1.0, 0.5: 0.91, 1.0: 0.82}),
        (LabelsConfig(schedule="cosine", first=1.5), {0.0: 0.73, 0.5: 0.775, 1.0: 0.82}),
        (LabelsConfig(schedule="warm-down", hold=0.5), {0.0: 0.82, 0.5: 0.82, 0.75: 0.91, 1.0: 1.0}),
    ],
    ids=["linear", "cosine", "warm-down"],
)
def test_a_schedule_moves_it(labels, expected):
    """ε = 0.2 of 10 classes: 1 - 0.9 ε of the step."""
    loss = make_loss(LossConfig(alpha=0, smoothing=0.2, labels=labels))
    found = {progress: confidence_ceiling(loss, LABELS, 10, progress) for progress in expected}
    assert found == pytest.approx(expected, abs=1e-6)


def test_many_classes_are_taken_in_parts(monkeypatch):
    loss = make_loss(LossConfig(alpha=0, smoothing=0.1))
    whole = confidence_ceiling(loss, torch.arange(50), 50, 0.5)
    monkeypatch.setattr("distill.training.ceiling._TARGETS", 150)
    assert confidence_ceiling(loss, torch.arange(50), 50, 0.5) == pytest.approx(whole)
