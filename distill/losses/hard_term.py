"""Make the hard term of a loss, which compares predictions with labels at each step of training."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from distill.config import LossConfig, SmoothingConvention
from distill.losses.adaptive import strength
from distill.losses.labels import has_one_smoothing, in_uniform, label_loss
from distill.losses.matrices import Rows, rows_of
from distill.losses.terms import Labels, at_least_float32

HardTerm = Callable[[Tensor, Labels, float], Tensor]
"""A function (logits, labels, progress) → hard term in nats, mean over the batch."""


def hard_term(
    config: LossConfig, matrix: Float[Tensor, "k k"] | None, weights: Float[Tensor, " k"] | None = None
) -> HardTerm:
    """Make the hard term of a config; `matrix` holds smoothed targets, and errors are raised as by `make_loss`."""
    _check_matrix(config, matrix)
    if (weights is None) == bool(config.class_weights):
        raise ValueError("weights: expected one per class where `class_weights` asks for them, and else None.")
    if is_one_cross_entropy(config):
        return _one_cross_entropy(config.smoothing, config.smoothing_convention)
    labels_config, convention = config.labels, config.smoothing_convention
    smoothing = config.smoothing if matrix is None else 0.0

    @lru_cache(maxsize=4)
    def rows(dtype: torch.dtype, device: torch.device) -> Rows | None:
        return None if matrix is None else rows_of(matrix, torch.empty(0, dtype=dtype, device=device))

    @lru_cache(maxsize=4)
    def weight(dtype: torch.dtype, device: torch.device) -> Tensor | None:
        return None if weights is None else weights.to(dtype).to(device)  # mps has no float64

    def term(logits: Tensor, labels: Labels, progress: float) -> Tensor:
        z = at_least_float32(logits)
        return label_loss(
            z,
            labels,
            smoothing,
            convention,
            matrix=rows(z.dtype, z.device),
            factor=strength(labels_config, progress),
            by_sample=labels_config.by_sample,
            confidence_penalty=labels_config.confidence_penalty,
            weights=weight(z.dtype, z.device),
        )

    return term


def is_one_cross_entropy(config: LossConfig) -> bool:
    """Tell whether the hard term is a cross-entropy with one smoothing, for which there are faster paths."""
    return has_one_smoothing(config) and config.smoothing_convention != "maxsup"


def _one_cross_entropy(smoothing: float, convention: SmoothingConvention) -> HardTerm:
    def term(logits: Tensor, labels: Labels, progress: float) -> Tensor:
        if labels.ndim > 1:
            return label_loss(logits, labels, smoothing, convention)
        # This gives the value of `label_loss` a few microseconds sooner, which is as much as a smoothed loss may
        # cost more than torch's own.
        z = at_least_float32(logits)
        return F.cross_entropy(z, labels, label_smoothing=in_uniform(smoothing, convention, z.shape[1]))

    return term


def _check_matrix(config: LossConfig, matrix: Float[Tensor, "k k"] | None) -> None:
    needs_matrix = bool(config.labels.per_class) or config.labels.towards != "all"
    if matrix is None:
        if needs_matrix:
            raise ValueError("matrix = None: expected targets [k, k], which labels.per_class and towards ask for.")
        return
    if not needs_matrix:
        raise ValueError("matrix given: expected None, since one smoothing is for all classes.")
    is_square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not is_square or not (matrix >= 0).all() or not ((matrix.double().sum(1) - 1).abs() < 1e-5).all():
        raise ValueError("matrix: expected one row per class, non-negative, that sums to 1 (matrices.smoothed).")
