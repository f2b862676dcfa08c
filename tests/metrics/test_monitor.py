"""What is watched along training: which measures, of how many labels, and what is left out."""

from __future__ import annotations

import math

import pytest
import torch

from distill.metrics.measures import MEASURES, compute
from distill.metrics.monitor import confidence_figure, training_measures


def predictions(n: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, classes, generator=generator), torch.arange(n) % classes


def watched(where: str, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    given = {"logits": logits, "labels": labels, "temperature": 1.0}
    return compute([each for each in MEASURES if each.watched == where], **given)


@pytest.mark.parametrize(("n", "last"), [(120, 120), (900, 200)], ids=["few", "many"])
def test_knowledge_is_of_the_last_labels_and_the_rest_of_all(n, last):
    logits, labels = predictions(n, 4)
    found = training_measures(logits, labels)
    of_all = watched("evaluation", logits, labels) | watched("training", logits, labels)
    assert found == pytest.approx(of_all | watched("recent", logits[-last:], labels[-last:]))
    assert {"accuracy", "interclass_variance", "nontarget_entropy"} <= found.keys()


def test_what_is_not_defined_is_left_out_and_stops_no_training():
    """A value that is not finite would end the run as diverged."""
    logits, labels = predictions(60, 2)
    for some in (labels, torch.zeros_like(labels)):
        assert all(map(math.isfinite, training_measures(logits, some).values()))


def test_a_network_that_diverged_is_seen_to():
    logits, labels = predictions(60, 4)
    found = training_measures(logits / 0, labels)
    assert not all(map(math.isfinite, found.values()))


def test_the_figure_draws_confidence_and_its_ceiling_over_steps():
    points = [
        {
            "step": step,
            "train/accuracy": 1.0,
            "train/confidence": 0.5 + step / 100,
            "train/confidence_ceiling": 0.91,
        }
        for step in (10, 20, 30)
    ]
    (axes,) = confidence_figure(points).axes
    lines = {line.get_label().split(" ")[0]: line for line in axes.get_lines()}
    assert lines["ceiling:"].get_linestyle() == "--"
    assert list(lines["ceiling:"].get_ydata()) == [0.91] * 3
    assert list(lines["confidence"].get_ydata()) == [0.6, 0.7, 0.8]
    assert list(lines["confidence"].get_xdata()) == [10, 20, 30]
    assert "0.800" in axes.get_title()
    assert "0.910" in axes.get_title()
