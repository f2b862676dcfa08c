"""Published recipes: what they set, and what they leave alone."""

from __future__ import annotations

import pytest

from distill.config import (
    RECIPES,
    AugmentConfig,
    CacheConfig,
    LossConfig,
    OptimConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
    recipe_of,
)
from distill.errors import UserError

CIFAR = RECIPES["cifar240"]


def test_cifar240_is_that_of_repdistiller() -> None:
    """The defaults of its `train_teacher.py` and `train_student.py`, which mdistiller's configs repeat."""
    trained = CIFAR.applied_to(TeacherConfig(seed=3))
    assert trained == TeacherConfig(
        seed=3,
        optim=OptimConfig(name="momentum", lr=0.05, momentum=0.9, weight_decay=5e-4, decay_biases=True, clip=None),
        schedule=ScheduleConfig(
            name="step", epochs=240, batch_size=64, decay_epochs=(150, 180, 210), decay_rate=0.1
        ),
        augment=AugmentConfig(pad=4, flip=True),
    )
    assert str(CIFAR).startswith("cifar240 (Tian et al. 2020): optim.lr 0.05, ")
    assert "schedule.decay_epochs 150 180 210, augment.pad 4, augment.flip True" in str(CIFAR)


def test_a_student_with_a_cache_keeps_its_views() -> None:
    taught, alone = StudentConfig(cache=CacheConfig()), StudentConfig(loss=LossConfig(alpha=0))
    assert CIFAR.applied_to(taught) == taught.replace(optim=CIFAR.optim, schedule=CIFAR.schedule)
    assert CIFAR.applied_to(alone).augment == CIFAR.augment


@pytest.mark.parametrize(
    ("epochs", "falls"), [(1, (0.625, 0.75, 0.875)), (120, (75, 90, 105)), (240, (150, 180, 210))]
)
def test_the_rate_falls_after_the_same_shares_of_a_training(epochs: int, falls: tuple[float, ...]) -> None:
    schedule = CIFAR.applied_to(TeacherConfig(), epochs).schedule
    assert (schedule.epochs, schedule.decay_epochs) == (epochs, falls)


@pytest.mark.parametrize("epochs", [0, -1, 10**400])
def test_no_training_has_this_length(epochs: int) -> None:
    with pytest.raises(UserError, match=r"schedule\.epochs"):
        CIFAR.applied_to(TeacherConfig(), epochs)


@pytest.mark.parametrize("epochs", [7, 240])
def test_a_recipe_is_recognised_until_one_of_its_settings_changes(epochs: int) -> None:
    trained = CIFAR.applied_to(TeacherConfig(), epochs)
    assert recipe_of(trained) == "cifar240"
    assert recipe_of(trained.replace(seed=1)) == "cifar240"
    assert recipe_of(trained.replace(optim=trained.optim.replace(lr=0.1))) == ""
    assert recipe_of(TeacherConfig()) == ""
