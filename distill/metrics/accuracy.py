"""Measure how often a network is right, how improbable it finds the labels, and how well it matches its teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def accuracy(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Return the share of samples whose largest logit is that of the label."""
    return (logits.argmax(dim=1) == labels).double().mean().item()


def top_k_accuracy(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], k: int = 5) -> float:
    """Return the share of samples whose label is among the k largest logits.

    Raises:
        ValueError: there are fewer than k classes.
    """
    classes = logits.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"k = {k}: expected 1 to {classes}, the number of classes. Choose a smaller k.")
    found = logits.topk(k, dim=1).indices == labels.unsqueeze(1)
    return found.any(dim=1).double().mean().item()


def nll(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def agreement(student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> float:
    """Return the share of samples for which student and teacher choose one class (Stanton et al. 2021, eq. 2)."""
    return (student.argmax(dim=1) == teacher.argmax(dim=1)).double().mean().item()


def predictive_kl(student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> float:
    """Return the mean KL(p_t ‖ p_s) at temperature 1, in nats (Stanton et al. 2021, eq. 3)."""
    log_student = torch.log_softmax(student.double(), dim=1)
    log_teacher = torch.log_softmax(teacher.double(), dim=1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True).item()
