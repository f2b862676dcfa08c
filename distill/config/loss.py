"""Define the configs of the loss: labels, smoothing and soft targets; and list all soft terms."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from distill.config.base import Config, Fraction, Kwargs, Share
from distill.errors import UserError

IGNORED = -100
"""A label that does not count, such as that of padding; `torch.nn.CrossEntropyLoss` leaves out the same number."""

SmoothingConvention = Literal["uniform", "others", "maxsup"]


@dataclass(frozen=True)
class SoftTerm:
    """Describe one way to compare a student with its teacher, for the config, the help and the training."""

    name: str
    """Name of the soft term: the value of `LossConfig.soft`."""
    # A reference and not the function, so that reading a config does not import torch.
    function: str
    """Reference `package.module:name` of the function that computes the loss.

    It is called with (student_logits, teacher_logits, temperature=…, **arguments) and returns the mean over the
    batch.
    """
    meaning: str
    """Text for the help: what the term compares, who proposed it and at which temperature they use it."""
    defaults: dict[str, float] = field(default_factory=dict)
    """Arguments with their defaults, all of them positive numbers."""
    needs_labels: bool = False
    """Whether the function is also called with `labels=…`: classes, or the share of each class."""
    compares_samples: bool = False
    """Whether a sample's loss depends on the others of its batch, which ranks may therefore not share."""
    takes_temperature_on: bool = False
    """Whether `LossConfig.temperature_on` may be "teacher"; the function is then called with `temperature_on=…`."""
    is_plain_kl: bool = False
    """Whether the loss is the KL divergence to the softened probabilities of the teacher, and nothing else.

    Training then takes the path that computes value and gradient by hand (`distill.losses.fused`), and the soft
    targets have an equivalent smoothing.
    """


SOFT_TERMS: dict[str, SoftTerm] = {
    term.name: term
    for term in (
        SoftTerm(
            "kl",
            "distill.losses.distillation:kl_distillation",
            "KL(teacher || student)",
            takes_temperature_on=True,
            is_plain_kl=True,
        ),
        SoftTerm(
            "logit-matching", "distill.losses.distillation:logit_matching", "½ ||z_s - z_t||² (Müller's MNIST runs)"
        ),
        SoftTerm(
            "standardised",
            "distill.losses.distillation:standardised_distillation",
            "KL of logits as z-scores (Sun 2024, T=2)",
        ),
        SoftTerm(
            "dkd",
            "distill.losses.distillation:decoupled_distillation",
            "decoupled (Zhao 2022, T=4)",
            {"target": 1.0, "nontarget": 8.0},
            needs_labels=True,
        ),
        SoftTerm(
            "dist",
            "distill.losses.distillation:dist_distillation",
            "correlations (Huang 2022, T=1)",
            {"inter": 1.0, "intra": 1.0},
            compares_samples=True,
        ),
        SoftTerm(
            "wsl",
            "distill.losses.distillation:weighted_soft_labels",
            "weighted by sample (Zhou 2021, T=2)",
            needs_labels=True,
        ),
        SoftTerm(
            "decoupled",
            "distill.losses.distillation:decoupled_temperatures",
            "a temperature of its own for the label (ATS, Li 2022, T=2)",
            {"label_temperature": 8.0},  # twice the other temperature, as in Li 2022 (4 and 2)
            needs_labels=True,
        ),
    )
}
"""All soft terms: name → soft term; to add one, write its function and add an entry here."""

TemperatureOn = Literal["both", "teacher"]
"""Whose logits are divided by the temperature."""

if TYPE_CHECKING:
    SoftName = str
else:
    SoftName = Literal[tuple(SOFT_TERMS)]


_TERMS = "; ".join(f"{term.name}: {term.meaning}" for term in SOFT_TERMS.values())
_HELP_OF_SOFT = f"How a student is compared with its teacher. {_TERMS}."
_ARGUMENTS = [f"{json.dumps(term.defaults)} of {term.name}" for term in SOFT_TERMS.values() if term.defaults]
_HELP_OF_KWARGS = f"Arguments of the soft term, as JSON: {', '.join(_ARGUMENTS)}."


