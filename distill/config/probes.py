"""Define the configs of probes: measures that an experiment asks for beside the usual ones."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Discriminator, Field

from distill.config.base import Bins, Config, Count, NonNegative, Positive, Seed


class TemperaturesProbe(Config):
    """Ask for NLL and ECE of the stored predictions at each temperature, and at one fitted on held-out data."""

    probe: Literal["temperatures"] = "temperatures"
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Temperatures by which logits are divided, increasing."""


class PenultimateProbe(Config):
    """Ask for penultimate activations, projected on the plane through three classes' last-layer weight vectors
    (Müller et al. 2019, Fig. 1).
    """

    probe: Literal["penultimate"] = "penultimate"
    triples: Annotated[tuple[tuple[NonNegative, NonNegative, NonNegative], ...], Field(min_length=1)]
    """Triples of classes, one plane each; measures without a number belong to the first triple."""
    per_class: Count = 100
    """Training and held-out samples of each class that are shown."""


class InformationProbe(Config):
    """Ask for the mutual information of image and logit difference, along training (Müller 2019, Fig. 6)."""

    probe: Literal["information"] = "information"
    classes: tuple[NonNegative, NonNegative]
    """The two classes whose images are taken, and between whose logits the difference is."""
    per_class: Count = 300
    """Training images of each of the two classes."""
    draws: Annotated[int, Field(ge=1, le=10**4)] = 5
    """Views of an image over which its mean is taken; one more view is evaluated."""
    view_seed: Seed = 0
    """Seed of the views; their view program is that of the network."""


class TranslationProbe(Config):
    """Ask for the quality of sentences that beam search finds when logits are divided by each temperature."""

    probe: Literal["translation"] = "translation"
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Temperatures by which logits are divided, increasing."""
    beam: Annotated[int, Field(ge=1, le=1000)] = 4
    """Hypotheses that beam search keeps."""
    length_penalty: Annotated[float, Field(ge=0)] = 0.6
    """Exponent of Wu et al. (2016), eq. 14; 0 does not penalise."""
    sentences: Count = 1000
    """Number of sentences, taken from the start of the test set."""


class KnowledgeProbe(Config):
    """Ask for every measure of dark knowledge and geometry, on training images and on held-out images."""

    probe: Literal["knowledge"] = "knowledge"
    temperature: Positive = 1.0
    """Temperature of the soft targets that are measured."""
    images: Count = 10_000
    """Largest number of images taken from each split."""
    teachers_only: bool = False
    """Leave out students, of which an experiment may have hundreds."""


class SnapshotsProbe(Config):
    """Ask for accuracy, calibration and dark knowledge of the snapshots of a training, if any were kept."""

    probe: Literal["snapshots"] = "snapshots"
    bins: Bins = 15
    """Bins of the calibration error."""


CalibrationMethod = Literal["temperature", "vector", "platt"]
"""A method that maps logits to calibrated logits.

temperature: logits / T; vector: a scale and a bias per class (both Guo 2017); platt: a scale and a bias of the
log-odds of each class against the rest, one sigmoid each, normalised (Zadrozny & Elkan 2002).
"""


class ScalingProbe(Config):
    """Ask for the calibration of a network after its logits are scaled by a map fitted on held-out images."""

    probe: Literal["scaling"] = "scaling"
    methods: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)
    """Calibration methods to apply."""
    bins: Bins = 15
    """Bins of the calibration error."""


class MemorisationProbe(Config):
    """Ask what a network answers to training images whose labels are wrong."""

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
