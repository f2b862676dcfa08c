"""Compute log-likelihood and entropy with a gradient by hand, in fewer passes than autograd makes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_likelihood(
    logits: Float[Tensor, "n k"],
    log_p: Float[Tensor, "n k"],
    targets: Float[Tensor, "n k"] | None,
    confidence_penalty: float = 0.0,
    counts: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Compute Σ targets log p + λ Σ H(p) over all samples that are not ignored; differentiable once.

    The negative of this value is a loss. Per sample the gradient by the logits is targets - p Σ targets - λ p (log
    p + H(p)).

    Args:
        logits: variable of the gradient.
        log_p: log-softmax of the logits.
        targets: targets of each sample, overwritten; zeros where a sample does not count. None stands for zeros.
        confidence_penalty: λ.
        counts: bool [n], which samples the penalty counts; None where all count.
    """
    log_p = log_p.detach()
    value = None if targets is None else torch.dot(targets.flatten(), log_p.flatten())
    if confidence_penalty:
        # The sum of p log p is -H; its derivative by log p is p + p log p.
        p = log_p.exp() if counts is None else log_p.exp().mul_(counts.unsqueeze(1))
        of_entropy = -confidence_penalty * torch.dot(p.flatten(), log_p.flatten())
        value = of_entropy if value is None else value + of_entropy
        slope = torch.addcmul(p, p, log_p).mul_(-confidence_penalty)
        targets = slope if targets is None else targets.add_(slope)
    if value is None or targets is None:
        raise ValueError("targets = None: expected targets, or a confidence penalty above 0.")
    return _WithSlope.apply(logits, log_p, targets, value)


class _WithSlope(torch.autograd.Function):
    """Attach a derivative by log p to a value that was computed without autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        _logits: Float[Tensor, "n k"],
        log_p: Float[Tensor, "n k"],
        slope: Float[Tensor, "n k"],
        value: Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        ctx.save_for_backward(log_p, slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - once_differentiable has another signature
        ctx: Any, *grad_outputs: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "n k"], None, None, None]:
        log_p, slope = ctx.saved_tensors
        # Autograd calls this function for a log-softmax. Applying the factor afterwards, in place, saves a pass.
        gradient = torch._log_softmax_backward_data(  # pyright: ignore[reportPrivateImportUsage]
            slope, log_p, 1, log_p.dtype
        )
        return gradient.mul_(grad_outputs[0]), None, None, None