@dataclass(frozen=True)
class Towards:
    """Describe one way to share the smoothed mass among the other classes, and its arguments."""

    defaults: dict[str, float] = field(default_factory=dict)
    """Arguments that are numbers, with their defaults, all of them positive."""
    table: str | None = None
    """Name of the argument that must be given as a list; None if there is none."""
    needs_source: bool = False
    """Whether the distribution is read from the held-out predictions of a trained network."""


TOWARDS: dict[str, Towards] = {
    "all": Towards(),
    "hierarchy": Towards({"beta": 4.0}, table="tree"),
    "confusions": Towards({"count": 1.0}, needs_source=True),
    "similar": Towards({"temperature": 1.0}, needs_source=True),
    "matrix": Towards(table="rows"),
}
"""All ways to distribute the smoothed mass: value of `LabelsConfig.towards` → its arguments."""


def _one_spelling(fields: Any, kind: str, usual: str, known: Mapping[str, SoftTerm] | Mapping[str, Towards]) -> Any:
    """Drop defaults from `kwargs` and make whole numbers floats, so that a loss has one key.

    The field `kind` (default `usual`) holds the key in `known`. Wrong types are left for pydantic to refuse.
    """
    kwargs = fields.get("kwargs") if isinstance(fields, dict) else None
    if not isinstance(kwargs, dict):
        return fields
    chosen = known.get(str(fields.get(kind, usual)))
    defaults = chosen.defaults if chosen else {}
    plain = {name: float(value) if type(value) is int else value for name, value in kwargs.items()}
    kept = {
        name: value for name, value in plain.items() if not (type(value) is float and value == defaults.get(name))
    }
    return fields | {"kwargs": kept}


def _weights(value: Any) -> Any:
    """Raise a UserError unless the value is a word that is known, or positive numbers."""
    is_list = isinstance(value, list | tuple) and all(
        isinstance(each, int | float) and not isinstance(each, bool) and 0 < each < math.inf for each in value
    )
    if is_list or value == "balanced":
        return value
    expected = "balanced, or a positive number for each class"
    raise UserError("loss.class_weights", value, expected, "Set `loss.class_weights=balanced`, or drop it.")


def _check_numbers(place: str, kwargs: Kwargs, defaults: Mapping[str, float], of: str) -> None:
    """Raise a UserError unless all arguments are known and positive numbers."""
    for name, value in kwargs.items():
        if name not in defaults or not isinstance(value, float) or not 0 < value < math.inf:
            expected = f"positive numbers for {', '.join(defaults)}" if defaults else f"none for {of}"
            way_out = f"The defaults of {of} are `{place}kwargs={json.dumps(defaults)}`."
            raise UserError(f"{place}kwargs", {name: value}, expected, way_out)


