"""A step of gradient descent, as the textbook has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from distill.data.loader import Batch
from distill.losses import Loss
from distill.training.recent_samples import StepPart
from distill.training.state import Run

Forward = Callable[[Tensor], Tensor]
"""The network, or what `torch.compile` or torchrun made of it."""
Step = Callable[[Forward, Iterator[Batch], Loss], Sequence[StepPart]]
"""Takes one step on a batch, which comes in as many parts as this rank computes, and gives what came of each."""


def take_step(run: Run, forward: Forward, batches: Iterator[Batch], loss: Loss) -> Sequence[StepPart]:
    """Take one step on a whole batch. Nothing here waits for the device."""
    batch = next(batches)
    with run.autocast():
        logits = forward(batch.images)
    terms = loss(logits, batch.labels, batch.teacher, run.progress)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(terms.total).backward()
    run.clip_gradients()
    run.update()
    return [StepPart(logits.detach(), batch.labels, terms.map(Tensor.detach))]
