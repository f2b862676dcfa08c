"""Measure whether a network is surer where it is right: the order of its confidences, not their height.

Answers are ranked by confidence. Among equal confidences each order is equally likely, and the mean over these
orders is returned: each such answer counts as the share of wrong answers among them. So the order of the samples
does not matter. All is in float64, with O(n k + n log n) time and O(n k) memory.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from distill.metrics.arrays import Labels, Logits
from distill.metrics.dark_knowledge import nontarget


def risk_coverage_area(logits: Logits, labels: Labels) -> float:
    """Return AURC: the mean over i = 1 ... n of the error rate among the i most confident answers, in [0, 1].

    Low is good. Confidence is the largest softmax probability (Geifman and El-Yaniv 2017; Geifman et al. 2019).
    """
    return _area(_largest_probability(logits), _wrong(logits, labels))


def excess_risk_coverage_area(logits: Logits, labels: Labels) -> float:
    """Return E-AURC: `risk_coverage_area` less the area of the best ranking, which has all right answers first.

    Source: Geifman et al. 2019. It is 0 if each right answer is surer than each wrong one, whatever the accuracy.
    """
    wrong = _wrong(logits, labels)
    return _area(_largest_probability(logits), wrong) - _area(-wrong, wrong)


def normalised_risk_coverage_area(logits: Logits, labels: Labels, p: float = 2.0) -> float:
    """Return `risk_coverage_area` by the confidence max_k z_k / ‖z‖_p of logits z less their mean.

    This is the remedy of Xia et al. 2024 for networks trained with smoothing; taking off the mean is our addition.
    The authors choose p from 1 to 8 on validation data; here p is given. Equal logits have confidence 0, the least
    there is.
    """
    z = logits.double() - logits.double().mean(dim=1, keepdim=True)
    length = z.norm(p, dim=1)
    # Equal logits can differ by rounding, which gives no direction.
    known = length > 1e-12 * logits.double().norm(p, dim=1)
    confidence = torch.where(known, z.amax(dim=1) / length, 0.0)
    # Many confidences may be equal but for rounding: all of them with two classes, and with p = 1 all samples where
    # one logit is above the mean.
    return _area(confidence.round(decimals=9), _wrong(logits, labels))


def max_logit_suppression(logits: Logits, labels: Labels) -> float:
    """Return how much higher the largest logit stands where the answer is right than where it is wrong.

    With h = max_k z_k - mean_k z_k: (mean of h where right - mean of h where wrong) / mean of h. A scale of all
    logits changes nothing. The larger the value, the more the height of the largest logit says that the answer is
    right. Xia et al. 2024 show that smoothing suppresses the largest logit more where the answer is likely right,
    which lowers this value; the definition of the value is ours. NaN if all answers are right, all are wrong, or
    all logits of each sample are equal.
    """
    z = logits.double()
    height = z.amax(dim=1) - z.mean(dim=1)
    wrong = _wrong(logits, labels).bool()
    difference = height[~wrong].mean() - height[wrong].mean()
    return (difference / height.mean()).item()


def _wrong(logits: Logits, labels: Labels) -> Float64[Tensor, " n"]:
    """Return 1 where another class than the label has the largest logit, otherwise 0."""
    return (logits.argmax(dim=1) != labels).double()


def _largest_probability(logits: Logits) -> Float64[Tensor, " n"]:
    """Return the log-odds of the largest probability."""
    # Log-odds have the order of the probabilities, but no ties where probabilities round to 1.
    z = logits.double()
    largest, answer = z.max(dim=1)
    return largest - nontarget(z, answer).logsumexp(dim=1)


def _area(confidence: Float64[Tensor, " n"], wrong: Float64[Tensor, " n"]) -> float:
    """Return the area under the risk-coverage curve, in expectation over the orders of equal confidences."""
    _, rank, count = confidence.neg().unique(return_inverse=True, return_counts=True)
    errors = wrong.new_zeros(len(count)).index_add_(0, rank, wrong)
    expected = (errors / count).repeat_interleave(count)
    covered = torch.arange(1, len(wrong) + 1, dtype=torch.float64, device=wrong.device)
    return (expected.cumsum(0) / covered).mean().item()
