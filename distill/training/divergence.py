"""Find out at which step a loss or a weight stopped being finite, and why.

The step is looked for after the fact, so that no step waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from distill.config import StudentConfig, TeacherConfig
from distill.errors import Diverged

if TYPE_CHECKING:
    from torch import Tensor

    from distill.losses import FromTeacher, Terms
    from distill.training.step import TaughtBatch

_EXPLOSION = 10.0
"""Factor by which a loss must have grown before its growth is named as a cause."""


class LossHistory:
    """Keep the losses of all steps since the last check on the device, to be read only if the next check fails."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[Terms]]] = []

    def add(self, step: int, terms: Sequence[Terms]) -> None:
        """Note the loss terms of a step, or of each micro-batch of the step, without waiting for the device."""
        self._steps.append((step, list(terms)))

    def clear(self) -> None:
        """Forget all losses so far, since everything is finite."""
        self._steps.clear()

    def first_not_finite(self) -> NotFinite:
        """Return the step at which a loss or a weight stopped being finite."""
        return NotFinite([(step, _summed(pieces)) for step, pieces in self._steps])


def weights_are_finite(model: nn.Module) -> bool:
    """Return whether all weights are finite."""
    # The loss does not tell, since it is computed with the weights before the update.
    return bool(torch.stack([torch.isfinite(weight).all() for weight in model.parameters()]).all())


class NotFinite:
    """Describe the first step whose loss was not finite, or whose update made weights that are not finite.

    Attributes:
        before: earlier steps since the last check, each with its loss terms.
        step: number of the first step whose loss was not finite; of the last step if all losses were finite.
        terms: loss terms of this step, name → value.
        loss: total loss of this step.
        weights_only: whether the loss of every step was finite.
    """

    def __init__(self, steps: Sequence[tuple[int, dict[str, float]]]):
        wrong = (at for at, (_, terms) in enumerate(steps) if not _finite(terms["total"]))
        at = next(wrong, len(steps) - 1)
        self.before, (self.step, self.terms) = steps[:at], steps[at]
        self.loss = self.terms["total"]
        self.weights_only = _finite(self.loss)

    def error(
        self, config: TeacherConfig | StudentConfig, lr: float, scale: float, batches: Iterable[TaughtBatch]
    ) -> Diverged:
        """Return the error that says what was not finite, the likely cause and the way out.

        Args:
            config: config of the training.
            lr: learning rate now.
            scale: scale of the loss for float16; else 1.
            batches: batches of the step, made again.
        """
        loss = float("nan") if self.weights_only else self.loss
        return Diverged(self.step, lr, loss, " ".join(self._causes(config, lr, scale, batches)))

    def _causes(
        self, config: TeacherConfig | StudentConfig, lr: float, scale: float, batches: Iterable[TaughtBatch]
    ) -> Iterator[str]:
        """Yield sentences about the causes of the divergence, from certain causes to likely ones."""
        for batch in batches:
            if not torch.isfinite(batch.images).all():
                yield "Its images hold values that are not finite: look at the data or the view program."
                return
            if not all((tensor < torch.inf).all() for tensor in _tensors(batch.teacher)):
                yield "The teacher's logits for its samples are not finite: look at the cache (distill verify)."
                return
        if self.weights_only:
            yield f"The loss was still {self.loss:.3g}, but its update left weights that are not finite."
        elif risen := self._risen():
            yield risen
        if config.precision == "float16":
            yield (
                f"float16 ends at 65504 (the loss scale has come to {scale:g}): `precision=bfloat16` or "
                "`precision=float32` has the range."
            )
        hard, soft = self.terms.get("hard"), self.terms.get("soft")
        if isinstance(config, StudentConfig) and soft is not None:
            if hard is not None and _finite(hard) and not _finite(soft):
                yield "Only its soft term is not finite."
            if config.loss.equivalent_smoothing is None:
                weight = config.loss.temperature**2 * config.loss.alpha
                yield f"The soft term grows as T² × alpha, here {weight:.3g}: lower `loss.temperature`."
            else:
                yield "The soft term grows as T² × alpha: lower `loss.equivalent_smoothing`."
        peak = config.optim.lr
        slow = "" if config.schedule.warmup_epochs else ", add `schedule.warmup_epochs`"
        clip = "set" if config.optim.clip is None else f"lower ({config.optim.clip:g} now)"
        yield f"Lower `optim.lr` (its peak is {peak:g}){slow} or {clip} `optim.clip`."

    def _risen(self) -> str:
        """Return a sentence on how the loss rose before this step, or "" if it did not rise."""
        losses = [(step, terms["total"]) for step, terms in self.before]
        if not losses:
            return ""
        start = len(losses) - 1
        for at, ((_, earlier), (_, later)) in reversed(list(enumerate(pairwise(losses)))):
            if later <= earlier:
                break
            start = at
        (first, low), (last, high) = losses[start], losses[-1]
        if high < _EXPLOSION * abs(low):
            return ""
        return f"The loss rose from {low:.3g} (step {first}) to {high:.3g} (step {last}): the gradient exploded."


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _summed(pieces: Sequence[Terms]) -> dict[str, float]:
    """Return the loss terms of a whole step as sums over its micro-batches."""
    return {
        name: sum(float(value) for value in values)
        for name, values in zip(pieces[0]._fields, zip(*pieces, strict=True), strict=True)
        if values[0] is not None
    }


def _tensors(teacher: FromTeacher | None) -> tuple[Tensor, ...]:
    """Return the teacher's tensors of a batch: its logits, or the soft targets and their logarithms."""
    if teacher is None:
        return ()
    return teacher if isinstance(teacher, tuple) else (teacher,)
