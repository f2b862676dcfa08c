"""Refuse a teacher that is wrong about the images as the student will see them, before hours go into a cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from distill.cache.class_order import better_order
from distill.errors import UnfitTeacher

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int64
    from torch import Tensor

SAMPLES = 1024
"""Number of samples of the first view that are checked."""
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
    noise = 3 * math.sqrt(chance * (1 - chance) / len(labels))
    if expected is None:
        # With few images three standard errors would ask for more than any teacher can reach.
        return chance + min(noise, (1 - chance) / 2)
    # A sound teacher of unbalanced images may be no more accurate than the most frequent class is frequent.
    return chance + 0.5 * (expected - chance) if expected > chance else chance - noise


def refuse_if_wrong(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    classes: tuple[str, ...],
    least: float,
    field: str = "teacher",
    way_out: str = "Look at preprocessing, labels and sample order",
    accept_class_order: bool = False,
    where: str = "views of the transfer set",
) -> float:
    """Refuse a teacher whose logits cannot be right, else return its accuracy.

    Args:
        logits: logits of the teacher.
        labels: labels of these samples.
        classes: class names, for the message.
        least: smallest accuracy that is accepted.
        field: name that the message gives to the teacher.
        way_out: advice for a low accuracy.
        accept_class_order: whether the classes are in the order that the user means, whatever fits better.
        where: what the labels are of, for the message.

    Raises:
        UnfitTeacher: a logit is not finite, the accuracy is too low, or the teacher seems to have another class
            order.
    """
    if bad := int((~torch.isfinite(logits)).any(1).sum()):
        value = f"{bad} of {len(logits)} rows with inf or nan"
        raise UnfitTeacher(field, value, "finite logits", "Look at its training: it has diverged.")
    answers = logits.argmax(1)
    reached = float((answers == labels).float().mean())
    value = f"right on {reached:.1%} of {len(labels)} {where}"
    order = None if accept_class_order else better_order(answers, labels, classes)
    if order is not None:
        expected = f"the classes in the teacher's order; in another order it is right on {order.accuracy:.1%}"
        expected += f" of the views that did not choose the order (p = {order.p:.1g})"
        hint = f"Give the classes in this order ({order.moved})"
        raise UnfitTeacher(field, value, expected, f"{hint}; if the order is right, set `accept_class_order=true`.")
    if reached >= least:
        return reached
    way_out += "; to go on nevertheless, lower `min_teacher_accuracy`."
    raise UnfitTeacher(field, value, f"at least {least:.1%}", way_out)


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
