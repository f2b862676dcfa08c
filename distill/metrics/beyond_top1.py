"""Measure, in bits, what a network's probabilities tell about labels beyond its top-1 answer.

The measure is our own. On images that the network was not trained on, how many bits about the true label does its
whole distribution carry that its top-1 answer does not? Four predictors of the label are compared:

- H knows nothing about the image: it predicts how frequent the classes are.
- A knows the answer a: it predicts how frequent label y is where a is answered, with 1/K added to each count.
- C knows the answer and how sure the network is. It gives y = a the largest probability q of softmax(z/T), and
  shares 1 - q among the other classes as wrong answers a are shared, with 1/(K-1) added to each count.
- B knows the whole distribution: softmax(z/T).

T is the temperature of least NLL (`temperature.fit_temperature`). C and B use the same T, so they differ only
where an answer is wrong: in which other class they then expect. Tables and T are fitted on the other folds, and the
NLL is measured on the fold left out. B gets no other correction than one temperature. A teacher whose distribution
one temperature does not put right pays for it; a teacher trained with smoothing may be one. That is intended, since
one temperature is all that distillation can choose. Values are negative for a network whose distribution misleads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from distill.metrics.arrays import Labels, Logits
from distill.metrics.dark_knowledge import nontarget
from distill.metrics.temperature import fit_temperature


@dataclass(frozen=True)
class BitsBeyondTop1:
    """Say how many bits per image a distribution carries about the label; each is a difference of two mean NLLs."""

    total: float
    """Bits beyond the top-1 answer: A - B, which is `confidence` + `classes`."""
    confidence: float
    """Part of `total` that says how sure the answer is: A - C."""
    classes: float
    """Part of `total` that says with which classes an image is confused, which is dark knowledge proper: C - B."""
    known: float
    """All bits about the label, the top-1 answer included: H - B."""


def bits_beyond_top1(logits: Logits, labels: Labels, folds: int = 5) -> BitsBeyondTop1:
    """Measure how many bits about the label the distribution carries beyond its top-1 answer.

    Tables and temperature are cross-fitted over folds. All values are NaN for fewer than two wrong answers. A
    common scale of the logits changes nothing.

    O(n k) time and memory, times the number of folds and the steps of a fit in one dimension; O(k²) for the tables.

    Args:
        logits: of images on which the network was not trained. On training images all four values mislead.
        labels: classes of the images.
        folds: number of folds, at least 2.

    Raises:
        ValueError: there are fewer than 2 folds, or a logit is not finite.
    """
    if folds < 2:
        raise ValueError(f"folds = {folds}: expected 2 or more, to fit on some and evaluate on others.")
    z = logits.double()
    answers = z.argmax(dim=1)
    wrong = answers != labels
    if wrong.sum() < 2:
        return BitsBeyondTop1(math.nan, math.nan, math.nan, math.nan)
    fold_of = _folds(wrong, folds)
    nats = z.new_zeros(4)
    for fold in range(folds):
        fitted, evaluated = fold_of != fold, fold_of == fold
        scaled = z / fit_temperature(z[fitted], labels[fitted])
        counts = _counts(answers[fitted], labels[fitted], z.shape[1])
        nats += _surprise(counts, scaled[evaluated], labels[evaluated])
    nothing, answer, confidence, everything = (nats / (len(z) * math.log(2))).tolist()
    return BitsBeyondTop1(
        total=answer - everything,
        confidence=answer - confidence,
        classes=confidence - everything,
        known=nothing - everything,
    )


def _surprise(
    counts: Float64[Tensor, "k k"], scaled: Float64[Tensor, "n k"], labels: Labels
) -> Float64[Tensor, "4"]:
    """Return the summed NLL, in nats, of four predictors of the label: class frequencies (H), the network's answer
    (A), its confidence (C) and its whole distribution (B).
    """
    classes = len(counts)
    answers = scaled.argmax(dim=1)
    prior = _smoothed(counts.sum(dim=0), classes)
    given_answer = _smoothed(counts, classes)
    given_wrong = _smoothed(counts.clone().fill_diagonal_(0.0), classes - 1)
    log_p = torch.log_softmax(scaled, dim=1)
    sure = log_p.gather(1, answers.unsqueeze(1)).squeeze(1)
    unsure = nontarget(log_p, answers).logsumexp(dim=1)
    by_confidence = torch.where(answers == labels, sure, unsure + given_wrong[answers, labels])
    everything = log_p.gather(1, labels.unsqueeze(1)).squeeze(1)
    return -torch.stack(
        [part.sum() for part in (prior[labels], given_answer[answers, labels], by_confidence, everything)]
    )


def _smoothed(counts: Float64[Tensor, "*rows k"], outcomes: int) -> Float64[Tensor, "*rows k"]:
    """Turn each row of counts into log shares, after one pseudo-sample is spread evenly over `outcomes` classes."""
    return ((counts + 1 / outcomes) / (counts.sum(dim=-1, keepdim=True) + 1)).log()


def _counts(answers: Int[Tensor, " n"], labels: Labels, classes: int) -> Float64[Tensor, "k k"]:
    """Count how often an answer (row) came with a label (column)."""
    return torch.bincount(answers * classes + labels, minlength=classes**2).view(classes, classes).double()


def _folds(wrong: Bool[Tensor, " n"], folds: int) -> Int[Tensor, " n"]:
    """Return the fold of each sample, which depends only on its position and on which answers are right."""
    # Right and wrong answers are shared equally among folds, since right answers alone cannot fit a temperature.
    shuffled = torch.randperm(len(wrong), generator=torch.Generator().manual_seed(0)).to(wrong.device)
    dealt = shuffled[wrong[shuffled].long().argsort(stable=True)]
    return torch.empty_like(dealt).scatter_(0, dealt, torch.arange(len(dealt), device=dealt.device) % folds)
