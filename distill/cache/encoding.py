"""Encode a row of logits for the disk: all of them, or the largest k and the log-sum-exp of the rest.

A float16 row is stored without its mean, which is kept beside it in float32: a common offset of all logits, which
says nothing about the classes, would otherwise cost the precision of their differences.

A row of `top_k` holds ids, logits and the log-sum-exp of the K - k missing logits, in 8 + 4k bytes (float16,
up to 65,536 classes). At T = 1 the mass of every kept class and of the tail is exact. Other temperatures need each
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
_AGREEMENT = 1e-2
"""Largest difference between stored and new logits, relative to the largest distance of a logit from the mean.

It leaves room for rounding to float16 and for another batch on a GPU.
"""
_FINE = 2**-6
"""Rounding error of logits up to which no distribution can be far off: the distance is at most half of it."""
_FAR = 1e-2
"""Largest total variation distance between a stored distribution and the exact one."""


@dataclass(frozen=True)
class Encoding:
    """Describe the form in which a row of logits is stored.

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
        """Return the numpy type of one row; it is little-endian, so that a file reads alike on every machine."""
        logit = np.dtype(self.dtype).newbyteorder("<")
        mean = [("mean", "<f4")] if self.dtype == "float16" else []
        if self.top_k is None:
            return np.dtype([*mean, ("logits", logit, (self.classes,))])
        number = "<u2" if self.classes <= 1 << 16 else "<u4"
        return np.dtype([*mean, ("ids", number, (self.top_k,)), ("logits", logit, (self.top_k,)), ("tail", "<f4")])

    @property
    def bytes_per_row(self) -> int:
        """Return the bytes of one row, which holds one view of one sample."""
        return self.row.itemsize

    def encode(self, logits: Float32[Tensor, "n k"]) -> tuple[np.ndarray, float]:
        """Encode logits as rows in their stored form, and return the rows with their `rounding_error`.

        Raises:
            UserError: a logit is not finite, or the dtype changes the distributions.
        """
        rows, kept = np.empty(len(logits), self.row), logits
        if self.top_k is not None:
            kept, ids = logits.topk(self.top_k, dim=1)
            rows["ids"] = ids.numpy()
            rows["tail"] = logits.double().scatter(1, ids, -math.inf).logsumexp(1).numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            values = kept.numpy()
            if "mean" in self._fields:
                # numpy's mean of a row does not depend on other rows, so a row has the same bytes in any batch.
                rows["mean"] = logits.numpy().mean(1, dtype=np.float64)
                values = values - rows["mean"][:, None]
            rows["logits"] = values
            error = self.rounding_error(logits, rows)
        has_tail = self.top_k not in (None, self.classes)
        is_finite = math.isfinite(error) and (not has_tail or bool(np.isfinite(rows["tail"]).all()))
        if not is_finite or (error > _FINE and self._distance(logits, rows) > _FAR):
            way_out = "Set `dtype=float32`, or look at the teacher: it may have diverged."
            raise UserError("dtype", self.dtype, "a type that holds the teacher's logits", way_out)
        return rows, error

    def decode(self, rows: np.ndarray) -> Float32[Tensor, "n k"]:
        """Decode stored rows to logits."""
        kept = self._kept(rows)
        if self.top_k is None:
            return kept
        tail = torch.from_numpy(rows["tail"].astype(np.float32))
        return spread_tail(_ids(rows), kept, tail, self.classes)

    def rounding_error(self, logits: Float32[Tensor, "n k"], rows: np.ndarray) -> float:
        """Return the largest difference between a stored logit and the exact one."""
        exact = logits if self.top_k is None else logits.gather(1, _ids(rows))
        return float((self._kept(rows) - exact).abs().max())

    def agrees(self, logits: Float32[Tensor, "n k"], rows: np.ndarray) -> bool:
        """Tell whether stored rows are these logits, apart from rounding."""
        scale = float((logits - logits.mean(1, keepdim=True)).abs().max())
        return self.rounding_error(logits, rows) <= _AGREEMENT * (scale or 1.0)

    @property
    def _fields(self) -> tuple[str, ...]:
        return self.row.names or ()

    def _kept(self, rows: np.ndarray) -> Float32[Tensor, "n kept"]:
        """Return the stored logits in float32, plus each sample's mean logit where `encode` has subtracted it."""
        kept = rows["logits"].astype(np.float32)
        if "mean" in self._fields:
            kept += rows["mean"][:, None]
        return torch.from_numpy(kept)

    def _distance(self, logits: Float32[Tensor, "n k"], rows: np.ndarray) -> float:
        """Return the largest total variation distance between exact and stored distributions, due to rounding."""
        exact, stored = logits, self._kept(rows)
        if self.top_k is not None:
            tail = torch.from_numpy(rows["tail"].astype(np.float32))[:, None]
            exact, stored = torch.cat([logits.gather(1, _ids(rows)), tail], 1), torch.cat([stored, tail], 1)
        return distribution_errors(exact, stored, (1.0,))["tv_max_T1"]


def _ids(rows: np.ndarray) -> Int64[Tensor, "n kept"]:
    return torch.from_numpy(rows["ids"].astype(np.int64))


def spread_tail(
    ids: Int64[Tensor, "n top"],
    kept: Float32[Tensor, "n top"],
    tail: Float32[Tensor, " n"],
    classes: int,
    below: float = 0.0,
) -> Float32[Tensor, "n k"]:
    """Fill in the logits of the classes that were not stored: all equal, they share the remaining probability.

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
