"""Compute batch norm under torchrun, whether ranks split each micro-batch or have micro-batches of their own.

A context takes the place of torch's `SyncBatchNorm`, and networks are left as they are. `SyncBatchNorm` would have
to replace every batch norm, drops what subclasses of batch norm add (timm's activations), and does not work on
CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from distill.data.batch_share import BatchShare
from distill.system import ranks

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm


class SharedBatchNorm(TorchFunctionMode):
    """Take the statistics of batch norm over all ranks, for training inside the block.

    On GPUs it uses the function inside torch's `SyncBatchNorm`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return over_ranks(*args, **kwargs) if func is F.batch_norm else func(*args, **kwargs)


def over_ranks(
    input: Float[Tensor, "n c *s"],
    running_mean: Float[Tensor, " c"] | None,
    running_var: Float[Tensor, " c"] | None,
    weight: Float[Tensor, " c"] | None = None,
    bias: Float[Tensor, " c"] | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Float[Tensor, "n c *s"]:
    """Compute `F.batch_norm` of the batch that all ranks form together; each rank has equally many samples."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.device.type == "cuda":
        from torch import distributed
        from torch.nn.modules._functions import SyncBatchNorm

        ranks.join()
        group = distributed.group.WORLD
        return SyncBatchNorm.apply(
            input, weight, bias, running_mean, running_var, eps, momentum, group, ranks.world()
        )
    x = input.float()
    others = [0, *range(2, x.ndim)]
    mean = _Mean.apply(x.mean(others))
    centred = x - mean.view(-1, *[1] * (x.ndim - 2))
    var = _Mean.apply(centred.square().mean(others))
    if running_mean is not None and running_var is not None:
        count = ranks.world() * x.numel() // x.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var * (count / (count - 1)), momentum)
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
    out = centred * scale.view(-1, *[1] * (x.ndim - 2))
    if bias is not None:
        out = out + bias.view(-1, *[1] * (x.ndim - 2))
    return out.to(input.dtype)


class _Mean(torch.autograd.Function):
    """Average a tensor over the ranks, in a way that autograd can follow."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _mean(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Each rank minimises its own loss, so the gradient is a mean over the ranks too.
        return _mean(gradients[0])


def _mean(value: Tensor) -> Tensor:
    value = value / ranks.world()
    ranks.reduce_sum(value)
    return value


class RunningStatistics:
    """Keep the running mean and variance that one process would have, though each rank has its own micro-batches.

    One process updates a statistic r by each part in turn, r ← (1 - m) r + m s, with momentum m and the statistic s
    of the part. The update is affine in r, so the results of all ranks from the same initial r determine the
    result of all parts together.

    Args:
        model: network with the batch norms; those with a cumulative average (momentum None) are averaged.
        share: of this rank in each batch.
    """

    def __init__(self, model: nn.Module, share: BatchShare):
        norms = [part for part in model.modules() if isinstance(part, _NORMS) and part.running_mean is not None]
        self._share = share
        self._buffers: list[Tensor] = [
            buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None
        ]
        self._counts: list[Tensor] = [
            norm.num_batches_tracked
            for norm in norms
            if norm.num_batches_tracked is not None and norm.momentum is not None
        ]
        if not self._buffers:
            return
        steps, world, rank = share.pieces, share.world, share.rank
        # `kept` is what is left of r after the parts of one rank.
        kept = [1.0 if norm.momentum is None else (1 - norm.momentum) ** steps for norm in norms for _ in range(2)]
        # The parts of rank 0 come first, so the parts of later ranks fade them.
        own = [1 / world if a == 1 else a ** (world - 1 - rank) for a in kept]
        old = [0.0 if a == 1 else a**world / world - a * a ** (world - 1 - rank) for a in kept]
        sizes = torch.tensor([buffer.numel() for buffer in self._buffers])
        self._own, self._old = (
            torch.tensor(weights, dtype=torch.float64).repeat_interleave(sizes).float().to(self._buffers[0].device)
            for weights in (own, old)
        )
        self._before = self._flat()

    @torch.no_grad()
    def merge(self) -> None:
        """Merge all ranks' statistics after the micro-batches of a step, so that all ranks have equal ones."""
        if not self._buffers:
            return
        merged = self._flat() * self._own + self._before * self._old
        ranks.reduce_sum(merged)
        sizes = [buffer.numel() for buffer in self._buffers]
        parts = [part.view_as(like) for part, like in zip(merged.split(sizes), self._buffers, strict=True)]
        torch._foreach_copy_(self._buffers, parts)  # pyright: ignore[reportPrivateImportUsage]
        new = self._share.parts - self._share.pieces
        if self._counts:
            torch._foreach_add_(self._counts, new)  # pyright: ignore[reportPrivateImportUsage]
        self._before = merged

    def _flat(self) -> Float[Tensor, " b"]:
        return torch.cat([buffer.reshape(-1) for buffer in self._buffers])
