"""What a loss takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

Labels = Int[Tensor, " n"] | Float[Tensor, "n k"] | Int[Tensor, "n t"]
"""Classes, or the share of each class, or (from labels alone) a class per position."""


class Terms(NamedTuple):
    """The loss of one step is `total` = (1 - alpha) x `hard` + alpha x `soft`."""

    total: Float[Tensor, ""]
    """What is minimised; differentiable."""
    hard: Float[Tensor, ""] | None
    """What the labels charge (`label_loss`), for logging; None at alpha = 1, where computing it would cost time."""
    soft: Float[Tensor, ""] | None
    """Distance to the teacher (times T² where the convention says so), for logging; None at alpha = 0."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Terms:
        """Return the terms with each of them changed; one that is None stays None."""
        return Terms(change(self.total), *(None if term is None else change(term) for term in self[1:]))


class Targets(NamedTuple):
    """Holds the soft targets of a batch, ready for the step: one column per sample."""

    p: Float[Tensor, "k n"]
    log_p: Float[Tensor, "k n"]


class Loss(Protocol):
    """What a run calls at each step."""

    def __call__(
        self,
        logits: Float[Tensor, "n *t k"],
        labels: Labels,
        teacher: Tensor | Targets | None = None,
        progress: float = 1.0,
        /,
    ) -> Terms:
        """Compute the terms of one step.

        Args:
            logits: of the network.
            labels: of the samples.
            teacher: its logits [n, k], or what `prepare` made of them; None for a network of labels.
            progress: 0 at the first step of a training, 1 at the last: what a schedule of smoothing goes by.
        """
        ...


def at_least_float32(logits: Tensor) -> Tensor:
    """Give the same logits, in float32 where they were of half precision."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def required(teacher_logits: Tensor | None) -> Tensor:
    """Give the teacher's logits, which have to be there.

    Raises:
        ValueError: there are none.
    """
    if teacher_logits is None:
        raise ValueError("teacher_logits = None: expected logits [n, k], since alpha > 0. Give a cache.")
    return teacher_logits
