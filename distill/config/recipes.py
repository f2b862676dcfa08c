"""List published training recipes: optimiser, schedule and views that one name asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from distill.config.data import AugmentConfig
from distill.config.network import OptimConfig, ScheduleConfig
from distill.config.stages import StudentConfig, TeacherConfig

_Trained = TypeVar("_Trained", bound=TeacherConfig | StudentConfig)


@dataclass(frozen=True)
class Recipe:
    """Describe a published recipe; what it leaves open, such as the loss, is that of the config."""

    name: str
    published: str
    """Publication that trained networks so."""
    optim: OptimConfig
    schedule: ScheduleConfig
    augment: AugmentConfig

    def __str__(self) -> str:
        parts = {"optim": self.optim, "schedule": self.schedule, "augment": self.augment}
        settings = (
            f"{part}.{field} {' '.join(f'{each:g}' for each in value) if isinstance(value, tuple) else value}"
            for part, config in parts.items()
            for field, value in config.model_dump(exclude_defaults=True).items()
        )
        return f"{self.name} ({self.published}): {', '.join(settings)}"

    def applied_to(self, config: _Trained, epochs: int | None = None) -> _Trained:
        """Return a config with the settings of this recipe, not validated as a whole.

        A student with a cache keeps the views of its cache.

        Args:
            config: config of a teacher or student.
            epochs: length of the training; the epochs at which the rate falls move in proportion. None takes the
                published length.

        Raises:
            UserError: no training can have this length.
        """
        views = {} if isinstance(config, StudentConfig) and config.cache else {"augment": self.augment}
        schedule = self.schedule if epochs is None else self._lasting(epochs)
        return config.model_copy(update={"optim": self.optim, "schedule": schedule, **views})

    def is_that_of(self, config: TeacherConfig | StudentConfig) -> bool:
        """Tell whether a config has the settings of this recipe, over any number of epochs."""
        return config == self.applied_to(config, config.schedule.epochs)

    def _lasting(self, epochs: int) -> ScheduleConfig:
        schedule = self.schedule.replace(epochs=epochs)
        share = schedule.epochs / self.schedule.epochs
        return schedule.replace(decay_epochs=tuple(epoch * share for epoch in schedule.decay_epochs))


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "cifar240",
            "Tian et al. 2020",  # RepDistiller; mdistiller has the same
            OptimConfig(name="momentum", lr=0.05, weight_decay=5e-4, decay_biases=True, clip=None),
            ScheduleConfig(name="step", epochs=240, batch_size=64, decay_epochs=(150, 180, 210)),
            AugmentConfig(pad=4, flip=True),
        ),
    )
}
"""All recipes: name → recipe; to add one, add an entry here."""

if TYPE_CHECKING:
    RecipeName = str
else:
    RecipeName = Literal[tuple(RECIPES)]


def recipe_of(config: TeacherConfig | StudentConfig) -> str:
    """Return the name of the recipe whose settings a config has; an empty text where there is none."""
    return next((name for name, each in RECIPES.items() if each.is_that_of(config)), "")