class LabelsConfig(Config):
    """Choose how label smoothing differs between classes, samples or steps, and whether confidence is penalised."""

    place = "loss.labels."

    per_class: tuple[Fraction, ...] = ()
    """Label smoothing of each class in turn, instead of one for all."""
    towards: Literal["all", "hierarchy", "confusions", "similar", "matrix"] = "all"
    """Which other classes get the smoothed mass. all: all alike; hierarchy: more for nearer classes in a tree of
    classes (Bertinetto 2020); confusions: as the smoothing source confuses them, similar: by its mean
    probabilities, both on held-out images; matrix: as given."""
    kwargs: Kwargs = {}
    """Arguments of towards, as JSON: {"tree": [[0, 2], [[5, 7], 9]], "beta": 4} of hierarchy, {"count": 1} (added
    to each) of confusions, {"temperature": 1} of similar, {"rows": [[0, 1], [1, 0]]} of matrix."""
    schedule: Literal["constant", "linear", "cosine", "warm-down"] = "constant"
    """Smoothing over the steps. linear, cosine: from first x smoothing to all of it; warm-down: all of it, then
    linearly to 0."""
    first: Annotated[float, Field(ge=0)] = 0.0
    """For linear and cosine: smoothing at the first step, relative to the last (above 1 it falls)."""
    hold: Fraction = 0.5
    """For warm-down: the share of the steps before the smoothing falls."""
    by_sample: Literal["none", "difficulty", "confidence"] = "none"
    """Smoothing of each sample. difficulty: times 1 - p(label), most for hard samples; confidence: times 1 -
    H(p)/log K, most for sure ones (Lee 2022). p is the network's own, without gradient."""
    confidence_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Weight with which the entropy of the answer is subtracted from the loss (Pereyra 2017)."""
    on_mixed: bool = False
    """Say that smoothing on top of mixup or cutmix, whose labels are soft already, is meant: no warning."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, fields: Any) -> Any:
        return _one_spelling(fields, "towards", "all", TOWARDS)

    @model_validator(mode="after")
    def _arguments_fit(self) -> LabelsConfig:
        towards = TOWARDS[self.towards]
        table = towards.table
        if table and not isinstance(self.kwargs.get(table), list):
            expected = f"{table}, a list, for {self.towards}"
            way_out = f'Give it as in `loss.labels.kwargs={{"{table}": [...]}}`.'
            raise UserError("loss.labels.kwargs", self.kwargs, expected, way_out)
        numbers = {name: value for name, value in self.kwargs.items() if name != table}
        _check_numbers(self.place, numbers, towards.defaults, self.towards)
        if self.first != 0 and self.schedule not in ("linear", "cosine"):
            raise UserError("loss.labels.first", self.first, f"0 with the schedule {self.schedule}", "Drop it.")
        if self.hold != 0.5 and self.schedule != "warm-down":
            raise UserError("loss.labels.hold", self.hold, f"0.5 with the schedule {self.schedule}", "Drop it.")
        return self

    @property
    def is_plain(self) -> bool:
        """Tell whether smoothing, if any, goes to all other classes equally, in all samples and steps alike."""
        return (self.towards, self.schedule, self.by_sample) == ("all", "constant", "none")

    def check(self, smoothing: float, convention: SmoothingConvention) -> None:
        """Raise a UserError if these settings contradict the smoothing or its convention (such as maxsup)."""
        if self.per_class and smoothing:
            raise UserError("loss.smoothing", smoothing, "0 beside `loss.labels.per_class`", "Drop one of them.")
        strongest = max((smoothing, *self.per_class))
        if not self.is_plain and strongest == 0:
            expected = "more than 0, since loss.labels says where or when it applies"
            raise UserError("loss.smoothing", 0.0, expected, "Set `loss.smoothing` or `loss.labels.per_class`.")
        if self.first * strongest >= 1:
            expected = f"less than {1 / strongest:g}, so that smoothing stays below 1"
            raise UserError("loss.labels.first", self.first, expected, "Lower it.")
        if convention == "maxsup" and (self.per_class or self.towards != "all" or self.by_sample != "none"):
            expected = "uniform or others, for smoothing that differs between classes or samples"
            way_out = "Maximum suppression takes `loss.labels.schedule` only."
            raise UserError("loss.smoothing_convention", convention, expected, way_out)

    def check_source(self, source: object) -> None:
        """Raise a UserError if the network that gives class similarities is missing, or given but not used."""
        needs_source = TOWARDS[self.towards].needs_source
        if needs_source and source is None:
            expected = f"a trained teacher for `loss.labels.towards={self.towards}`"
            raise UserError("smoothing_source", None, expected, "Give one as `smoothing_source`.")
        if source is not None and not needs_source:
            expected = f"none for `loss.labels.towards={self.towards}`"
            way_out = "Drop it, or set `loss.labels.towards=similar`."
            raise UserError("smoothing_source", "given", expected, way_out)


