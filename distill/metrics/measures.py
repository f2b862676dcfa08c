"""List every measure of a network, each in one entry: how it is computed, shown and explained.

To add a measure, write its function in this folder and its entry in `_LISTED`. Tables, `distill evaluate`, probes,
sweeps, calibrations and the logs of training read the list. The names of the measures are part of the keys of
analyses, sweeps and calibrations: the next `distill reproduce` makes these anew from stored predictions, and trains
nothing. Then run `pytest tests/metrics`, which checks the function and the entry. A probe lists its own measures
beside its code, and an experiment in its own file. Nothing here imports torch: a function is imported when it is
computed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from distill.errors import UserError
from distill.system.references import referenced

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

Kind = Literal[
    "answers", "knowledge", "targets", "features", "teacher", "independent", "activations", "unseen class",
    "unseen classes", "run",
]  # fmt: skip
Use = Literal["accuracy", "calibration", "teaching"]

GIVEN: dict[Kind, tuple[str, ...]] = {
    # How often a network is right and how sure it is.
    "answers": ("logits", "labels", "bins"),
    # What a network tells beyond its answers.
    "knowledge": ("logits", "labels", "temperature"),
    # Soft targets that a network learned from.
    "targets": ("logits", "labels", "temperature"),
    # Penultimate activations and the weight of the last layer.
    "features": ("features", "labels", "logits", "weight"),
    # A student beside its teacher, or beside a teacher that it did not learn from.
    "teacher": ("student", "teacher", "labels", "temperature"),
    "independent": ("student", "teacher", "labels"),
    # Activations of two networks.
    "activations": ("features", "other"),
    # Students that saw all classes but one, or only some.
    "unseen class": ("logits", "labels", "cls", "prior"),
    "unseen classes": ("logits", "labels", "classes", "seen_classes", "prior"),
    # Known from the config or record, without a function.
    "run": (),
}
"""Arguments that the function of a measure may ask for by name, for each kind of measure."""


class Topic(NamedTuple):
    """Describe a table of a report; each measure says in `topic` to which table it belongs."""

    caption: str
    beside: tuple[str, ...] = ()
    """Names of other measures that the table shows before its own, for comparison."""
    varies: bool = False
    """Whether the table is left out where its first measure is the same for all conditions."""


@dataclass(frozen=True)
class Measure:
    """Describe a measure of a network: how it is computed, shown and explained."""

    name: str
    heading: str = ""
    """Heading of its column, without the unit."""
    unit: Literal["", "%", "points", "×100", "nats", "bits", "bytes"] = ""
    """Unit in which values are shown.

    Shares are shown times 100: in %, as points if they are differences, or as ×100, as usual for BLEU.
    """
    decimals: int = 3
    topic: Topic | None = None
    """Table in which reports show the measure; without one it stands in the list of all rows only."""
    of: Kind = "run"
    compute: str = ""
    """Function as `module:function` of `distill.metrics`, followed by `.attribute` if it returns several values."""
    what: str = ""
    """One line that explains the measure to people who do not know it."""
    source: str = ""
    """Paper that defines the measure, or "this project"."""
    cost: str = "O(n k)"
    """Time that the measure takes, for n samples of k classes and d features."""
    usual: bool = False
    """Whether the measure is taken of every network, for every report."""
    watched: Literal["evaluation", "training", "recent"] | None = None
    """When the measure is logged.

    - evaluation: at every evaluation and on training data.
    - training: on training data.
    - recent: on the latest training data.
    """
    use: Use | None = None
    """Use for which the measure chooses a strength of smoothing."""
    best: Literal["higher", "lower"] = "higher"
    """Direction of better values, for choosing by the measure."""
    stands_alone: bool = False
    """Whether the heading is understood outside its table."""

    @property
    def title(self) -> str:
        """Return the heading with its unit, as tables show it."""
        return {"%": f"{self.heading} %", "points": f"{self.heading}, points"}.get(self.unit, self.heading)

    @property
    def factor(self) -> int:
        """Return the factor by which a value is multiplied where it is shown."""
        return 100 if self.unit in ("%", "points", "×100") else 1

    @property
    def explained(self) -> str:
        """Return what the measure is, its unit, and where it comes from."""
        unit = f", {self.unit}" if self.unit in ("nats", "bits") else ""
        return f"{self.what}{unit} [{self.source}]" if self.source else f"{self.what}{unit}"


_NETWORKS = Topic("Teachers and students")
_NEVER_SEEN = Topic("A class never seen in the transfer set")
_SOME_SEEN = Topic("Only some classes in the transfer set")
_OF_STUDENTS = ("accuracy", "nll", "agreement", "kl", "interclass_variance_relative")
_CACHES = Topic("Caches and what came of them", _OF_STUDENTS, varies=True)
_CALIBRATION = Topic("Calibration", ("ece", "nll"))
_KNOWLEDGE = Topic("Dark knowledge")
_FIDELITY = Topic("Fidelity to the teacher", ("agreement", "kl"))
_OURS = "this project"
_BITS = "O(n k) per step of a fit"
_RANKING = "O(n k + n log n)"
_SIMILARITY = "O(n k + k² log k)"

# Each entry takes two or three lines; the formatter would make it a dozen.
# fmt: off
_LISTED = (
    Measure("accuracy", "accuracy", "%", 2, _NETWORKS, "answers", "accuracy:accuracy", usual=True, use="accuracy",
            watched="evaluation", stands_alone=True, what="share of samples with the right answer"),
    Measure("nll", "NLL", "nats", 3, _NETWORKS, "answers", "accuracy:nll", usual=True, watched="evaluation",
            stands_alone=True, what="mean negative log-likelihood of the labels"),
    Measure("ece", "ECE", "%", 2, _NETWORKS, "answers", "calibration_error:ece", usual=True, watched="evaluation",
            use="calibration", best="lower", stands_alone=True,
            what="expected calibration error", source="Guo et al. 2017"),
    Measure("confidence", "confid.", "%", 2, _NETWORKS, "answers", "confidence:mean_confidence",
            usual=True, watched="evaluation", what="mean largest probability"),
    Measure("interclass_variance", "variance", "", 2, _NETWORKS, "knowledge",
            "dark_knowledge:interclass_variance.total", usual=True, watched="training",
            what="variance over the non-target logits", source="Müller et al. 2019, in words"),
    Measure("interclass_variance_relative", "/gap²", "%", 2, _NETWORKS, "knowledge",
            "dark_knowledge:interclass_variance.relative", usual=True, use="teaching",
            what="interclass_variance over the squared gap", source=_OURS),
    Measure("gap", "gap", "", 2, _NETWORKS, "knowledge", "dark_knowledge:interclass_variance.gap", usual=True,
            what="logit of the label less the mean non-target logit", source="Müller et al. 2019"),
    Measure("optimal_gap", "optimum", "", 2, _NETWORKS,
            what="gap at the optimum of its smoothed labels", source="Müller et al. 2019"),
    Measure("agreement", "agree", "%", 1, _NETWORKS, "teacher", "accuracy:agreement", usual=True,
            what="share of samples with the teacher's answer", source="Stanton et al. 2021, eq. 2"),
    Measure("kl", "KL", "nats", 3, _NETWORKS, "teacher", "accuracy:predictive_kl", usual=True, stands_alone=True,
            what="KL from the teacher at temperature 1", source="Stanton et al. 2021, eq. 3"),
    Measure("equivalent_smoothing", "γ", "", 3, _NETWORKS, "targets", "dark_knowledge:equivalent_smoothing",
            watched="training",
            what="smoothing of its targets, uniform convention", source="Müller et al. 2019, section 4"),

    Measure("unseen_recall", "recall", "%", 1, _NEVER_SEEN, "unseen class", "unseen:recall",
            what="recall of the class it never saw", source="Hinton et al. 2015, section 3"),
    Measure("unseen_recall_corrected", "corrected recall", "%", 1, _NEVER_SEEN, "unseen class",
            "unseen:corrected_recall",
            what="recall of that class with its prior restored", source="Hinton et al. 2015, section 3"),
    Measure("unseen_auc", "AUC", "", 3, _NEVER_SEEN, "unseen class", "unseen:margin_auc", cost=_RANKING,
            what="ranking of that class by the margin, ROC area", source=_OURS),
    Measure("pair_accuracy_corrected", "corrected accuracy", "%", 1, _SOME_SEEN, "unseen classes",
            "unseen:corrected_accuracy", cost=_RANKING,
            what="accuracy, bias to the seen classes corrected", source="Hinton et al. 2015, section 3"),
    Measure("unseen_accuracy", "of unseen", "%", 1, _SOME_SEEN, "unseen classes", "unseen:accuracy_of",
            what="accuracy on the classes it never saw"),
    Measure("unseen_among_unseen", "among unseen", "%", 1, _SOME_SEEN, "unseen classes", "unseen:accuracy_among",
            what="accuracy on these classes when only they may be answered"),

    Measure("cache_bytes_per_view", "bytes/view", "bytes", 0, _CACHES, what="size of a stored view"),
    Measure("cache_tv_T1", "TV T=1", "%", 3, _CACHES,
            what="total variation distance of what is stored to what the teacher said, T = 1"),
    Measure("cache_tv_T4", "TV T=4", "%", 3, _CACHES, what="total variation distance at T = 4"),

    Measure("ece_equal_mass", "ECE, equal mass", "%", 2, _CALIBRATION, "answers",
            "calibration_error:ece_equal_mass", usual=True, cost=_RANKING,
            what="ECE with as many samples in each bin", source="Nguyen & O'Connor 2015"),
    Measure("ece_classwise", "classwise ECE", "%", 3, _CALIBRATION, "answers", "calibration_error:ece_classwise",
            usual=True, what="mean calibration error of each class's probability", source="Kull et al. 2019"),
    Measure("ece_adaptive", "adaptive ECE", "%", 3, _CALIBRATION, "answers", "calibration_error:ece_adaptive",
            usual=True, cost="O(n k log n)",
            what="classwise ECE with as many samples in each bin", source="Nixon et al. 2019"),
    Measure("brier", "Brier", "", 3, _CALIBRATION, "answers", "accuracy:brier", usual=True,
            what="mean squared error of the probabilities", source="Brier 1950"),

    Measure("bits_beyond_top1", "bits beyond top-1", "bits", 3, _KNOWLEDGE, "knowledge",
            "beyond_top1:bits_beyond_top1.total", usual=True, cost=_BITS,
            what="about the label, beyond the top-1 answer", source=_OURS),
    Measure("conditional_mutual_information", "CMI", "nats", 3, _KNOWLEDGE, "knowledge",
            "dark_knowledge:conditional_mutual_information", usual=True, watched="recent",
            what="what p says of the image beyond its class", source="Ye et al. 2024"),
    Measure("nontarget_entropy", "non-target entropy", "nats", 3, _KNOWLEDGE, "knowledge",
            "dark_knowledge:nontarget_entropy", usual=True, watched="recent",
            what="entropy over the non-target classes", source="Zhao et al. 2022"),
    Measure("aggregated_variance", "variance in class", "", 4, _KNOWLEDGE, "knowledge",
            "dark_knowledge:aggregated_variance", usual=True, watched="recent",
            what="squared distance of p to its class mean, 1 - S", source="Shen et al. 2021, Table 1"),
    Measure("similarity_independent", "similarity, other seed", "", 3, _KNOWLEDGE, "independent",
            "fidelity:class_similarity_correlation", cost=_SIMILARITY,
            what="rank correlation of class similarity with another run of the recipe", source=_OURS),

    Measure("agreement_independent", "agree, other seed", "%", 1, _FIDELITY, "independent", "accuracy:agreement",
            what="agreement with a teacher that it did not learn from", source="Stanton et al. 2021"),
    Measure("kl_independent", "KL, other seed", "nats", 3, _FIDELITY, "independent", "accuracy:predictive_kl",
            what="KL from a teacher that it did not learn from", source="Stanton et al. 2021"),
    Measure("target_divergence", "TCKD", "nats", 3, _FIDELITY, "teacher", "fidelity:target_divergence", usual=True,
            what="TCKD: KL of label against the rest", source="Zhao et al. 2022"),
    Measure("nontarget_divergence", "NCKD", "nats", 3, _FIDELITY, "teacher", "fidelity:nontarget_divergence",
            usual=True, what="NCKD: KL over the non-target classes", source="Zhao et al. 2022"),
    Measure("inter_correlation", "r over classes", "", 3, None, "teacher", "fidelity:inter_correlation", usual=True,
            what="Pearson over classes, mean over samples", source="Huang et al. 2022"),
    Measure("intra_correlation", "r over samples", "", 3, None, "teacher", "fidelity:intra_correlation", usual=True,
            what="Pearson over samples, mean over classes", source="Huang et al. 2022"),
    Measure("deviation_ratio", "deviation ratio", "", 2, _FIDELITY, "teacher", "fidelity:deviation_ratio",
            usual=True, what="logit deviation over the teacher's", source="Sun et al. 2024"),
    Measure("similarity_correlation", "similarity", "", 3, _FIDELITY, "teacher",
            "fidelity:class_similarity_correlation", usual=True, cost=_SIMILARITY,
            what="rank correlation of both's class similarity", source=_OURS),

    Measure("interclass_variance_within", "variance within a class", "", 2, None, "knowledge",
            "dark_knowledge:interclass_variance.within", usual=True,
            what="part of interclass_variance that differs within a class", source=_OURS),
    Measure("interclass_variance_between", "variance between classes", "", 2, None, "knowledge",
            "dark_knowledge:interclass_variance.between", usual=True,
            what="part of interclass_variance that a class has in common", source=_OURS),
    Measure("wrong_class_variance", "wrong-class variance", "", 4, None, "knowledge",
            "dark_knowledge:wrong_class_variance",
            what="variance over the non-target probabilities", source="Li et al. 2022"),
    Measure("difficulty", "difficulty", "%", 2, None, "knowledge", "dark_knowledge:difficulty",
            what="mean 1 - p of the label", source="Zhao et al. 2022"),
    Measure("wrong_mass", "wrong mass", "", 3, None, "knowledge", "dark_knowledge:equivalent_smoothing",
            what="smoothing with as much mass on wrong classes", source="Müller et al. 2019, section 4"),
    Measure("logit_deviation", "logit deviation", "", 2, None, "knowledge", "dark_knowledge:logit_deviation",
            watched="recent", what="standard deviation of a sample's logits", source="Sun et al. 2024"),
    Measure("similarity_confusion", "similarity, confusion", "", 3, None, "knowledge",
            "dark_knowledge:similarity_confusion", cost=_SIMILARITY,
            what="rank correlation: classes alike and classes confused", source=_OURS),
    Measure("risk_coverage_area", "AURC", "", 4, None, "knowledge", "selective:risk_coverage_area", cost=_RANKING,
            what="AURC by the largest probability", source="Geifman et al. 2019"),
    Measure("excess_risk_coverage_area", "E-AURC", "", 4, None, "knowledge", "selective:excess_risk_coverage_area",
            cost=_RANKING, what="AURC less the AURC of the best ranking", source="Geifman et al. 2019"),
    Measure("normalised_risk_coverage_area", "AURC, normalised", "", 4, None, "knowledge",
            "selective:normalised_risk_coverage_area", cost=_RANKING,
            what="AURC by the largest logit over their norm", source="Xia et al. 2024"),
    Measure("max_logit_suppression", "max-logit suppression", "", 3, None, "knowledge",
            "selective:max_logit_suppression", source="this project, after Xia et al. 2024",
            what="largest logit where right less where wrong, relative"),
    Measure("bits_confidence", "bits, confidence", "bits", 3, None, "knowledge",
            "beyond_top1:bits_beyond_top1.confidence", cost=_BITS,
            what="of bits_beyond_top1, how sure the answer is", source=_OURS),
    Measure("bits_classes", "bits, classes", "bits", 3, None, "knowledge", "beyond_top1:bits_beyond_top1.classes",
            cost=_BITS, what="of bits_beyond_top1, which classes it confuses with", source=_OURS),
    Measure("bits_known", "bits", "bits", 3, None, "knowledge", "beyond_top1:bits_beyond_top1.known", cost=_BITS,
            what="about the label, the top-1 answer included", source=_OURS),

    Measure("class_separation", "R²", "", 3, None, "features", "geometry:class_separation", cost="O(n d)",
            what="R² of cosine distances", source="Kornblith et al. 2021, eq. 11"),
    Measure("within_class_collapse", "NC1", "", 3, None, "features", "collapse:within_class_collapse",
            cost="O(n d k)", what="NC1: scatter within over between classes", source="Papyan et al. 2020"),
    Measure("equiangular_distance", "NC2", "", 3, None, "features", "collapse:equiangular_distance",
            cost="O(k² d)", what="NC2: weights from a regular simplex", source="Zhu et al. 2021"),
    Measure("duality_distance", "NC3", "", 3, None, "features", "collapse:duality_distance", cost="O(n d k)",
            what="NC3: weights and class means from a regular simplex", source="Zhu et al. 2021"),
    Measure("nearest_centre_agreement", "NC4", "%", 1, None, "features", "collapse:nearest_centre_agreement",
            cost="O(n d k)", what="NC4: answers the class of the nearest mean", source="Papyan et al. 2020"),
    Measure("scatter_ratio", "scatter ratio", "", 3, None, "features", "geometry:scatter_ratio", cost="O(n d)",
            what="trace of scatter within over between classes", source=_OURS),
    Measure("linear_cka", "CKA", "", 3, None, "activations", "geometry:linear_cka", cost="O(n d²)",
            what="likeness of both's activations, 0 to 1", source="Kornblith et al. 2019"),
)
# fmt: on

HELD_OUT = tuple(
    Measure(
        f"held_out_{each.name}",
        f"held-out {each.heading}",
        each.unit,
        each.decimals,
        what=f"{each.name} of the held-out images",
        source=each.source,
        cost=each.cost,
    )
    for each in _LISTED
    if each.use
)
"""Measures of held-out images by which strengths of smoothing are chosen, whatever else is measured."""

MEASURES = (*_LISTED, *HELD_OUT)
"""All measures, in the order in which reports list them."""
BY_NAME = {each.name: each for each in MEASURES}


def of_kind(*kinds: Kind) -> list[Measure]:
    """List the measures of these kinds, such as "answers": a kind says what a measure is computed from."""
    return [each for each in MEASURES if each.of in kinds]


def usual(*kinds: Kind) -> list[Measure]:
    """List the measures of the given kinds that every network gets."""
    return [each for each in of_kind(*kinds) if each.usual]


def compute(measures: Iterable[Measure], **given: Any) -> dict[str, float]:
    """Compute the values of measures, calling each function once.

    Args:
        measures: measures of kinds that have a function.
        given: arguments that functions may ask for, by the names of their parameters (`GIVEN`).

    Returns:
        Name → value; a value that is not defined is NaN or infinite.
    """
    results: dict[str, Any] = {}
    values: dict[str, float] = {}
    for measure in measures:
        reference, _, part = measure.compute.partition(".")
        if reference not in results:
            function = referenced(f"distill.metrics.{reference}")
            asked = inspect.signature(function).parameters
            results[reference] = function(**{name: value for name, value in given.items() if name in asked})
        values[measure.name] = getattr(results[reference], part) if part else results[reference]
    return values


def measures(
    logits: ArrayLike | Tensor, labels: ArrayLike | Tensor, temperature: float = 1.0, bins: int = 15
) -> dict[str, float]:
    """Measure how a network answers, and what it knows beyond its answers, from logits and labels alone.

    Args:
        logits: logits [n, k] of any classifier: tensor, array or nested list.
        labels: its right classes [n].
        temperature: at which soft targets are measured.
        bins: number of bins of the calibration errors.

    Returns:
        Name → value, in the order of `MEASURES`, which explains each; NaN or infinite where not defined.

    Raises:
        UserError: the shapes do not fit, or a number cannot be a logit or a label.
    """
    import torch

    z, y = torch.as_tensor(logits), torch.as_tensor(labels)
    if z.ndim != 2 or y.shape != z.shape[:1] or not len(z):
        value = f"{list(z.shape)} and {list(y.shape)}"
        raise UserError("logits, labels", value, "[n, k] and [n]", "Give one row of logits for each label.")
    if y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= z.shape[1]:
        raise UserError("labels", y.unique().tolist()[:5], f"classes 0 to {z.shape[1] - 1}", "Count them from 0.")
    if not bool(z.isfinite().all()):
        raise UserError("logits", "NaN or infinite", "finite numbers", "Give the numbers before the softmax.")
    given = {
        "logits": z.detach().cpu().double(),
        "labels": y.cpu().long(),
        "temperature": temperature,
        "bins": bins,
    }
    return compute(usual("answers", "knowledge"), **given)


def defined(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values without those that are not defined, such as the recall of a class without a sample."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def as_markdown(measures: Iterable[Measure]) -> str:
    """Render a table of measures in Markdown: name, what it is, source, cost."""
    rows = [["measure", "what it is", "source", "cost"], ["---"] * 4]
    rows += [[f"`{each.name}`", each.what, each.source, each.cost] for each in measures]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
