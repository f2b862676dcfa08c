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
    from jaxtyping import Float, Float32
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
            raise UserError("top_k", self.top_k, expected, "Lower --top-k, or drop it to store all of them.")

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

    def encode(self, logits: Float32[Tensor, "n k"]) -> np.ndarray:
        """Encode logits as rows in their stored form.

        Raises:
            UserError: a logit is not finite, or does not fit the dtype.
        """
        return self.encode_and_measure(logits)[0]

    def encode_and_measure(self, logits: Float32[Tensor, "n k"]) -> tuple[np.ndarray, float]:
        """Encode logits as rows in their stored form, and return the rows with their `rounding_error`.

        Raises:
            UserError: a logit is not finite, or does not fit the dtype.
        """
        if self.top_k is None:
            stored = self._stored(logits)
            rows = stored.numpy()
        else:
            kept, ids = logits.topk(self.top_k, dim=1)
            stored = self._stored(kept)
            missing = logits.double().scatter(1, ids, -math.inf)
            rows = np.empty(len(logits), self.row)
            rows["ids"], rows["logits"] = ids.numpy(), stored.numpy()
            rows["tail"] = missing.logsumexp(1).numpy()
        # A logit that is not finite makes the error inf or nan; `isfinite` of float16 takes three times as long.
        error = self.rounding_error(logits, rows)
        if not math.isfinite(error) or not self._has_tail(rows):
            raise UserError(
                "dtype",
                self.dtype,
                "a type that holds the teacher's logits",
                "Set --dtype float32, or look at the teacher: it may have diverged.",
            )
        return rows, error

    def _has_tail(self, rows: np.ndarray) -> bool:
        return self.top_k in (None, self.classes) or bool(np.isfinite(rows["tail"]).all())

    def _stored(self, logits: Float32[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        # torch gives no warning where a number does not fit the dtype.
        return logits.to(getattr(torch, self.dtype))

    def decode(self, rows: np.ndarray) -> Float[Tensor, "n k"]:
        """Decode stored rows to logits, in the stored dtype if all logits are kept, else in float32.

        The tail is spread equally over missing classes.
        """
        if self.top_k is None:
            return torch.from_numpy(rows)
        kept = torch.from_numpy(rows["logits"].astype(np.float32))
        ids = torch.from_numpy(rows["ids"].astype(np.int64))
        missing = self.classes - self.top_k
        if not missing:
            return torch.empty(len(rows), self.classes).scatter_(1, ids, kept)
        each = torch.from_numpy(rows["tail"] - np.float32(math.log(missing)))
        # Rounding may lift the mean of the tail above the smallest kept logit, but no missing logit exceeds it.
        each = torch.minimum(each, kept.amin(1))
        return each.unsqueeze(1).expand(-1, self.classes).scatter(1, ids, kept)

    def rounding_error(self, logits: Float32[Tensor, "n k"], rows: np.ndarray) -> float:
        """Return the largest difference between a stored logit and the exact one."""
        if self.top_k is None:
            return float((torch.from_numpy(rows).float() - logits).abs().max())
        ids = torch.from_numpy(rows["ids"].astype(np.int64))
        kept = torch.from_numpy(rows["logits"].astype(np.float32))
        return float((kept - logits.gather(1, ids)).abs().max())


def distribution_errors(
    exact: Float32[Tensor, "n k"], stored: Float[Tensor, "n k"], temperatures: tuple[float, ...] = TEMPERATURES
) -> dict[str, float]:
    """Measure the total variation distance ½ Σ|p − q|, 0 to 1, between exact and stored distributions.

    Both are softened by each temperature.

    Returns:
        `tv_T1` … (mean over rows) and `tv_max_T1` … (largest).
    """
    found = {}
    for temperature in temperatures:
        p = torch.softmax(exact.double() / temperature, dim=1)
        q = torch.softmax(stored.double() / temperature, dim=1)
        distance = 0.5 * (p - q).abs().sum(1)
        found[f"tv_T{temperature:g}"] = distance.mean().item()
        found[f"tv_max_T{temperature:g}"] = distance.max().item()
    return found
