"""Refuse a teacher that is wrong about the images as the student will see them, before hours go into a cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from scipy.optimize import linear_sum_assignment

from distill.errors import UnfitTeacher

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int64
    from torch import Tensor

SAMPLES = 1024
"""Number of samples of the first view that are checked."""
_MOST_CLASSES = 2000
"""Largest number of classes for which another order of the classes is searched; the cost of the search is cubic."""
_AGREEMENT = 1e-2
"""Largest difference between two passes of a teacher in evaluation mode, relative to the largest logit.

Batches of other sizes are rounded differently, on a GPU in the third digit (TF32).
"""


def least_accuracy(labels: Int64[Tensor, "n"], expected: float | None = None) -> float:
    """Return the accuracy below which something must be wrong with a teacher.

    It lies halfway between chance and the teacher's accuracy on held-out data (`expected`), or, if this is not
    known, three standard errors above the share of the most frequent class, which a shuffled cache does not reach.
    """
    chance = float(labels.bincount().max()) / len(labels)
    if expected is not None:
        return chance + 0.5 * max(0.0, expected - chance)
    return min(0.99, chance + 3 * math.sqrt(chance * (1 - chance) / len(labels)))


def refuse_if_wrong(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    classes: tuple[str, ...],
    least: float,
    field: str = "teacher",
    way_out: str = "Look at preprocessing, labels and sample order",
) -> float:
    """Refuse a teacher whose logits cannot be right, else return its accuracy.

    Args:
        logits: logits of the teacher.
        labels: labels of these samples.
        classes: class names, for the message.
        least: smallest accuracy that is accepted.
        field: name that the message gives to the teacher.
        way_out: advice for a low accuracy.

    Raises:
        UnfitTeacher: a logit is not finite, the accuracy is too low, or the teacher seems to have another class
            order.
    """
    if bad := int((~torch.isfinite(logits)).any(1).sum()):
        value = f"{bad} of {len(logits)} rows with inf or nan"
        raise UnfitTeacher(field, value, "finite logits", "Look at its training: it has diverged.")
    answers = logits.argmax(1)
    reached = float((answers == labels).float().mean())
    if reached >= least:
        return reached
    value = f"right on {reached:.1%} of {len(labels)} views of the transfer set"
    reordered, swapped = _in_best_order(answers, labels, classes)
    if reordered >= max(least, reached + 0.1):
        expected = f"at least {least:.1%}; with the classes in another order it is right on {reordered:.1%}"
        raise UnfitTeacher(field, value, expected, f"Give the classes in the teacher's order ({swapped}).")
    way_out += "; to go on nevertheless, lower `min_teacher_accuracy`."
    raise UnfitTeacher(field, value, f"at least {least:.1%}", way_out)


def _in_best_order(
    answers: Int64[Tensor, "n"], labels: Int64[Tensor, "n"], classes: tuple[str, ...]
) -> tuple[float, str]:
    """Return the accuracy with the classes in the order that fits best, and in words which classes change place."""
    count = len(classes)
    if count > _MOST_CLASSES:
        return 0.0, ""
    # The order is found on every other sample and judged on the rest, since with many classes some order fits any
    # shuffled answers.
    pairs = torch.bincount(answers[::2] * count + labels[::2], minlength=count * count)
    said, meant = linear_sum_assignment(-pairs.view(count, count).numpy())
    right = float((torch.from_numpy(meant)[answers[1::2]] == labels[1::2]).float().mean())
    moved = [f"its {classes[a]} is {classes[b]}" for a, b in zip(said, meant, strict=True) if a != b]
    return right, ", ".join(moved[:3])


def refuse_if_training(
    forward: Callable[[Float32[Tensor, "b c h w"]], Float32[Tensor, "b k"]], images: Float32[Tensor, "b c h w"]
) -> None:
    """Refuse a network that is not in evaluation mode: its answers differ between two passes.

    Raises:
        UnfitTeacher: the answers differ.
    """
    # Dropout would change the second pass, and batch statistics the half batch.
    whole = forward(images)
    half = forward(images[: max(1, len(images) // 2)].flip(0)).flip(0)
    difference = float((whole[: len(half)] - half).abs().max())
    scale = float(whole.abs().max()) or 1.0
    if difference > _AGREEMENT * scale:
        value = f"two passes that differ by {difference:.3g} in logits up to {scale:.3g}"
        expected = "a network in evaluation mode, which gives one answer to one image"
        raise UnfitTeacher("teacher", value, expected, "Look for dropout or batch statistics that ignore `eval()`.")
