"""What a student knows of a class that it has never seen (Hinton et al. 2015, section 3).

One margin decides everything: a sample's logit of the class minus its largest other logit. A sample is
predicted as the class when the margin is above 0; a tie is not.
"""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor


def recall(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], cls: int) -> float:
    """Share of the samples of class `cls` that are predicted as it; NaN when there are none."""
    return _recall(_margin(logits, cls), labels == cls)


def prior_bias(logits: Float[Tensor, "n k"], cls: int, prior: float) -> float:
    """The scalar to add to logit `cls` so that it is predicted as often as `prior` says; no labels are used.

    round(n · prior) samples (half to even) are predicted as the class: the scalar lies midway between the
    margins of the last one in and the first one out, or one logit beyond the outermost margin when all or
    none are to be in. When those two margins are equal, all samples of that margin stay out.

    Raises:
        ValueError: prior is not in [0, 1].
    """
    if not 0 <= prior <= 1:
        raise ValueError(f"prior = {prior:g}: expected a share in [0, 1]. Give the share of the class.")
    needed = (-_margin(logits, cls)).sort().values
    n = needed.shape[0]
    wanted = round(n * prior)
    if wanted == 0:
        return needed[0].item() - 1
    if wanted == n:
        return needed[-1].item() + 1
    return (needed[wanted - 1].item() + needed[wanted].item()) / 2


def corrected_recall(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], cls: int, prior: float) -> float:
    """Recall of class `cls` once `prior_bias` is added to its logit; NaN when it has no samples."""
    return _recall(_margin(logits, cls) + prior_bias(logits, cls, prior), labels == cls)


def margin_auc(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], cls: int) -> float:
    """Area under the ROC curve of the margin, for class `cls` against the rest; ties count half.

    NaN when all samples are of the class, or none is.
    """
    positive = (labels == cls).cpu().numpy()
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives:
        return math.nan
    ranks = rankdata(_margin(logits, cls).cpu().numpy())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _margin(logits: Float[Tensor, "n k"], cls: int) -> Float[Tensor, " n"]:
    z = logits.detach().double()
    others = z.clone()
    others[:, cls] = -math.inf
    return z[:, cls] - others.amax(dim=1)


def _recall(margin: Float[Tensor, " n"], positive: Tensor) -> float:
    return (margin[positive] > 0).double().mean().item()
