"""Refuse batches that the losses cannot learn from, with the reason.

Without these checks, training on such a batch would go wrong without an error.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from distill.config import IGNORED
from distill.errors import UserError
from distill.losses.terms import Labels

# Shares may have been in half precision before.
_ROUNDED = 1e-2
"""Largest difference from 1 that the sum of a row may have: of a softmax in half precision, or of shares."""
_PROBABILITIES = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Largest difference from 1 that the sum of a softmax row may have, for each higher precision."""


def check_batch(logits: Float[Tensor, "n *t k"], labels: Labels | None = None, ignore_index: int = IGNORED) -> None:
    """Refuse a batch that does not fit a classifier with a softmax over its classes.

    Call it at the first step of a training loop only, since it waits for the device. Log-probabilities pass: the
    softmax of log p is p, so the losses are the same. A softmax in the network would be applied twice: with ten
    classes no answer could then exceed e / (e + 9) = 0.23.

    Args:
        logits: [n, k], or [n, t, k]: the classes come last.
        labels: classes [n] or [n, t], or shares [n, k]; None when the loss does not use labels.
        ignore_index: a label that does not count.

    Raises:
        UserError: there is one logit per sample, the logits are probabilities, there are several labels per sample,
            shares do not sum to 1, or labels are out of range.
    """
    if logits.ndim < 2 or logits.shape[-1] < 2:
        expected = "one logit per class, at least 2: a softmax over one is always 1, whatever the network says"
        way_out = "Give the network 2 outputs, or train a sigmoid with binary cross-entropy, outside this loss."
        raise UserError("logits", f"shape {list(logits.shape)}", expected, way_out)
    if labels is not None:
        _check_labels(logits, labels, ignore_index)
    if logits.numel() and _are_probabilities(logits.detach()):
        value = "probabilities (all in 0 to 1, rows sum to 1)"
        expected = "logits, since the loss applies the softmax and twice is once too often"
        raise UserError("logits", value, expected, "Drop the softmax at the end of the network.")


def check_shapes(logits: Tensor, teacher_logits: Tensor | None = None, labels: Labels | None = None) -> None:
    """Refuse logits of a teacher, or labels, that do not fit the shape of the logits; never wait for the device.

    Without this check, broadcasting, gathering and scattering would take some of the numbers without an error.

    Raises:
        UserError: a shape does not fit.
    """
    if teacher_logits is not None and teacher_logits.shape != logits.shape:
        value, expected = f"shape {list(teacher_logits.shape)}", f"{list(logits.shape)}, as the student's logits"
        way_out = "Give the same samples to both networks, and the student the classes of its teacher."
        raise UserError("teacher_logits", value, expected, way_out)
    if labels is not None and labels.shape != logits.shape[:-1] and labels.shape != logits.shape:
        shape = list(logits.shape)
        expected = f"{shape[:-1]} or {shape} for logits {shape}, classes last"
        way_out = "Give one class per sample or position, or the share of each class."
        raise UserError("labels", f"shape {list(labels.shape)}", expected, way_out)


def _are_probabilities(values: Float[Tensor, "*n k"]) -> bool:
    allowed = _PROBABILITIES.get(values.dtype, _ROUNDED)
    values = values.double() if values.dtype == torch.float64 else values.float()
    inside = (values >= 0) & (values <= 1)
    whole = (values.sum(-1) - 1).abs() <= allowed
    return bool(inside.all() & whole.all())


def _check_labels(logits: Tensor, labels: Tensor, ignore_index: int) -> None:
    check_shapes(logits, labels=labels)
    classes = logits.shape[-1]
    if labels.shape == logits.shape:
        _check_shares(labels)
    elif labels.is_floating_point() or labels.is_complex():
        way_out = "Call .long() on them if they are classes; a number to predict needs another loss."
        raise UserError("labels", f"{labels.dtype}", "classes as integers, or the share of each class", way_out)
    elif (counted := labels[labels != ignore_index]).numel():
        least, most = torch.stack(torch.aminmax(counted)).tolist()
        if least < 0 or most >= classes:
            expected = f"0 to {classes - 1}, for {classes} logits per sample ({ignore_index} does not count)"
            way_out = "Give the network as many outputs as there are classes, numbered from 0."
            raise UserError("labels", int(least if least < 0 else most), expected, way_out)


def _check_shares(labels: Tensor) -> None:
    shares = labels.float()
    if labels.numel() and bool(((shares.sum(-1) - 1).abs() > _ROUNDED).any()):
        expected = "one label per sample: with several, a softmax makes classes compete that may be true together"
        way_out = "Train a sigmoid per class with binary cross-entropy, outside this loss."
        raise UserError("labels", "rows that do not sum to 1", expected, way_out)
    if bool((shares < 0).any()):
        raise UserError("labels", "shares below 0", "shares of at least 0", "Give shares that sum to 1.")
    if not labels.is_floating_point():
        way_out = "Give classes, labels.argmax(-1), or shares, labels.float()."
        raise UserError("labels", f"a column per class in {labels.dtype}", "classes, or shares as floats", way_out)
