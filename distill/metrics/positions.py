"""Predictions with a label per position, as the flat predictions that every other measure takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def counted(
    logits: Float[Tensor, "n *t k"], labels: Int[Tensor, "n *t"]
) -> tuple[Float[Tensor, "m k"], Int[Tensor, " m"]]:
    """Logits and labels of the positions that count, sample by sample in the order of their positions.

    A position with a negative label does not count. With one label per sample both come back as they are.
    """
    if labels.ndim == 1:
        return logits, labels
    counts = labels >= 0
    return logits[counts], labels[counts]
