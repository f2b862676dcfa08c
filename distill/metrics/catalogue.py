"""All measures of what a network knows beyond its answers: their names, sources and costs, and how to compute them.

In costs n is the number of samples, k of classes, d of features. Measures that are not defined for a network (NaN
or infinite) are left out of what is returned.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from distill.metrics import accuracy, collapse, dark_knowledge, fidelity, geometry, selective
from distill.metrics.beyond_top1 import bits_beyond_top1

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Measure(NamedTuple):
    """What a measure is."""

    name: str
    of: Literal["logits", "features", "teacher"]
    """What it needs: the network's logits, its last features too, or those of its teacher beside its logits."""
    source: str
    """Paper that defines it; "this project" if none does."""
    cost: str
    """Time it takes."""
    what: str
    """In one line, with its unit."""


_BITS = "O(n k) per step of a fit"
_RANKING = "O(n k + n log n)"
_COLLAPSE = "O(n d k)"

MEASURES = (
    Measure(
        "interclass_variance",
        "logits",
        "Müller et al. 2019, in words",
        "O(n k)",
        "variance over the non-target logits",
    ),
    Measure("interclass_variance_relative", "logits", "this project", "O(n k)", "the same over the squared gap"),
    Measure(
        "interclass_variance_within", "logits", "this project", "O(n k)", "its part that differs within a class"
    ),
    Measure(
        "interclass_variance_between", "logits", "this project", "O(n k)", "its part that a class has in common"
    ),
    Measure("gap", "logits", "Müller et al. 2019", "O(n k)", "logit of the label less the mean non-target logit"),
    Measure(
        "wrong_class_variance", "logits", "Li et al. 2022", "O(n k)", "variance over the non-target probabilities"
    ),
    Measure(
        "conditional_mutual_information",
        "logits",
        "Ye et al. 2024",
        "O(n k)",
        "what p says of the image beyond its class, nats",
    ),
    Measure("difficulty", "logits", "Zhao et al. 2022", "O(n k)", "mean 1 - p of the label"),
    Measure(
        "nontarget_entropy", "logits", "Zhao et al. 2022", "O(n k)", "entropy over the non-target classes, nats"
    ),
    Measure(
        "aggregated_variance",
        "logits",
        "Shen et al. 2021, Table 1",
        "O(n k)",
        "squared distance of p to its class mean, 1 - S",
    ),
    Measure(
        "wrong_mass",
        "logits",
        "Müller et al. 2019, section 4",
        "O(n k)",
        "smoothing with as much mass on wrong classes",
    ),
    Measure("logit_deviation", "logits", "Sun et al. 2024", "O(n k)", "standard deviation of a sample's logits"),
    Measure(
        "similarity_confusion",
        "logits",
        "this project",
        "O(n k + k² log k)",
        "rank correlation: classes alike and classes confused",
    ),
    Measure("risk_coverage_area", "logits", "Geifman et al. 2019", _RANKING, "AURC by the largest probability"),
    Measure(
        "excess_risk_coverage_area", "logits", "Geifman et al. 2019", _RANKING, "AURC less that of the best ranking"
    ),
    Measure(
        "normalised_risk_coverage_area",
        "logits",
        "Xia et al. 2024",
        _RANKING,
        "AURC by the largest logit over their norm",
    ),
    Measure(
        "max_logit_suppression",
        "logits",
        "this project, after Xia et al. 2024",
        "O(n k)",
        "largest logit where right less where wrong, relative",
    ),
    Measure("bits_beyond_top1", "logits", "this project", _BITS, "about the label, beyond the top-1 answer, bits"),
    Measure("bits_confidence", "logits", "this project", _BITS, "of these, how sure the answer is"),
    Measure("bits_classes", "logits", "this project", _BITS, "of these, which classes it confuses with"),
    Measure("bits_known", "logits", "this project", _BITS, "about the label, the top-1 answer included, bits"),
    Measure("class_separation", "features", "Kornblith et al. 2021, eq. 11", "O(n d)", "R² of cosine distances"),
    Measure(
        "within_class_collapse",
        "features",
        "Papyan et al. 2020",
        _COLLAPSE,
        "NC1: scatter within over between classes",
    ),
    Measure(
        "equiangular_distance", "features", "Zhu et al. 2021", "O(k² d)", "NC2: weights from a regular simplex"
    ),
    Measure(
        "duality_distance",
        "features",
        "Zhu et al. 2021",
        _COLLAPSE,
        "NC3: weights and class means from a regular simplex",
    ),
    Measure(
        "nearest_centre_agreement",
        "features",
        "Papyan et al. 2020",
        _COLLAPSE,
        "NC4: answers the class of the nearest mean",
    ),
    Measure("scatter_ratio", "features", "this project", "O(n d)", "trace of scatter within over between classes"),
    Measure(
        "agreement", "teacher", "Stanton et al. 2021, eq. 2", "O(n k)", "share of samples with the teacher's answer"
    ),
    Measure("kl", "teacher", "Stanton et al. 2021, eq. 3", "O(n k)", "KL from the teacher at temperature 1, nats"),
    Measure(
        "target_divergence", "teacher", "Zhao et al. 2022", "O(n k)", "TCKD: KL of label against the rest, nats"
    ),
    Measure(
        "nontarget_divergence",
        "teacher",
        "Zhao et al. 2022",
        "O(n k)",
        "NCKD: KL over the non-target classes, nats",
    ),
    Measure(
        "inter_correlation", "teacher", "Huang et al. 2022", "O(n k)", "Pearson over classes, mean over samples"
    ),
    Measure(
        "intra_correlation", "teacher", "Huang et al. 2022", "O(n k)", "Pearson over samples, mean over classes"
    ),
    Measure("deviation_ratio", "teacher", "Sun et al. 2024", "O(n k)", "logit deviation over the teacher's"),
    Measure(
        "similarity_correlation",
        "teacher",
        "this project",
        "O(n k + k² log k)",
        "rank correlation of both's class similarity",
    ),
)
"""All measures that the functions below compute, in their order."""


