"""Encode a row of logits for the disk: all of them, or the largest k and the log-sum-exp of the rest.

A row of `top_k` holds ids, logits and the log-sum-exp of the K - k missing logits, in 4 + 4k bytes (float16, up to
65,536 classes). At T = 1 the mass of every kept class and of the tail is exact. Other temperatures need each
missing logit, but only their log-sum-exp is known: the missing logits are taken as equal, and not larger than the
smallest kept logit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from distill.config import LogitType
from distill.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int64
    from torch import Tensor

TEMPERATURES = (1.0, 4.0, 16.0)
"""Temperatures at which the distance between the stored and the exact distribution is measured."""


@dataclass(frozen=True)
class Encoding:
    """The form in which a row of logits is stored.

    Attributes:
        classes: number of classes K.
        dtype: type of a stored logit.
        top_k: number of logits that are kept; None keeps all.
    """

    classes: int
    dtype: LogitType = "float16"
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k > self.classes:
            expected = f"at most the {self.classes} classes"
            raise UserError("top_k", self.top_k, expected, "Lower `top_k`, or drop it to store all of them.")

    @property
    def row(self) -> np.dtype[Any]:
        """The numpy type of one row. It is little-endian, so that a file reads the same everywhere."""
        logit = np.dtype(self.dtype).newbyteorder("<")
        if self.top_k is None:
            return np.dtype((logit, (self.classes,)))
        number = "<u2" if self.classes <= 1 << 16 else "<u4"
        return np.dtype([("ids", number, (self.top_k,)), ("logits", logit, (self.top_k,)), ("tail", "<f4")])

    @property
    def bytes_per_row(self) -> int:
        """The bytes of one row: one view of one sample."""
        return self.row.itemsize

    def encode(self, logits: Float32[Tensor, "n k"]) -> tuple[np.ndarray, float]:
        """Encode logits as rows in their stored form, and return the rows with their `rounding_error`.

        Raises:
            UserError: a logit is not finite, or does not fit the dtype.
        """
        dtype = getattr(torch, self.dtype)
        if self.top_k is None:
            rows = logits.to(dtype).numpy()
        else:
            kept, ids = logits.topk(self.top_k, dim=1)
            rows = np.empty(len(logits), self.row)
            rows["ids"], rows["logits"] = ids.numpy(), kept.to(dtype).numpy()
            rows["tail"] = logits.double().scatter(1, ids, -math.inf).logsumexp(1).numpy()
        # torch does not warn where a number does not fit the dtype. A logit that is not finite makes the error inf
        # or nan; `isfinite` of float16 would take three times as long.
        error = self.rounding_error(logits, rows)
        has_tail = self.top_k not in (None, self.classes)
        if not math.isfinite(error) or (has_tail and not np.isfinite(rows["tail"]).all()):
            way_out = "Set `dtype=float32`, or look at the teacher: it may have diverged."
            raise UserError("dtype", self.dtype, "a type that holds the teacher's logits", way_out)
        return rows, error

    def decode(self, rows: np.ndarray) -> Float[Tensor, "n k"]:
        """Decode stored rows to logits, in the stored dtype if all logits are kept, else in float32."""
        if self.top_k is None:
            return torch.from_numpy(rows)
        tail = torch.from_numpy(rows["tail"].astype(np.float32))
        return spread_tail(*_ids_and_kept(rows), tail, self.classes)

    def rounding_error(self, logits: Float32[Tensor, "n k"], rows: np.ndarray) -> float:
        """Return the largest difference between a stored logit and the exact one."""
        if self.top_k is None:
            return float((torch.from_numpy(rows).float() - logits).abs().max())
        ids, kept = _ids_and_kept(rows)
        return float((kept - logits.gather(1, ids)).abs().max())


def _ids_and_kept(rows: np.ndarray) -> tuple[Int64[Tensor, "n k"], Float32[Tensor, "n k"]]:
    return torch.from_numpy(rows["ids"].astype(np.int64)), torch.from_numpy(rows["logits"].astype(np.float32))


def spread_tail(
    ids: Int64[Tensor, "n top"],
    kept: Float32[Tensor, "n top"],
    tail: Float32[Tensor, " n"],
    classes: int,
    below: float = 0.0,
) -> Float32[Tensor, "n k"]:
    """Return the logits of all classes from the largest ones; the missing classes share the tail equally.

    Args:
        ids: class numbers of the largest logits.
        kept: largest logits.
        tail: log-sum-exp of all other logits.
        classes: number of classes K.
        below: smallest distance of a missing logit below the smallest kept one.
    """
    missing = classes - ids.shape[1]
    if not missing:
        return torch.empty(len(ids), classes).scatter_(1, ids, kept)
    # Rounding may lift the mean of the tail above the smallest kept logit, but no missing logit exceeds it.
    each = torch.minimum(tail - math.log(missing), kept.amin(1) - below)
    return each.unsqueeze(1).repeat(1, classes).scatter_(1, ids, kept)


def distribution_errors(
    exact: Float32[Tensor, "n k"], stored: Float[Tensor, "n k"], temperatures: tuple[float, ...] = TEMPERATURES
) -> dict[str, float]:
    """Measure the total variation distance ½ Σ|p − q|, 0 to 1, between exact and stored distributions.

    Returns:
        For each temperature that softens both: `tv_T1` (mean over rows) and `tv_max_T1` (largest).
    """
    errors = {}
    for temperature in temperatures:
        p = torch.softmax(exact.double() / temperature, dim=1)
        q = torch.softmax(stored.double() / temperature, dim=1)
        distance = 0.5 * (p - q).abs().sum(1)
        errors[f"tv_T{temperature:g}"] = distance.mean().item()
        errors[f"tv_max_T{temperature:g}"] = distance.max().item()
    return errors
