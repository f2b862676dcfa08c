"""Reliability diagrams: what is drawn where, read back from the figure."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from distill.metrics.calibration_error import reliability
from distill.metrics.monitor import calibration_figure


def predictions():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 4, generator=generator)
    return logits, torch.randint(4, (500,), generator=generator)


def test_accuracies_intervals_and_shares_of_bins_that_are_not_empty():
    logits, labels = predictions()
    bins = reliability(logits, labels)
    full = bins.count > 0
    assert not full.all()
    diagram, histogram = calibration_figure(logits, labels).axes
    (drawn,) = diagram.containers
    assert list(drawn.lines[0].get_xdata()) == pytest.approx(bins.confidence[full].tolist())
    assert list(drawn.lines[0].get_ydata()) == pytest.approx(bins.accuracy[full].tolist())
    ends = np.stack(drawn.lines[2][0].get_segments())[:, :, 1]
    assert ends[:, 0].tolist() == pytest.approx(bins.low[full].tolist())
    assert ends[:, 1].tolist() == pytest.approx(bins.high[full].tolist())
    steps = np.stack(histogram.collections[0].get_segments())
    assert steps[:, 0, 1].sum() == pytest.approx(100)
    assert steps[:, 0, 1].tolist() == pytest.approx((bins.count[full] / 5).tolist())
    inside = (steps[:, 0, 0] <= bins.confidence[full].numpy()) & (bins.confidence[full].numpy() <= steps[:, 1, 0])
    assert inside.all()


def test_one_sample_and_perfect_answers_can_be_drawn():
    for n in (1, 50):
        logits = 100 * torch.eye(4)[torch.arange(n) % 4]
        figure = calibration_figure(logits, logits.argmax(1))
        figure.canvas.draw()
        assert figure.axes[0].get_title() == "ECE 0.00 %"


def test_no_global_figures():
    calibration_figure(*predictions())
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
