"""Turn predictions with a label per position into flat predictions, which all measures take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def counted(
    logits: Float[Tensor, "n *t k"], labels: Int[Tensor, "n *t"]
) -> tuple[Float[Tensor, "m k"], Int[Tensor, " m"]]:
    """Return the logits and labels of positions that are not ignored: a negative label marks an ignored one.

    With one label per sample, logits and labels are returned unchanged.
    """
    if labels.ndim == 1:
        return logits, labels
    counts = labels >= 0
    return logits[counts], labels[counts]
