"""Measure what a student knows of classes that it has never seen (Hinton et al. 2015, section 3).

One margin decides everything: the largest logit of some classes minus the largest other logit of the sample. A
sample is predicted as one of these classes when the margin is above 0; a tie does not count. Functions of one class
`cls` are for students that saw all classes but one; the others are for students that saw only some. All raise a
ValueError for classes that are none, named twice or not among the k of the logits, or for a prior outside [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.metrics.arrays import Labels, Logits


def recall(logits: Logits, labels: Labels, cls: int) -> float:
    """Return the share of the samples of class `cls` that are predicted as this class; NaN without samples."""
    return _mean(class_margin(logits, (cls,))[labels == cls] > 0)


def corrected_recall(logits: Logits, labels: Labels, cls: int, prior: float) -> float:
    """Return the recall of class `cls` once `prior_bias` is added to its logit; NaN when it has no samples."""
    margin = class_margin(logits, (cls,))
    return _mean((margin + prior_bias(margin, prior))[labels == cls] > 0)


def margin_auc(logits: Logits, labels: Labels, cls: int) -> float:
    """Return the area under the ROC curve for class `cls` against the rest, scored by the logit of `cls` minus the
    largest other logit; ties count half.

    NaN when all samples are of the class, or none is.
    """
    from scipy.stats import mannwhitneyu

    positive = labels == cls
    margin = class_margin(logits, (cls,))
    of_class, of_rest = margin[positive].cpu().numpy(), margin[~positive].cpu().numpy()
    if not of_class.size or not of_rest.size:
        return math.nan
    # Its p-value is not used; the exact one would take long.
    wins = mannwhitneyu(of_class, of_rest, method="asymptotic").statistic
    return float(wins / (of_class.size * of_rest.size))


def accuracy_of(logits: Logits, labels: Labels, classes: Collection[int]) -> float:
    """Return the accuracy over the samples of `classes`, where any class may be answered; NaN without samples."""
    kept = torch.isin(labels, _indices(logits, classes))
    return _mean(_beats_others(logits[kept], labels[kept]))


def accuracy_among(logits: Logits, labels: Labels, classes: Collection[int]) -> float:
    """Return the accuracy over the samples of `classes` when only these may be answered; NaN when they have none.

    For unseen classes it says what is known of them, whatever the bias towards the classes that were seen. Chance
    is 1/len(classes) where all are equally frequent.
    """
    indices = _indices(logits, classes)
    kept = torch.isin(labels, indices)
    return _mean(_beats_others(_only(logits, indices)[kept], labels[kept]))


def corrected_accuracy(logits: Logits, labels: Labels, seen_classes: Collection[int], prior: float) -> float:
    """Return the accuracy over all samples once `prior_bias` is added to the logits of all seen classes.

    So round(n · prior) samples are answered by a seen class; NaN without samples. Hinton et al. chose the number
    (−7.6) by the errors on the test set.

    Args:
        logits: logits of all classes.
        labels: labels of the samples.
        seen_classes: classes that the student was trained on; not all.
        prior: share of all seen classes together, in the data before any class was left out.

    Raises:
        ValueError: `seen_classes` has all classes.
    """
    seen = _indices(logits, seen_classes)
    unseen = _rest(logits, seen)
    if not len(unseen):
        expected = f"fewer than all {logits.shape[1]} classes"
        raise ValueError(f"seen_classes = {sorted(seen_classes)}: expected {expected}. Leave out those never seen.")
    margin = class_margin(logits, seen_classes)
    answers_seen = margin + prior_bias(margin, prior) > 0
    allowed = torch.where(answers_seen.unsqueeze(1), _only(logits, seen), _only(logits, unseen))
    return _mean(_beats_others(allowed, labels))


def prior_bias(margin: Float[Tensor, " n"], prior: float) -> float:
    """Return the number that, added to n margins, makes round(n · prior) of them positive, without labels; a margin
    is the largest logit of some classes minus the largest other logit.

    The number lies midway between the margins of the last sample in and the first one out, or one logit beyond the
    outermost margin when all samples or none are to be in. When those two margins are equal, all samples of that
    margin stay out. NaN without samples. n · prior is rounded half to even.
    """
    if not 0 <= prior <= 1:
        raise ValueError(f"prior = {prior:g}: expected a share in [0, 1]. Give the share of the class.")
    needed = (-margin).sort().values
    n = needed.shape[0]
    if n == 0:
        return math.nan
    wanted = round(n * prior)
    if wanted == 0:
        return needed[0].item() - 1
    if wanted == n:
        return needed[-1].item() + 1
    return (needed[wanted - 1].item() + needed[wanted].item()) / 2


def class_margin(logits: Logits, classes: Collection[int]) -> Float[Tensor, " n"]:
    """Return the largest logit of `classes` minus the largest other logit, for each sample."""
    indices = _indices(logits, classes)
    return _only(logits, indices).amax(dim=1) - _only(logits, _rest(logits, indices)).amax(dim=1)


def _only(logits: Logits, indices: Int[Tensor, " c"]) -> Float[Tensor, "n k"]:
    """Return the logits of the given classes, with minus infinity for all others."""
    z = logits.detach().double()
    return torch.full_like(z, -math.inf).index_copy(1, indices, z[:, indices])


def _indices(logits: Logits, classes: Collection[int]) -> Int[Tensor, " c"]:
    k = logits.shape[1]
    if not classes or len(set(classes)) < len(classes) or not all(0 <= cls < k for cls in classes):
        expected = f"different numbers from 0 to {k - 1}"
        raise ValueError(f"classes = {sorted(classes)}: expected {expected}. Name one class at least.")
    return torch.tensor(sorted(classes), device=logits.device)


def _rest(logits: Logits, indices: Int[Tensor, " c"]) -> Int[Tensor, " r"]:
    every = torch.arange(logits.shape[1], device=logits.device)
    return every[~torch.isin(every, indices)]


def _beats_others(logits: Logits, labels: Labels) -> Bool[Tensor, " n"]:
    """Tell for each sample whether the label's logit is above all others."""
    own = labels.unsqueeze(1)
    others = logits.detach().double().scatter(1, own, -math.inf)
    return logits.double().gather(1, own).squeeze(1) > others.amax(dim=1)


def _mean(right: Bool[Tensor, " n"]) -> float:
    return right.double().mean().item()
