"""Draw rows, stratified by class, as a pure function of (labels, share, seed)."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from distill.data.hashing import Stream, counter_hash
from distill.errors import UserError


def stratified_split(
    labels: Int64[Tensor, "n"] | Int64[Tensor, "n t"], share: float, seed: int
) -> tuple[Int64[Tensor, "kept"], Int64[Tensor, "held"]]:
    """Return the rows kept and the rows held out, both ascending: `share` of each class, rounded, is held out.

    A class always keeps at least one row. Samples with a label per position count as one class.
    """
    if labels.ndim > 1:
        labels = labels.new_zeros(len(labels))
    if len(labels) == 0:
        return torch.arange(0), torch.arange(0)
    counts = torch.bincount(labels)
    quota = torch.minimum((counts * share).round().long(), (counts - 1).clamp(min=0))
    by_chance = counter_hash(Stream.SPLIT, seed, 0, torch.arange(len(labels))).argsort(stable=True)
    order = by_chance[labels[by_chance].argsort(stable=True)]
    first_of_class = counts.cumsum(0) - counts
    rank = torch.arange(len(labels)) - first_of_class[labels[order]]
    is_held = torch.empty(len(labels), dtype=torch.bool)
    is_held[order] = rank < quota[labels[order]]
    return (~is_held).nonzero().squeeze(1), is_held.nonzero().squeeze(1)


def limited_rows(labels: Int64[Tensor, "n"], limit: int | None, seed: int) -> Int64[Tensor, "m"]:
    """Draw about `limit` rows of the training split, an equal share of each class, in order; None takes all.

    Raises:
        UserError: there are fewer rows than the limit, or the limit leaves none.
    """
    if limit is None or limit == len(labels):
        return torch.arange(len(labels))
    if limit > len(labels):
        raise UserError("data.limit", limit, f"at most the {len(labels)} training images", "Lower `data.limit`.")
    _, drawn = stratified_split(labels, limit / len(labels), seed)
    if not len(drawn):
        raise UserError("data.limit", limit, "enough for an image of one class at least", "Raise `data.limit`.")
    return drawn
