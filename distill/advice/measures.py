"""What is measured of one network on its held-out images; the test set is not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distill.advice.shelf import Shelf, hard, is_hard, recipe
from distill.advice.words import held_out
from distill.artifact import Artifact
from distill.config import StudentConfig, TeacherConfig
from distill.metrics.confidence import Gap
from distill.store import ArtifactStore

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""At which one would distil."""
FIDELITY = ("agreement", "kl")


@dataclass(frozen=True)
class SoftTargets:
    """A network's probabilities at one temperature."""

    temperature: float
    gap: Gap
    """Accuracy less mean largest probability."""
    smoothing: float
    """Equivalent smoothing γ of the labels (Müller et al. 2019, section 4)."""


@dataclass(frozen=True)
class Measures:
    """Of one network, on its held-out images."""

    images: int
    """How many; 0 leaves everything below empty."""
    unit: str
    """What one of them is called: "image" or, of sentences, "token"."""
    noise: float = 0.0
    """Share of their labels that is wrong by design: what takes labels then says little of the network."""
    diverged: str | None = None
    """Why it counts as diverged, if it does."""
    values: Mapping[str, float] | None = None
    """As the analysis has them: `accuracy`, `nll`, `ece`, `interclass_variance_relative`, …"""
    low: float = 0.0
    """95 % interval of the accuracy over images (Wilson)."""
    high: float = 0.0
    gap: Gap | None = None
    fitted: float = 1.0
    """Temperature of least NLL."""
    soft: tuple[SoftTargets, ...] = ()

    @property
    def basis(self) -> str:
        """What sentences on it rest on."""
        return f"this network, {self.images:,} {held_out((self.noise,), self.unit)}"


@dataclass(frozen=True)
class Twin:
    """The same recipe with hard labels."""

    measures: Measures
    key: str
    same_seed: bool


def measured(network: Artifact, store: ArtifactStore) -> Measures:
    """Measures of a teacher or student; of a student with a teacher in the store, fidelity to it too.

    Raises:
        UserError: its predictions are missing or damaged.
    """
    from scipy.stats import binomtest

    from distill.metrics.calibration import fit_temperature
    from distill.metrics.confidence import confidence_gap
    from distill.metrics.dark_knowledge import equivalent_smoothing
    from distill.network import load_predictions, network_config
    from distill.stages.analysis import measure, own_teacher

    config = network_config(network)
    unit = "token" if config.data.name == "translation" else "image"
    logits, labels = load_predictions(network, "held_out")
    if not len(labels):
        return Measures(0, unit, config.data.label_noise)
    own = own_teacher(config) if isinstance(config, StudentConfig) else None
    found = measure(config, network, store.find(own) if own else None, "held_out")
    if found.diverged:
        return Measures(len(labels), unit, config.data.label_noise, found.diverged)
    right = int((logits.argmax(dim=1) == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(method="wilson")
    return Measures(
        images=len(labels),
        unit=unit,
        noise=config.data.label_noise,
        values=found.values,
        low=float(interval.low),
        high=float(interval.high),
        gap=confidence_gap(logits, labels),
        fitted=fit_temperature(logits, labels),
        soft=tuple(
            SoftTargets(
                temperature,
                confidence_gap(logits.double() / temperature, labels),
                equivalent_smoothing(logits, labels, temperature),
            )
            for temperature in TEMPERATURES
        ),
    )


def hard_twin(config: TeacherConfig, shelf: Shelf, store: ArtifactStore) -> Twin | None:
    """The same recipe with hard labels, of the same seed if the store has it; None if it has none that learned."""
    if is_hard(config):
        return None
    wanted = recipe(hard(config))
    twins = [(other, found) for other, found in shelf.of(TeacherConfig) if recipe(other) == wanted]
    for other, found in sorted(twins, key=lambda each: (each[0].seed != config.seed, each[0].seed)):
        measures = measured(found, store)
        if measures.values is not None:
            return Twin(measures, found.record.key, other.seed == config.seed)
    return None
