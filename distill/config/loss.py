"""Configs of what a network is taught: labels, smoothing and soft targets."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from distill.config.base import Config, Fraction, Kwargs, Share
from distill.errors import UserError


def _one_spelling(fields: Any, kind: str, usual: str, known: dict[str, dict[str, float]]) -> Any:
    """The fields with defaults dropped from `kwargs` and whole numbers made floats, so that a loss has one key.

    Args:
        fields: as they were given; what is of a wrong type stays as it is, for pydantic to refuse.
        kind: the field that says which arguments there are.
        usual: its default.
        known: its value → the arguments with their defaults.
    """
    kwargs = fields.get("kwargs") if isinstance(fields, dict) else None
    if not isinstance(kwargs, dict):
        return fields
    chosen = fields.get(kind, usual)
    defaults = known.get(chosen, {}) if isinstance(chosen, str) else {}
    plain = {name: float(value) if type(value) is int else value for name, value in kwargs.items()}
    kept = {
        name: value for name, value in plain.items() if not (type(value) is float and value == defaults.get(name))
    }
    return fields | {"kwargs": kept}


SmoothingConvention = Literal["uniform", "others", "maxsup"]


TOWARDS: dict[str, dict[str, float]] = {
    "all": {},
    "hierarchy": {"beta": 4.0},
    "confusions": {"count": 1.0},
    "similar": {"temperature": 1.0},
    "matrix": {},
}
"""Where the smoothed mass may go, and the numbers that each takes, with their defaults."""


_TABLES = {"hierarchy": "tree", "matrix": "rows"}
"""What some of them need beside."""


NEEDS_SOURCE = ("confusions", "similar")
"""Those that are read from the held-out predictions of a trained network."""


class LabelsConfig(Config):
    """What a network is taught of its labels, beside one smoothing for all classes, samples and steps."""

    per_class: tuple[Fraction, ...] = ()
    """Label smoothing of each class in turn, instead of one for all."""
    towards: Literal["all", "hierarchy", "confusions", "similar", "matrix"] = "all"
    """Which other classes get the smoothed mass. all: alike; hierarchy: the nearer in a tree of classes the more
    (Bertinetto 2020); confusions: as the smoothing source confuses them, similar: by its mean probabilities, both
    on held-out images; matrix: as given."""
    kwargs: Kwargs = {}
    """Arguments of towards, as JSON: {"tree": [[0, 2], [[5, 7], 9]], "beta": 4} of hierarchy, {"count": 1} (added
    to each) of confusions, {"temperature": 1} of similar, {"rows": [[0, 1], [1, 0]]} of matrix."""
    schedule: Literal["constant", "linear", "cosine", "warm-down"] = "constant"
    """Smoothing over the steps. linear, cosine: from first x smoothing to all of it; warm-down: all of it, then
    linearly to 0."""
    first: Annotated[float, Field(ge=0)] = 0.0
    """Of linear and cosine: smoothing at the first step, relative to that at the last (above 1 it falls)."""
    hold: Fraction = 0.5
    """Of warm-down: the part of the steps before it falls."""
    by_sample: Literal["none", "difficulty", "confidence"] = "none"
    """Smoothing of each sample. difficulty: times 1 - p(label), hard ones the most; confidence: times
    1 - H(p)/log K, sure ones the most (Lee 2022). p is the network's own, without gradient."""
    confidence_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Entropy of the answer times this is taken off the loss (Pereyra 2017)."""
    on_mixed: bool = False
    """Smoothing on top of mixup or cutmix, whose labels are soft already, is meant: no warning."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, fields: Any) -> Any:
        return _one_spelling(fields, "towards", "all", TOWARDS)

    @model_validator(mode="after")
    def _arguments_fit(self) -> LabelsConfig:
        numbers, table = TOWARDS[self.towards], _TABLES.get(self.towards)
        if table and not isinstance(self.kwargs.get(table), list):
            expected = f"{table}, a list, for {self.towards}"
            raise UserError("labels.kwargs", self.kwargs, expected, "Its description: --help.")
        for name, value in self.kwargs.items():
            if name != table and not (name in numbers and isinstance(value, float) and 0 < value < math.inf):
                expected = f"positive numbers for {', '.join(numbers)}" if numbers else f"none for {self.towards}"
                raise UserError("labels.kwargs", {name: value}, expected, "Its description: --help.")
        if self.first != 0 and self.schedule not in ("linear", "cosine"):
            raise UserError("labels.first", self.first, f"0 with the schedule {self.schedule}", "Drop it.")
        if self.hold != 0.5 and self.schedule != "warm-down":
            raise UserError("labels.hold", self.hold, f"0.5 with the schedule {self.schedule}", "Drop it.")
        return self

    def check(self, smoothing: float, convention: SmoothingConvention) -> None:
        """Raise a UserError when this does not go with that smoothing."""
        if self.per_class and smoothing:
            raise UserError("smoothing", smoothing, "0 beside labels.per_class", "Drop one of them.")
        strongest = max((smoothing, *self.per_class))
        wants_some = self.towards != "all" or self.schedule != "constant" or self.by_sample != "none"
        if wants_some and strongest == 0:
            expected = "more than 0, since labels asks where or when it applies"
            raise UserError("smoothing", 0.0, expected, "Set --smoothing or --labels.per-class.")
        if self.first * strongest >= 1:
            expected = f"less than {1 / strongest:g}, so that smoothing stays below 1"
            raise UserError("labels.first", self.first, expected, "Lower it.")
        if convention == "maxsup" and (self.per_class or self.towards != "all" or self.by_sample != "none"):
            expected = "uniform or others with labels.per_class, towards and by_sample"
            raise UserError(
                "smoothing_convention", convention, expected, "Maximum suppression takes a schedule only."
            )

    def check_source(self, source: object) -> None:
        """Raise a UserError when a smoothing source is missing, or given for nothing."""
        needs = self.towards in NEEDS_SOURCE
        if needs and source is None:
            way_out = "Give --smoothing-source, the path or key of a trained teacher."
            raise UserError("smoothing_source", None, f"a teacher for labels.towards {self.towards}", way_out)
        if source is not None and not needs:
            expected = f"none for labels.towards {self.towards}"
            raise UserError("smoothing_source", "given", expected, "Drop it, or set --labels.towards similar.")


