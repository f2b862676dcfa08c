"""Find out whether a teacher's answers fit the labels better with its classes in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

_MOST_CLASSES = 2000
"""Largest number of classes for which another order is searched; the cost of the search is cubic."""
_P = 1e-6
"""Largest p-value at which another order counts as better than the given one."""


class ClassOrder(NamedTuple):
    """Describe an order of the classes that fits a teacher's answers better than the given order."""

    accuracy: float
    """Share of right answers with the classes in this order, on images that did not choose the order."""
    p: float
    """Exact p-value of McNemar's test of this order against the given one."""
    moved: str
    """In words, the first classes that change place."""


def better_order(
    answers: Int64[Tensor, " n"], labels: Int64[Tensor, " n"], classes: tuple[str, ...]
) -> ClassOrder | None:
    """Return the order of the classes that fits the answers best, or None if it is not clearly better.

    Args:
        answers: class that the teacher gives to each image.
        labels: labels of these images.
        classes: class names in the given order.
    """
    count = len(classes)
    if count > _MOST_CLASSES:
        return None
    # The order is chosen on half of the images and judged on the rest, since with many classes some order fits any
    # shuffled answers. Halves are drawn at random: images may come class by class.
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    chosen, rest = order.chunk(2)
    pairs = torch.bincount(answers[chosen] * count + labels[chosen], minlength=count * count)
    said, meant = linear_sum_assignment(-pairs.view(count, count).numpy())
    given = answers[rest] == labels[rest]
    reordered = torch.from_numpy(meant)[answers[rest]] == labels[rest]
    wins, losses = int((reordered & ~given).sum()), int((given & ~reordered).sum())
    if wins <= losses:
        return None
    p = binomtest(wins, wins + losses, alternative="greater").pvalue
    if p >= _P:
        return None
    moved = [f"its {classes[a]} is {classes[b]}" for a, b in zip(said, meant, strict=True) if a != b]
    return ClassOrder(float(reordered.float().mean()), float(p), ", ".join(moved[:3]))
