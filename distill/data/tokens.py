"""Refuse views and logit caches for data sets of tokens, which have a label per position.

Tokens are stored as the bytes of an image [1, 2, T]: the source sentence, and what a decoder has read before each
of its T positions. These bytes are names and not brightness, so they are neither normalised nor augmented.
"""

from __future__ import annotations

from distill.config import AugmentConfig, DataConfig
from distill.data.sets.dataset import Dataset
from distill.errors import UserError


def refuse_for_tokens(dataset: Dataset, data: DataConfig, augment: AugmentConfig) -> None:
    """Refuse to augment samples that are tokens, and to draw their classes equally often.

    Raises:
        UserError: the data set has a label per position, and the view program changes its samples, or classes are
            balanced.
    """
    if dataset.label_shape and data.balanced:
        expected = f"false for {dataset.name}, whose samples have a label per position"
        raise UserError("data.balanced", True, expected, "Drop `data.balanced`.")
    if dataset.label_shape and augment != AugmentConfig():
        changed = augment.model_dump(exclude_defaults=True)
        expected = f"none for {dataset.name}, whose samples are tokens with a label per position"
        raise UserError("augment", changed, expected, "Drop the fields of `augment`.")


def refuse_cache(dataset: Dataset) -> None:
    """Refuse to cache logits for samples that are tokens.

    Raises:
        UserError: the data set has a label per position.
    """
    if dataset.label_shape:
        expected = "one label per image; this data set has labels per position"
        way_out = "Cache logits for images, or train students of these samples from labels: `loss.alpha=0`."
        raise UserError("transfer_set", dataset.name, expected, way_out)
