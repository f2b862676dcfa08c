"""Average rows of numbers over the samples of each class."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from distill.metrics.arrays import Labels


def class_means(rows: Float[Tensor, "n d"], labels: Labels, classes: int | None = None) -> Float[Tensor, "k d"]:
    """Return the mean row of each class, NaN for a class without samples.

    Without `classes`, there are as many classes as the largest label says.
    """
    counts = torch.bincount(labels, minlength=classes or 0)
    return rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, labels, rows) / counts.unsqueeze(1)