class LossConfig(Config):
    """Choose the loss of a network: (1 - alpha) x hard term + alpha x soft term."""

    place = "loss."

    alpha: Share = 1.0
    """Weight of the soft term; 0 trains from labels alone."""
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    """Temperature of the soft targets."""
    equivalent_smoothing: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Solve the temperature of soft kl for this equivalent smoothing γ. γ is the mean mass of the soft targets on
    the incorrect classes, times K/(K-1); T is solved from the cache's logits before the first step."""
    temperature_on: TemperatureOn = "both"
    """Whose logits are divided by the temperature. both: Hinton's, times T²; teacher: Müller's CIFAR runs, no
    T²."""
    soft: Annotated[SoftName, Field(description=_HELP_OF_SOFT)] = "kl"
    kwargs: Annotated[Kwargs, Field(description=_HELP_OF_KWARGS)] = {}
    smoothing: Fraction = 0.0
    """Label smoothing ε of the hard term."""
    smoothing_convention: SmoothingConvention = "uniform"
    """Convention of smoothing. uniform: (1-ε)y + ε/K; others: 1-ε for the label, ε/(K-1) for each other class;
    maxsup: hard labels, and ε times the largest logit over the mean one (Zhou 2025)."""
    class_weights: Annotated[Literal["balanced"] | tuple[float, ...], BeforeValidator(_weights)] = ()
    """Weight of each class in the hard term, as in torch.nn.CrossEntropyLoss: a sum over samples is divided by the
    weights of their labels (with mixed labels, by their number). balanced: inverse to how often each class is a
    training label, 1 on average over the samples. The soft term has no weights."""
    labels: LabelsConfig = LabelsConfig()
    """Further options of the hard term for its labels."""

    @property
    def strongest(self) -> float:
        """Return the largest smoothing of any class, before any schedule; 0 if labels are not smoothed."""
        return max((self.smoothing, *self.labels.per_class))

    @property
    def soft_term(self) -> SoftTerm:
        """Return the soft term that `soft` names."""
        return SOFT_TERMS[self.soft]

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, fields: Any) -> Any:
        return _one_spelling(fields, "soft", "kl", SOFT_TERMS)

    @model_validator(mode="after")
    def _arguments_of_the_soft_term(self) -> LossConfig:
        _check_numbers(self.place, self.kwargs, self.soft_term.defaults, self.soft)
        if self.temperature_on == "teacher" and not self.soft_term.takes_temperature_on:
            able = next(term.name for term in SOFT_TERMS.values() if term.takes_temperature_on)
            way_out = f"Drop `loss.temperature_on`, or set `loss.soft={able}`."
            raise UserError("loss.temperature_on", "teacher", f"both for {self.soft}", way_out)
        return self

    @model_validator(mode="after")
    def _temperature_or_its_smoothing(self) -> LossConfig:
        if self.equivalent_smoothing is None:
            return self
        usual = LossConfig.model_fields["temperature"].default
        if self.temperature != usual:
            expected = f"{usual:g}, its default, beside `loss.equivalent_smoothing`, which solves the temperature"
            raise UserError("loss.temperature", self.temperature, expected, "Drop one of them.")
        if not self.soft_term.is_plain_kl:
            expected = f"none for {self.soft}, whose targets have no γ"
            way_out = "Drop it, or set `loss.soft=kl`."
            raise UserError("loss.equivalent_smoothing", self.equivalent_smoothing, expected, way_out)
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> LossConfig:
        # This comes first: to set what `labels` asks for beside it would be the next error.
        if self.alpha == 1:
            self._refuse_unused_labels()
        self.labels.check(self.smoothing, self.smoothing_convention)
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> LossConfig:
        maxsup = self.smoothing_convention == "maxsup" and self.smoothing > 0
        if self.class_weights and (maxsup or self.labels.confidence_penalty):
            penalty = "maximum suppression" if maxsup else "a confidence penalty"
            expected = f"none beside {penalty}, which has no class"
            raise UserError("loss.class_weights", self.class_weights, expected, "Drop one of them.")
        return self

    def _refuse_unused_labels(self) -> None:
        taught, way_out = (
            "at alpha = 1, where soft targets are all that is taught",
            "Lower `loss.alpha`, or drop it.",
        )
        if self.labels != LabelsConfig():
            asked = self.labels.model_dump(exclude_defaults=True)
            raise UserError("loss.labels", asked, f"none {taught}", way_out)
        if self.smoothing:
            raise UserError("loss.smoothing", self.smoothing, f"0 {taught}", way_out)
        if self.class_weights:
            raise UserError("loss.class_weights", self.class_weights, f"none {taught}", way_out)

    def refuse_soft_term(self, way_out: str) -> None:
        """Raise a UserError if something is set of a soft term that is not taught; `way_out` ends the message."""
        for name in ("soft", "kwargs", "temperature", "equivalent_smoothing", "temperature_on"):
            value, default = getattr(self, name), LossConfig.model_fields[name].default
            if value != default:
                raise UserError(f"loss.{name}", value, f"{default} where no soft targets are taught", way_out)
