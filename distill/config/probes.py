"""Configs of probes: measures that an experiment asks for beside the usual ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Discriminator,
    Field,
)

from distill.config.base import Config, Count, NonNegative, Positive, Seed


class TemperaturesProbe(Config):
    """NLL and ECE of the stored predictions at each temperature, and at the one that held-out data choose."""

    probe: Literal["temperatures"] = "temperatures"
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """By which logits are divided, increasing."""


class PenultimateProbe(Config):
    """Penultimate activations on the plane through the templates of three classes (Müller et al. 2019, Fig. 1)."""

    probe: Literal["penultimate"] = "penultimate"
    triples: Annotated[tuple[tuple[NonNegative, NonNegative, NonNegative], ...], Field(min_length=1)]
    """Three classes each; measures without a number are of the first."""
    per_class: Count = 100
    """Training and held-out samples of each class that are shown."""


class InformationProbe(Config):
    """Mutual information of an image's index and a difference of logits, along training (Müller 2019, Fig. 6)."""

    probe: Literal["information"] = "information"
    classes: tuple[NonNegative, NonNegative]
    """Images of these two are taken, and the difference is of their logits."""
    per_class: Count = 300
    """Training images of each."""
    draws: Count = 5
    """Views of an image that its mean is taken over; one more is what is evaluated."""
    view_seed: Seed = 0
    """Seed of these views; their program is that of the network."""


class TranslationProbe(Config):
    """Quality of sentences that are found by beam search with logits divided by each temperature."""

    probe: Literal["translation"] = "translation"
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """By which logits are divided, increasing."""
    beam: Count = 4
    """Hypotheses that are kept."""
    length_penalty: Annotated[float, Field(ge=0)] = 0.6
    """Exponent of Wu et al. (2016), eq. 14; 0 does not penalise."""
    sentences: Count = 1000
    """Of the test set, the first so many."""


class KnowledgeProbe(Config):
    """Every measure of dark knowledge and geometry, of training images and of held-out ones."""

    probe: Literal["knowledge"] = "knowledge"
    temperature: Positive = 1.0
    """Of the soft targets that are measured."""
    images: Count = 10_000
    """Of each split, at most so many."""
    teachers_only: bool = False
    """Leave students out, which an experiment may have in hundreds."""


class SnapshotsProbe(Config):
    """Accuracy, calibration and dark knowledge of the weights along training; nothing where none were kept."""

    probe: Literal["snapshots"] = "snapshots"
    bins: Count = 15
    """Bins of the calibration error."""


CalibrationMethod = Literal["temperature", "vector", "platt"]
"""temperature: logits / T; vector: a scale and a bias per class (both Guo 2017); platt: the same of the log-odds of
each class against the rest, a sigmoid each, normalised (Zadrozny & Elkan 2002)."""


class ScalingProbe(Config):
    """What becomes of calibration when a network's logits are scaled, by parameters fitted on held-out images."""

    probe: Literal["scaling"] = "scaling"
    methods: tuple[CalibrationMethod, ...] = ("temperature", "vector", "platt")
    """Which maps."""
    bins: Count = 15
    """Bins of the calibration error."""


class MemorisationProbe(Config):
    """Of a training set with wrong labels: what the network answers where they are wrong."""

    probe: Literal["memorisation"] = "memorisation"


ProbeConfig = Annotated[
    TemperaturesProbe
    | PenultimateProbe
    | InformationProbe
    | TranslationProbe
    | KnowledgeProbe
    | SnapshotsProbe
    | ScalingProbe
    | MemorisationProbe,
    Discriminator("probe"),
]
"""A measure that an experiment asks for beside those that every network gets."""
