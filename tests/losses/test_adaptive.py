"""How strong smoothing is: from sample to sample, and over the steps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import LabelsConfig
from distill.losses.adaptive import sample_factor, strength
from tests.losses.slow_losses import draw, mixed


@given(st.sampled_from(["none", "difficulty", "confidence"]), st.floats(0, 60), st.integers(0, 2**31))
@settings(deadline=None)
def test_the_factor_of_a_sample_is_a_share_without_gradient(by_sample, scale, seed):
    student, labels, _ = draw(n=8, k=7, scale=scale, seed=seed)
    for own in (labels, mixed(labels, 7).double()):
        factor = sample_factor(by_sample, torch.log_softmax(student, 1), own)
        assert not factor.requires_grad
        assert ((factor >= 0) & (factor <= 1)).all()


def test_hard_samples_are_smoothed_by_difficulty_and_sure_ones_by_confidence():
    log_p = torch.log_softmax(torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 0], [-9.0, 0, 9, 0]]).double(), 1)
    labels = torch.zeros(3, dtype=torch.long)
    difficulty, confidence = (sample_factor(how, log_p, labels) for how in ("difficulty", "confidence"))
    torch.testing.assert_close(difficulty, 1 - log_p[:, 0].exp())
    assert difficulty[0] < difficulty[1] < difficulty[2]
    assert confidence[1].item() == pytest.approx(0, abs=1e-12)
    assert min(confidence[0], confidence[2]) > 0.98


SCHEDULES = {
    "constant": ({}, {0: 1, 0.5: 1, 1: 1}),
    "linear": ({"first": 0.2}, {0: 0.2, 0.5: 0.6, 1: 1}),
    "cosine": ({"first": 3}, {0: 3, 0.25: 3 - 2 * (1 - math.sqrt(0.5)) / 2, 0.5: 2, 1: 1}),
    "warm-down": ({"hold": 0.6}, {0: 1, 0.6: 1, 0.8: 0.5, 1: 0}),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_pass_these_points(schedule):
    more, points = SCHEDULES[schedule]
    config = LabelsConfig(schedule=schedule, **more)
    for progress, expected in points.items():
        assert strength(config, progress) == pytest.approx(expected, abs=1e-12)
    if schedule != "constant":
        with pytest.raises(ValueError, match="progress"):
            strength(config, 1.1)
