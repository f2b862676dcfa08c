"""Take one step of gradient descent on a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from distill.data.loader import Batch
from distill.losses import FromTeacher, Loss
from distill.training.recent_samples import StepPart
from distill.training.state import Run

TaughtBatch = Batch[FromTeacher | None]
"""A batch with what the loss takes from the teacher; None without a teacher."""
Forward = Callable[[Tensor], Tensor]
"""A function from inputs to logits: the network itself, compiled by `torch.compile`, or wrapped for torchrun."""
Step = Callable[[Forward, Iterator[TaughtBatch], Loss], Sequence[StepPart]]
"""A function that takes one step on the parts of a batch that this rank computes, and returns a result per part."""


def take_step(run: Run, forward: Forward, batches: Iterator[TaughtBatch], loss: Loss) -> Sequence[StepPart]:
    """Take one step on the next batch, without waiting for the device."""
    batch = next(batches)
    with run.autocast():
        logits = forward(batch.images)
    terms = loss(logits, batch.labels, batch.teacher, run.progress)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(terms.total).backward()
    run.clip_gradients()
    run.update()
    return [StepPart(logits.detach(), batch.labels, terms.map(Tensor.detach))]