SOFT_TERMS: dict[str, dict[str, float]] = {
    "kl": {},
    "logit-matching": {},
    "standardised": {},
    "dkd": {"target": 1.0, "nontarget": 8.0},
    "dist": {"inter": 1.0, "intra": 1.0},
    "wsl": {},
    "decoupled": {"label_temperature": 8.0},
}
"""Soft terms and the arguments that each takes, with their defaults. The label's temperature is twice that of the
others by default, as Li 2022 have it (4 and 2)."""


class LossConfig(Config):
    """Targets of a student: (1 - alpha) x hard term + alpha x soft term."""

    alpha: Share = 1.0
    """Weight of the soft term; 0 trains from labels alone."""
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    """Temperature of the soft targets."""
    temperature_on: Literal["both", "teacher"] = "both"
    """both: Hinton's, times T²; teacher: Müller's CIFAR runs, no T²."""
    soft: Literal["kl", "logit-matching", "standardised", "dkd", "dist", "wsl", "decoupled"] = "kl"
    """kl: KL(teacher || student); logit-matching: ½ ||z_s - z_t||² (Müller's MNIST runs); standardised: KL of
    logits as z-scores (Sun 2024, T=2); dkd: decoupled (Zhao 2022, T=4); dist: correlations (Huang 2022, T=1); wsl:
    weighted by sample (Zhou 2021, T=2); decoupled: a temperature of its own for the label (ATS, Li 2022, T=2)."""
    kwargs: Kwargs = {}
    """Arguments of the soft term, as JSON: {"target": 1, "nontarget": 8} of dkd, {"inter": 1, "intra": 1} of dist,
    {"label_temperature": 8} of decoupled."""
    smoothing: Fraction = 0.0
    """Label smoothing ε of the hard term; --smoothing for short."""
    smoothing_convention: SmoothingConvention = "uniform"
    """uniform: (1-ε)y + ε/K; others: 1-ε for the label, ε/(K-1) for each other class; maxsup: hard labels, and ε
    times the largest logit over the mean one (Zhou 2025)."""
    labels: LabelsConfig = LabelsConfig()
    """What else the hard term does with labels."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, fields: Any) -> Any:
        return _one_spelling(fields, "soft", "kl", SOFT_TERMS)

    @model_validator(mode="after")
    def _arguments_of_the_soft_term(self) -> LossConfig:
        known = SOFT_TERMS[self.soft]
        for name, value in self.kwargs.items():
            if name not in known or not isinstance(value, float) or not 0 < value < math.inf:
                expected = f"positive numbers for {', '.join(known)}" if known else f"none for {self.soft}"
                raise UserError("loss.kwargs", self.kwargs, expected, "Its description: --help.")
        if self.temperature_on == "teacher" and self.soft != "kl":
            way_out = "Drop --loss.temperature-on, or take --loss.soft kl."
            raise UserError("loss.temperature_on", "teacher", f"both for {self.soft}", way_out)
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> LossConfig:
        self.labels.check(self.smoothing, self.smoothing_convention)
        if self.alpha == 1 and self.labels != LabelsConfig():
            asked = self.labels.model_dump(exclude_defaults=True)
            expected = "none at alpha = 1, where soft targets are all that is taught"
            raise UserError("loss.labels", asked, expected, "Lower --loss.alpha.")
        return self
