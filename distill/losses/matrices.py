"""Smoothed targets as a matrix [K, K]: row y is what label y is taught as.

Every `towards_...` says how the smoothed mass of a label is shared among the other classes: zero diagonal, rows
sum to 1. `smoothed` puts it together with the strength. Equal shares give the two plain conventions exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.config import SmoothingConvention


def smoothed(
    smoothing: float | Sequence[float], towards: Float[Tensor, "k k"], convention: SmoothingConvention = "uniform"
) -> Float[Tensor, "k k"]:
    """Targets of each label: 1 - m for the label itself, m shared as `towards` says.

    m is ε (K - 1) / K for "uniform" and ε for "others"; ε is one number, or one for each class.

    Raises:
        UserError: there is not one ε per class.
    """
    classes = len(towards)
    strength = torch.as_tensor(smoothing, dtype=torch.float64).expand(classes)
    mass = strength * (classes - 1) / classes if convention == "uniform" else strength
    return (torch.diag(1 - mass) + mass.unsqueeze(1) * towards.double()).float()


def towards_all(classes: int) -> Float[Tensor, "k k"]:
    """All other classes alike."""
    return _shares(torch.ones(classes, classes, dtype=torch.float64))


def towards_near(tree: Sequence[Any], classes: Sequence[str], beta: float = 4.0) -> Float[Tensor, "k k"]:
    """The nearer in a tree the more: exp(-β d), d the height of the lowest common ancestor over that of the tree.

    Source: Bertinetto et al. (2020), "Making Better Mistakes", section 3.2 (their soft labels, without the label's
    own share, which the smoothing decides).
    """
    raise NotImplementedError


def towards_confused(
    answers: Int[Tensor, " n"], labels: Int[Tensor, " n"], classes: int, count: float = 1.0
) -> Float[Tensor, "k k"]:
    """As a network confuses them: how often it answers each other class, plus `count`, of each label's samples."""
    counts = torch.bincount(labels * classes + answers, minlength=classes * classes).view(classes, classes)
    return _shares(counts.double() + count)


def towards_similar(similarity: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    """As a teacher finds them alike: rows of `metrics.dark_knowledge.class_similarity`, or of any like it."""
    return _shares(similarity.double())


def towards_given(rows: Sequence[Sequence[float]], classes: Sequence[str]) -> Float[Tensor, "k k"]:
    """As the user says: rows of non-negative numbers, the diagonal left out and the rest scaled to 1."""
    return _shares(torch.tensor(rows, dtype=torch.float64))


def _shares(weights: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    others = weights.clone().fill_diagonal_(0)
    return others / others.sum(1, keepdim=True)
