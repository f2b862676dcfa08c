"""Measure how a student's distribution differs from its teacher's: in target, non-target classes and their order.

The functions take the logits [n, k] of both networks for one set of samples. They are computed in float64, with
O(n k) time and memory, and a shift of a sample's logits changes nothing. The simplest measures of this kind are
`accuracy.agreement` and `accuracy.predictive_kl`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from distill.metrics.arrays import Labels, Logits
from distill.metrics.dark_knowledge import class_similarity, logit_deviation, nontarget, similarity_correlation


def target_divergence(student: Logits, teacher: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the mean KL divergence, teacher to student, of label against the rest, (p_y, 1 - p_y), at T, in nats.

    This is TCKD of Zhao et al. 2022, without T². KL(p_t ‖ p_s) of a sample is its part of `target_divergence` plus
    (1 - p_t,y) times its part of `nontarget_divergence`.
    """
    of_student, of_teacher = (_target_or_not(logits, labels, temperature) for logits in (student, teacher))
    return F.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True).item()


def nontarget_divergence(student: Logits, teacher: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the mean KL of the distributions over the non-target classes at T, teacher to student, in nats.

    This is NCKD of Zhao et al. 2022, without T². How sure the teacher is of the label is no weight of a sample.
    """
    of_student, of_teacher = (
        torch.log_softmax(nontarget(logits.double() / temperature, labels), dim=1) for logits in (student, teacher)
    )
    return F.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True).item()


def inter_correlation(student: Logits, teacher: Logits, temperature: float = 1.0) -> float:
    """Return Pearson's correlation over classes of both networks' probabilities at T, mean over samples.

    Source: Huang et al. 2022. As in the authors' code, a sample to which either network gives equal probabilities
    counts as 0.
    """
    return _pearson(*_probabilities(student, teacher, temperature)).mean().item()


def intra_correlation(student: Logits, teacher: Logits, temperature: float = 1.0) -> float:
    """Return Pearson's correlation over samples of both networks' probabilities of a class at T, mean over classes.

    Source: Huang et al. 2022. A class to which either network gives one probability on all samples counts as 0.
    """
    p, q = _probabilities(student, teacher, temperature)
    return _pearson(p.T, q.T).mean().item()


def deviation_ratio(student: Logits, teacher: Logits) -> float:
    """Return how widely the student's logits are spread, relative to the teacher's (Sun et al. 2024).

    It is the ratio of `dark_knowledge.logit_deviation`: 1 if both are equally sharp, which a distillation loss with
    one temperature for both asks for. NaN for a teacher with equal logits.
    """
    of_teacher = logit_deviation(teacher)
    return logit_deviation(student) / of_teacher if of_teacher > 0 else float("nan")


def class_similarity_correlation(
    student: Logits, teacher: Logits, labels: Labels, temperature: float = 1.0
) -> float:
    """Return how well both networks agree on which classes are alike: the rank correlation at T."""
    of_both = (class_similarity(logits, labels, temperature) for logits in (student, teacher))
    return similarity_correlation(*of_both)


def _target_or_not(logits: Logits, labels: Labels, temperature: float) -> Float64[Tensor, "n 2"]:
    """Return the logarithms of p_y and 1 - p_y, the second one without cancellation."""
    z = logits.double() / temperature
    two = torch.cat([z.gather(1, labels.unsqueeze(1)), nontarget(z, labels).logsumexp(dim=1, keepdim=True)], dim=1)
    return torch.log_softmax(two, dim=1)


def _probabilities(
    student: Logits, teacher: Logits, temperature: float
) -> tuple[Float64[Tensor, "n k"], Float64[Tensor, "n k"]]:
    p, q = (torch.softmax(logits.double() / temperature, dim=1) for logits in (student, teacher))
    return p, q


def _pearson(a: Float64[Tensor, "m j"], b: Float64[Tensor, "m j"]) -> Float64[Tensor, " m"]:
    """Return the correlation of each row of `a` with its row of `b`; 0 where either is constant up to rounding."""
    x, y = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    lengths = x.norm(dim=1), y.norm(dim=1)
    varies = (lengths[0] > 1e-12 * a.norm(dim=1)) & (lengths[1] > 1e-12 * b.norm(dim=1))
    return torch.where(varies, torch.einsum("mj,mj->m", x, y) / (lengths[0] * lengths[1]), 0.0)
