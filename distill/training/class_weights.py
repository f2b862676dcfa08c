"""Give each class the weight with which its samples count in the hard term of a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from distill.config import LossConfig
from distill.data.sets.dataset import Dataset
from distill.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64
    from torch import Tensor


def class_weights(
    config: LossConfig, dataset: Dataset, subset: Int64[Tensor, " m"] | None = None
) -> Float64[Tensor, " k"] | None:
    """Return the weight of each class, or None where the config asks for none.

    Args:
        config: loss with the weights, or the word "balanced".
        dataset: data set whose training labels are counted.
        subset: samples of the training split that are taught; None means all.

    Raises:
        UserError: there is not one weight per class, or samples have a label per position.
    """
    given = config.class_weights
    if not given:
        return None
    if dataset.label_shape:
        expected = f"none for {dataset.name}, whose samples have a label per position"
        raise UserError("loss.class_weights", given, expected, "Drop `loss.class_weights`.")
    if given == "balanced":
        labels = dataset.train.labels
        return balanced_weights(labels if subset is None else labels[subset], dataset.num_classes)
    if len(given) != dataset.num_classes:
        expected = f"one for each of the {dataset.num_classes} classes: {', '.join(dataset.classes)}"
        raise UserError(
            "loss.class_weights", given, expected, "Give as many, or set `loss.class_weights=balanced`."
        )
    return torch.tensor(given, dtype=torch.float64)


def balanced_weights(labels: Int64[Tensor, " n"], classes: int) -> Float64[Tensor, " k"]:
    """Return weights in inverse proportion to the frequency of each class, with a mean of 1 over the samples.

    They are those of scikit-learn's `compute_class_weight("balanced")`. A class without samples has the weight 1.
    """
    counts = labels.bincount(minlength=classes).double().cpu()
    present = counts > 0
    return torch.where(present, len(labels) / (present.sum() * counts.clamp(min=1)), 1.0)
