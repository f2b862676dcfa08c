"""When a user is told that smoothing does nothing, hurts, or meets soft labels; and when not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill.config import AugmentConfig, CacheConfig, LabelsConfig, LossConfig, StudentConfig, TeacherConfig
from distill.metrics.smoothing_warnings import (
    has_ceiling,
    mixed_labels,
    no_effect,
    under_confidence,
)

MIXED = AugmentConfig(mixup=0.8)


def student(**loss: Any) -> StudentConfig:
    return StudentConfig(cache=CacheConfig(augment=MIXED), loss=LossConfig(**loss))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TeacherConfig(), True),
        (TeacherConfig().with_loss(smoothing=0.1), True),
        (TeacherConfig().with_loss(smoothing=0.1, smoothing_convention="others"), True),
        (TeacherConfig().with_loss(smoothing=0.1, labels=LabelsConfig(schedule="cosine")), True),
        (TeacherConfig().with_loss(labels=LabelsConfig(per_class=(0.1, 0.2))), True),
        (TeacherConfig().with_loss(smoothing_convention="maxsup"), True),
        (TeacherConfig().with_loss(smoothing=0.1, smoothing_convention="maxsup"), False),
        (TeacherConfig().with_loss(smoothing=0.1, labels=LabelsConfig(by_sample="difficulty")), False),
        (TeacherConfig().with_loss(labels=LabelsConfig(confidence_penalty=0.1)), False),
        (TeacherConfig().with_loss(smoothing=0.1, class_weights="balanced"), False),
        (TeacherConfig(augment=AugmentConfig(cutmix=1.0)).with_loss(smoothing=0.1), False),
        (StudentConfig(loss=LossConfig(alpha=0, smoothing=0.1)), True),
        (StudentConfig(cache=CacheConfig(), loss=LossConfig(alpha=0.5, smoothing=0.1)), False),
        (StudentConfig(cache=CacheConfig(), loss=LossConfig(alpha=0)), True),
        (student(alpha=0), False),
    ],
)
def test_a_ceiling_is_there_when_label_and_step_say_the_target(config, expected):
    assert has_ceiling(config) is expected


def test_the_strongest_smoothing_is_that_of_taught_labels():
    assert TeacherConfig().with_loss(smoothing=0.2).loss.strongest == 0.2
    assert TeacherConfig().with_loss(labels=LabelsConfig(per_class=(0.1, 0.3))).loss.strongest == 0.3
    assert StudentConfig(cache=CacheConfig()).loss.strongest == 0


def test_smoothing_on_top_of_mixing_is_told_with_both_strengths_and_what_becomes_of_a_target():
    """K = 10: 0.1 leaves 0.91 of a whole label, and of a half 0.9 / 2 + 0.01 = 0.46."""
    found = mixed_labels(TeacherConfig(augment=AugmentConfig(mixup=0.8, cutmix=1.0)).with_loss(smoothing=0.1), 10)
    assert found is not None
    assert found.kind == "mixed labels"
    for part in (
        "smoothing 0.1",
        "mixup 0.8 and cutmix 1",
        "1 to 0.91",
        "0.5 to 0.46",
        "`loss.labels.on_mixed=true`",
    ):
        assert part in found.text


def test_over_the_others_the_label_keeps_less():
    """0.1 leaves 0.9, and of a half 0.9 / 2 + 0.1 / 9 / 2 = 0.4556."""
    config = TeacherConfig(augment=MIXED).with_loss(smoothing=0.1, smoothing_convention="others")
    found = mixed_labels(config, 10)
    assert found is not None
    assert "1 to 0.9 " in found.text
    assert "0.5 to 0.456" in found.text


def test_a_student_mixes_as_its_cache_does():
    found = mixed_labels(student(alpha=0.5, smoothing=0.1), 10)
    assert found is not None
    assert "`loss.labels.on_mixed=true`" in found.text


@pytest.mark.parametrize(
    "config",
    [
        TeacherConfig().with_loss(smoothing=0.1),
        TeacherConfig(augment=MIXED),
        TeacherConfig(augment=MIXED).with_loss(smoothing=0.1, labels=LabelsConfig(on_mixed=True)),
        TeacherConfig(augment=MIXED).with_loss(smoothing=0.1, smoothing_convention="maxsup"),
    ],
    ids=["no mixing", "no smoothing", "meant", "hard labels"],
)
def test_nothing_is_told_of_mixing_where_labels_are_softened_once_or_it_is_meant(config):
    assert mixed_labels(config, 10) is None


def point(step: int, confidence: float, ceiling: float | None = 0.91) -> dict[str, float]:
    found = {"step": step, "train/confidence": confidence}
    return found if ceiling is None else found | {"train/confidence_ceiling": ceiling}


def test_confidence_past_its_ceiling_at_the_end_is_told():
    """A fifth of the way from 0.91 to 1 is 0.928."""
    found = no_effect([point(1, 0.5), point(2, 0.93), point(3, 0.95)])
    assert found is not None
    assert found.kind == "no effect"
    assert "0.95 at step 3" in found.text
    assert "0.91" in found.text


@pytest.mark.parametrize(
    "points",
    [
        [],
        [point(1, 0.99)],
        [point(1, 0.99), point(2, 0.92)],
        [point(1, 0.92), point(2, 0.99)],
        [point(1, 0.99), point(2, 0.99), point(3, 0.92)],
        [point(1, 0.99, None), point(2, 0.99, None)],
        [point(1, 1.0, 1.0), point(2, 1.0, 1.0)],
        [{"step": 0, "targets/equivalent_smoothing": 0.1}, point(1, 0.99)],
    ],
    ids=["none", "one", "below", "once", "came back", "no ceiling", "hard labels", "targets only"],
)
def test_a_brief_overshoot_or_no_ceiling_is_not_told(points):
    assert no_effect(points) is None


def answers(confidence: float, right: int, n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions of class 0 with that probability, of 10 classes; so many labels agree."""
    p = torch.full((n, 10), (1 - confidence) / 9)
    p[:, 0] = confidence
    return p.log(), (torch.arange(n) >= right).long()


def test_a_smoothed_network_that_is_right_more_often_than_it_says_is_told_of():
    found = under_confidence(TeacherConfig().with_loss(smoothing=0.1), *answers(0.8, 190), "3f2a9c1b")
    assert found is not None
    assert found.kind == "under-confident"
    for part in ("0.950", "0.800", "by 0.150", "Smoothing 0.1", "distill calibrate 3f2a9c1b"):
        assert part in found.text


def test_without_smoothing_it_is_told_and_smoothing_not_blamed():
    found = under_confidence(TeacherConfig(), *answers(0.8, 190), "3f2a9c1b")
    assert found is not None
    assert "moothing" not in found.text


@pytest.mark.parametrize(("confidence", "right"), [(0.94, 190), (0.99, 190)], ids=["chance", "over-confident"])
def test_what_chance_explains_is_not_told(confidence, right):
    assert under_confidence(TeacherConfig().with_loss(smoothing=0.1), *answers(confidence, right), "x") is None


def test_without_held_out_data_nothing_is_known():
    nothing = torch.empty(0, 10), torch.empty(0, dtype=torch.int64)
    assert under_confidence(TeacherConfig().with_loss(smoothing=0.1), *nothing, "x") is None
