"""Test the gate: which teachers are let through, and which are refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.cache.fitness import least_accuracy, refuse_if_training, refuse_if_wrong
from distill.config import AugmentConfig, CacheConfig
from distill.errors import UnfitTeacher
from distill.pipeline.graph import ensure
from tests.made import make

CLASSES = ("ant", "bee", "cat", "dog")


def labels(n: int = 400) -> torch.Tensor:
    return torch.arange(n) % 4


def answers(said: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(said, 4).float() * 5


def test_a_good_teacher_passes_with_its_accuracy() -> None:
    said = labels().clone()
    said[:40] = (said[:40] + 1) % 4
    assert refuse_if_wrong(answers(said), labels(), CLASSES, 0.8) == pytest.approx(0.9)


@pytest.mark.fault("classes or rows in another order")
def test_a_shuffled_one_is_refused() -> None:
    said = labels()[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    least = least_accuracy(labels())
    with pytest.raises(UnfitTeacher, match=r"teacher = 'right on .* of 400 views.*sample order"):
        refuse_if_wrong(answers(said), labels(), CLASSES, least)


@pytest.mark.fault("classes or rows in another order")
def test_shuffled_rows_of_many_classes_are_not_taken_for_another_class_order() -> None:
    # 1024 samples of 1000 classes: some renaming fits half of them, whatever the answers.
    generator = torch.Generator().manual_seed(0)
    meant, said = torch.randint(1000, (2, 1024), generator=generator)
    logits = torch.nn.functional.one_hot(said, 1000).float()
    with pytest.raises(UnfitTeacher, match="sample order"):
        refuse_if_wrong(logits, meant, tuple(map(str, range(1000))), 0.5)


@pytest.mark.fault("classes or rows in another order")
def test_another_class_order_is_recognised() -> None:
    swapped = torch.tensor([1, 0, 2, 3])[labels()]
    with pytest.raises(
        UnfitTeacher, match=r"in another order it is right on 100.0%.*its ant is bee, its bee is ant"
    ):
        refuse_if_wrong(answers(swapped), labels(), CLASSES, 0.8)


@pytest.mark.fault("classes or rows in another order")
def test_two_swapped_classes_are_refused_although_the_rest_is_right() -> None:
    many = torch.arange(600) % 12
    swap = torch.arange(12)
    swap[[0, 1]] = torch.tensor([1, 0])
    logits, classes = torch.nn.functional.one_hot(swap[many], 12).float(), tuple("abcdefghijkl")
    with pytest.raises(UnfitTeacher, match=r"its a is b, its b is a\); if the order is right"):
        refuse_if_wrong(logits, many, classes, 0.5)
    assert refuse_if_wrong(logits, many, classes, 0.5, accept_class_order=True) == pytest.approx(10 / 12)


def test_logits_that_are_not_finite_are_counted() -> None:
    logits = answers(labels())
    logits[3, 1], logits[9, 0] = float("nan"), float("inf")
    with pytest.raises(UnfitTeacher, match="2 of 400 rows with inf or nan"):
        refuse_if_wrong(logits, labels(), CLASSES, 0.0)


def test_the_threshold_lies_halfway_between_chance_and_what_is_known() -> None:
    assert least_accuracy(labels(), 0.85) == pytest.approx(0.55)
    assert least_accuracy(labels(), 0.1) == pytest.approx(0.25 - 3 * (0.25 * 0.75 / 400) ** 0.5)
    # Nothing known: three standard errors of a guess, sqrt(p (1 - p) / n).
    assert least_accuracy(labels()) == pytest.approx(0.25 + 3 * (0.25 * 0.75 / 400) ** 0.5)
    # 30 and 3 images: a bound below 1.
    assert least_accuracy((torch.arange(33) >= 30).long()) == pytest.approx((1 + 30 / 33) / 2)


def images(n: int = 33) -> torch.Tensor:
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), *layers, nn.Linear(32, 4))


def test_evaluation_mode_passes() -> None:
    with torch.inference_mode():
        refuse_if_training(network(nn.BatchNorm1d(32), nn.Dropout(0.5)).eval(), images())


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(32), nn.Dropout(0.1)])
def test_training_mode_is_found(layer: nn.Module) -> None:
    with torch.inference_mode(), pytest.raises(UnfitTeacher, match="two passes that differ"):
        refuse_if_training(network(layer).train(), images())


def test_the_gate_keeps_a_teacher_from_images_that_it_does_not_know(teacher, store, runtime) -> None:
    trained = teacher.replace(schedule=teacher.schedule.replace(epochs=10))
    far = CacheConfig(teacher=trained, transfer_set=teacher.data, augment=AugmentConfig(pad=6))
    careful = runtime.model_copy(update={"min_teacher_accuracy": None})
    told = r"teacher = 'right on .*: expected at least .*it was trained without these views.*`min_teacher_accuracy`"
    with pytest.raises(UnfitTeacher, match=told):
        ensure([far], store, careful)
    made = ensure([far], store, careful, tolerate_divergence=True)
    assert "right on" in str(*made.values())
    assert make(far, store, runtime).record.metrics["gate/accuracy"] < 0.5
