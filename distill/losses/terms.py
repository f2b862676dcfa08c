"""Define the arguments and the result of a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

Labels = Int[Tensor, " n"] | Float[Tensor, "n k"] | Int[Tensor, "n t"]
"""Labels of a batch: classes, the share of each class, or a class per position.

Only a network that learns from labels alone may have a class per position.
"""


class Terms(NamedTuple):
    """Hold the loss of one step: `total` = (1 - alpha) x `hard` + alpha x `soft`."""

    total: Float[Tensor, ""]
    """The value that training minimises; differentiable."""
    hard: Float[Tensor, ""] | None
    """Hard term of the labels (`label_loss`), for logging; None at alpha = 1, to save the time of computing it."""
    soft: Float[Tensor, ""] | None
    """Distance to the teacher (times T² where the convention says so), for logging; None at alpha = 0."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Terms:
        """Return the terms after `change` is applied to each; a term that is None stays None."""
        return Terms(change(self.total), *(None if term is None else change(term) for term in self[1:]))


class Targets(NamedTuple):
    """Hold the soft targets of a batch, ready for the training step: one column per sample."""

    p: Float[Tensor, "k n"]
    log_p: Float[Tensor, "k n"]


FromTeacher = Tensor | Targets
"""What a loss takes from the teacher for a batch: logits [n, k], or the targets that `prepare` made of them."""


class Loss(Protocol):
    """Compute the loss of a step; a run calls it at each step."""

    def __call__(
        self,
        logits: Float[Tensor, "n *t k"],
        labels: Labels,
        teacher: FromTeacher | None = None,
        progress: float = 1.0,
        /,
    ) -> Terms:
        """Compute the terms of one step.

        Args:
            logits: logits of the network.
            labels: labels of the samples.
            teacher: logits [n, k] of the teacher, or what `prepare` made of them; None without a teacher.
            progress: 0 at the first step of a training, 1 at the last; a schedule of smoothing follows it.
        """
        ...


def at_least_float32(logits: Tensor) -> Tensor:
    """Cast logits of half precision to float32; return others unchanged."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def log_softmax_of_teacher(teacher_logits: Tensor, dim: int = 1) -> Tensor:
    """Compute log-probabilities of a teacher, with the lowest finite number for a class of logit -inf.

    The class has probability 0 and shall contribute 0 to a loss, but 0 times -inf would be NaN.
    """
    log_p = torch.log_softmax(teacher_logits, dim)
    return log_p.clamp_min(torch.finfo(log_p.dtype).min)


def required(teacher_logits: Tensor | None) -> Tensor:
    """Return the teacher's logits, or raise a ValueError if there are none."""
    if teacher_logits is None:
        raise ValueError("teacher_logits = None: expected logits [n, k], since alpha > 0. Give a cache.")
    return teacher_logits
