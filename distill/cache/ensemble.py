"""Combine the logits of several networks into one answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from distill.config import Mean


def averaged(logits: Sequence[Float[Tensor, "b k"]], mean: Mean) -> Float[Tensor, "b k"]:
    """Average the logits of several networks for the same samples; one network's logits stay as they are.

    A mean of probabilities is returned as its logarithm.
    """
    if len(logits) == 1:
        return logits[0]
    # log_softmax subtracts one number from each row. Softmax ignores such a shift, so the mean has the right
    # distribution, and a network whose rows have a large offset does not cost the others precision.
    logs = torch.stack([each.log_softmax(1) for each in logits])
    return logs.logsumexp(0) - math.log(len(logits)) if mean == "probabilities" else logs.mean(0)
