"""Which measure of a teacher predicts, before any student is trained, what its soft targets are worth?

A population of teachers of many kinds, students of each, and every measure of dark knowledge, ranked by its rank
correlation with what the students gained over labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import (
    AugmentConfig,
    CacheConfig,
    KnowledgeProbe,
    LossConfig,
    ModelConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES, setting_of_figures

TEMPERATURES = (1.0, 4.0)
TRANSFER_SHARE = 0.1
"""Of the teacher's images, the part that students see: few enough that the teacher knows more than their labels."""

REPRODUCES = ""
DATA = DATA_OF_FIGURES
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


def population(base: TeacherConfig) -> dict[str, dict[str, TeacherConfig]]:
    """Family → name → recipe: each differs from `base` in one thing."""
    epochs = base.schedule.epochs

    def scheduled(name: str, factor: float) -> TeacherConfig:
        return base.replace(schedule=base.schedule.replace(name=name, epochs=max(1, round(factor * epochs))))

    return {
        "base": {"as it is": base},
        "smoothing": {
            f"ε={strength:g}": base.replace(smoothing=strength)
            for strength in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.75)
        },
        "smoothing over the others": {
            f"others ε={strength:g}": base.replace(smoothing=strength, smoothing_convention="others")
            for strength in (0.05, 0.1, 0.3, 0.6)
        },
        "dropout": {f"dropout {share:g}": _with(base, dropout=share) for share in (0.1, 0.2, 0.4, 0.6, 0.8)},
        "weight decay": {
            f"weight decay {decay:g}": base.replace(optim=base.optim.replace(weight_decay=decay))
            for decay in (1e-4, 5e-4, 2e-3, 5e-3, 1e-2)
        },
        "mixup": {
            f"mixup {strength:g}": base.replace(augment=AugmentConfig(mixup=strength))
            for strength in (0.1, 0.2, 0.4, 1.0)
        },
        # A constant rate, stopped early; and the whole schedule, shorter or longer.
        "early stopping": {
            f"stopped at {factor:g}": scheduled("constant", factor) for factor in (0.1, 0.2, 0.3, 0.5, 0.8)
        },
        "length": {f"length {factor:g}": scheduled("cosine", factor) for factor in (0.2, 0.4, 0.6, 2, 4)},
        "width": {f"width {factor:g}": _widened(base, factor) for factor in (0.25, 0.5, 2, 4)},
    }


def _with(base: TeacherConfig, **kwargs: Any) -> TeacherConfig:
    return base.replace(model=base.model.replace(kwargs=base.model.kwargs | kwargs))


def _widened(base: TeacherConfig, factor: float) -> TeacherConfig:
    sizes = base.model.kwargs
    wider: dict[str, Any] = {"widths": [max(1, round(factor * width)) for width in sizes["widths"]]}
    if "hidden" in sizes:
        wider["hidden"] = max(1, round(factor * sizes["hidden"]))
    return _with(base, **wider)


def _teacher(name: str) -> str:
    return f"teacher, {name}"


def _distilled(name: str, temperature: float) -> str:
    return f"student of {name}, T={temperature:g}"


OF_LABELS = "student of labels"


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    base = _base(chosen.teacher, scale, data)
    recipes = {name: recipe for family in population(base).values() for name, recipe in family.items()}
    if scale == "smoke":
        recipes = dict(list(recipes.items())[::8])
    student = _student(chosen.student, base)
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(chosen.seeds):
        found[Label(OF_LABELS, seed)] = student.replace(seed=seed)
        for name, recipe in recipes.items():
            teacher = recipe.replace(seed=seed)
            cache = CacheConfig(teacher=teacher, transfer_set=student.data)
            found[Label(_teacher(name), seed)] = teacher
            for temperature in TEMPERATURES:
                loss = LossConfig(alpha=1, temperature=temperature)
                found[Label(_distilled(name, temperature), seed)] = student.replace(
                    seed=seed, cache=cache, loss=loss
                )
    return found


def _base(teacher: TeacherConfig, scale: Scale, data: str) -> TeacherConfig:
    """The recipe that all others vary: small enough that hundreds can be trained."""
    limit = 1_000 if data == "digits" else 10_000 if scale in ("smoke", "quick") else 40_000
    model = teacher.model
    if data == "digits":
        model = ModelConfig(name="mlp", kwargs={"widths": [128, 128]})
    elif scale in ("smoke", "quick"):
        model = ModelConfig(name="cnn", kwargs={"widths": [8, 16], "hidden": 64})
    else:
        model = ModelConfig(name="cnn", kwargs={"widths": [64, 128], "hidden": 256})
    schedule = teacher.schedule
    if scale == "quick" and data != "digits":
        schedule = ScheduleConfig(epochs=10)
    return teacher.replace(
        data=teacher.data.replace(limit=limit),
        model=model,
        augment=AugmentConfig(),
        optim=teacher.optim.replace(weight_decay=0.0),
        schedule=schedule,
    )


def _student(student: StudentConfig, base: TeacherConfig) -> StudentConfig:
    """A student of few images, for two thirds of the steps that it would make on all of them."""
    schedule, images = student.schedule, base.data.limit or 0
    count = round(TRANSFER_SHARE * images)
    batch_size = min(schedule.batch_size, count)
    epochs = 2 / 3 * schedule.epochs * (images // schedule.batch_size) / (count // batch_size)
    return student.replace(
        data=student.data.replace(limit=count),
        schedule=schedule.replace(epochs=max(1, round(epochs)), batch_size=batch_size),
    )


def probes(scale: Scale, data: str) -> tuple[KnowledgeProbe]:
    """Every measure of the teachers."""
    return (KnowledgeProbe(),)


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
