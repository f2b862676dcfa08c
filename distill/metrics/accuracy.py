"""Measure how often a network is right, how improbable it finds the labels, and how well it matches its teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from distill.metrics.arrays import Labels, Logits


def accuracy(logits: Logits, labels: Labels) -> float:
    """Return the share of samples whose label has the largest logit."""
    return (logits.argmax(dim=1) == labels).double().mean().item()


def nll(logits: Logits, labels: Labels) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def brier(logits: Logits, labels: Labels) -> float:
    """Return the mean squared distance of probabilities to the one-hot label, 0 to 2 (Brier 1950)."""
    p = torch.softmax(logits.double(), dim=1)
    p_label = p.gather(1, labels.unsqueeze(1)).squeeze(1)
    return (p.square().sum(dim=1) - 2 * p_label + 1).mean().item()


def agreement(student: Logits, teacher: Logits) -> float:
    """Return the share of samples that student and teacher give one answer to (Stanton et al. 2021, eq. 2)."""
    return (student.argmax(dim=1) == teacher.argmax(dim=1)).double().mean().item()


def predictive_kl(student: Logits, teacher: Logits) -> float:
    """Return the mean KL(p_t ‖ p_s) of teacher and student at T = 1, in nats (Stanton et al. 2021, eq. 3)."""
    log_student = torch.log_softmax(student.double(), dim=1)
    log_teacher = torch.log_softmax(teacher.double(), dim=1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True).item()
