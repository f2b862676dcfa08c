"""Tell whether a network learned anything at all."""

from __future__ import annotations

import torch

from distill.metrics.accuracy import nll
from distill.metrics.arrays import Labels, Logits
from distill.metrics.class_means import class_means


def at_chance(logits: Logits, labels: Labels) -> str | None:
    """Return why a network counts as diverged, or None if it does not.

    A network counts as diverged when a logit is not finite, or when neither its answers nor its probabilities say
    more than the shares of the C classes that occur:

    - its balanced accuracy (mean recall over these classes) is not three standard errors above 1/C, or not halfway
      from 1/C to 1 where few images make these errors large;
    - its NLL is not below the entropy of the shares.

    With no image or one class there is nothing to tell apart, so no network is at chance.
    """
    if not torch.isfinite(logits).all():
        return "logits are not finite"
    counts = labels.bincount()
    counts = counts[counts > 0].double()
    if len(counts) < 2:
        return None
    right = (logits.argmax(1) == labels).double().unsqueeze(1)
    # A class that does not occur has no recall.
    balanced = class_means(right, labels).nanmean().item()
    chance = 1 / len(counts)
    error = (chance * (1 - chance) / counts).sum().sqrt().item() / len(counts)
    bound = chance + min(3 * error, (1 - chance) / 2)
    entropy = torch.special.entr(counts / counts.sum()).sum().item()
    reached = nll(logits, labels)
    # Rounding alone can put the NLL of equal logits a little below the entropy of equal shares.
    if balanced > bound or reached < entropy - 1e-6:
        return None
    return (
        f"accuracy at chance (balanced accuracy {balanced:.3f}, needs more than {bound:.3f}; "
        f"NLL {reached:.3f}, needs less than {entropy:.3f})"
    )
