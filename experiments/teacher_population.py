"""Build a population of teachers in families that each vary one thing, from a small recipe."""

from __future__ import annotations

import functools
from typing import Any

from distill.config import AugmentConfig, ModelConfig, ScheduleConfig, TeacherConfig
from distill.reports.experiment import Scale
from experiments.base import images_of, mlp, setting_of_figures


def base_of(teacher: TeacherConfig, scale: Scale, data: str) -> TeacherConfig:
    """Return the recipe that all others vary: small enough that hundreds can be trained."""
    if data == "digits":
        model = mlp(128, 128)
    elif scale in ("smoke", "quick"):
        model = ModelConfig(name="cnn", kwargs={"widths": [8, 16], "hidden": 64})
    else:
        model = ModelConfig(name="cnn", kwargs={"widths": [64, 128], "hidden": 256})
    schedule = teacher.schedule
    if scale == "quick" and data != "digits":
        schedule = ScheduleConfig(epochs=10)
    return teacher.replace(
        data=teacher.data.replace(limit=images_of(data, scale)),
        model=model,
        augment=AugmentConfig(),
        optim=teacher.optim.replace(weight_decay=0.0),
        schedule=schedule,
    )


def population(base: TeacherConfig) -> dict[str, dict[str, TeacherConfig]]:
    """Build the population, family → name → recipe: each family varies one thing."""
    epochs = base.schedule.epochs

    def scheduled(name: str, factor: float) -> TeacherConfig:
        return base.replace(schedule=base.schedule.replace(name=name, epochs=max(1, round(factor * epochs))))

    return {
        "base": {"as it is": base},
        "smoothing": {
            f"ε={strength:g}": base.with_loss(smoothing=strength)
            for strength in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.75)
        },
        "smoothing over the others": {
            f"others ε={strength:g}": base.with_loss(smoothing=strength, smoothing_convention="others")
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


@functools.cache
def families() -> dict[str, str]:
    """Map the name of each teacher to its family; the names depend on neither scale nor data."""
    base = base_of(setting_of_figures("digits", "smoke").teacher, "smoke", "digits")
    return {name: family for family, recipes in population(base).items() for name in recipes}


@functools.cache
def kin() -> dict[str, str]:
    """Map each teacher to its larger family: smoothing over the others is smoothing over all with another ε."""
    return {name: "smoothing" if "smoothing" in family else family for name, family in families().items()}