def logit_measures(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0
) -> dict[str, float]:
    """All that the logits of one network say. The temperature is that of the soft targets that are measured."""
    variance = dark_knowledge.interclass_variance(logits, labels)
    similarity = dark_knowledge.class_similarity(logits, labels, temperature)
    bits = bits_beyond_top1(logits, labels)
    soft = (logits, labels, temperature)
    return defined(
        {
            "interclass_variance": variance.total,
            "interclass_variance_relative": variance.relative,
            "interclass_variance_within": variance.within,
            "interclass_variance_between": variance.between,
            "gap": variance.gap,
            "wrong_class_variance": dark_knowledge.wrong_class_variance(*soft),
            "conditional_mutual_information": dark_knowledge.conditional_mutual_information(*soft),
            "difficulty": dark_knowledge.difficulty(*soft),
            "nontarget_entropy": dark_knowledge.nontarget_entropy(*soft),
            "aggregated_variance": dark_knowledge.aggregated_variance(*soft),
            "wrong_mass": dark_knowledge.equivalent_smoothing(*soft),
            "logit_deviation": dark_knowledge.logit_deviation(logits),
            "similarity_confusion": dark_knowledge.similarity_correlation(
                similarity, dark_knowledge.confusion(logits, labels)
            ),
            "risk_coverage_area": selective.risk_coverage_area(logits, labels),
            "excess_risk_coverage_area": selective.excess_risk_coverage_area(logits, labels),
            "normalised_risk_coverage_area": selective.normalised_risk_coverage_area(logits, labels),
            "max_logit_suppression": selective.max_logit_suppression(logits, labels),
            "bits_beyond_top1": bits.total,
            "bits_confidence": bits.confidence,
            "bits_classes": bits.classes,
            "bits_known": bits.known,
        }
    )


def feature_measures(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    logits: Float[Tensor, "n k"],
    weight: Float[Tensor, "k d"],
) -> dict[str, float]:
    """How the features that the last layer gets lie, and its weight to them."""
    return defined(
        {
            "class_separation": geometry.class_separation(features, labels),
            "within_class_collapse": collapse.within_class_collapse(features, labels),
            "equiangular_distance": collapse.equiangular_distance(weight),
            "duality_distance": collapse.duality_distance(weight, features, labels),
            "nearest_centre_agreement": collapse.nearest_centre_agreement(features, labels, logits),
            "scatter_ratio": geometry.scatter_ratio(features, labels),
        }
    )


def fidelity_measures(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    temperature: float = 1.0,
) -> dict[str, float]:
    """How closely a student follows a teacher: logits of both, on the same samples."""
    similarities = [dark_knowledge.class_similarity(logits, labels, temperature) for logits in (student, teacher)]
    return defined(
        {
            "agreement": accuracy.agreement(student, teacher),
            "kl": accuracy.predictive_kl(student, teacher),
            "target_divergence": fidelity.target_divergence(student, teacher, labels, temperature),
            "nontarget_divergence": fidelity.nontarget_divergence(student, teacher, labels, temperature),
            "inter_correlation": fidelity.inter_correlation(student, teacher, temperature),
            "intra_correlation": fidelity.intra_correlation(student, teacher, temperature),
            "deviation_ratio": fidelity.deviation_ratio(student, teacher),
            "similarity_correlation": dark_knowledge.similarity_correlation(*similarities),
        }
    )


def defined(values: dict[str, float]) -> dict[str, float]:
    """Without those that there are not, such as the recall of a class without a sample."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
