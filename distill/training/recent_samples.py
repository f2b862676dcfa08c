"""Keep the last training samples and sums of losses, from which a run shows and logs its measures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from distill.losses import Terms
from distill.metrics.positions import counted
from distill.system import ranks

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor
    from tqdm import tqdm

_SHOWN_SECONDS = 0.5
_LABELS = 10_000
"""Number of the last labels over which training measures are taken."""


class StepPart(NamedTuple):
    """Hold the results of a training step on a whole batch, or on one micro-batch of it."""

    logits: Float[Tensor, "b *t k"]
    """Logits of the network, without gradient."""
    labels: Tensor
    """Labels as the loader gave them."""
    terms: Terms
    """Terms of the loss, without gradient; the terms of all pieces add up to the terms of the step."""


class RecentSamples:
    """Keep the last training samples of this rank, and the sums of losses since the last point of the curve.

    Args:
        labels_per_step: labels of all ranks in one step.
        smoothed: whether labels are smoothed, so that the loss says little.
        pieces: pieces of a step on this rank.
    """

    def __init__(self, labels_per_step: int, smoothed: bool, pieces: int = 1):
        self.smoothed, self.pieces = smoothed, pieces
        kept = max(1, _LABELS // labels_per_step) * pieces
        self.logits: deque[Tensor] = deque(maxlen=kept)
        self.labels: deque[Tensor] = deque(maxlen=kept)
        self.shown_at = time.monotonic()
        self.clear()

    def clear(self) -> None:
        """Drop all samples and losses, to begin a new point of the curve."""
        self.logits.clear()
        self.labels.clear()
        self.sums: dict[str, Tensor] = {}
        self.steps, self.samples, self.started = 0, 0, time.perf_counter()

    def add(self, pieces: Sequence[StepPart]) -> None:
        """Add the results of one training step, one `StepPart` for each micro-batch of this rank."""
        for logits, labels, terms in pieces:
            self.logits.append(logits)
            # The class of a mixed view is the one with the largest share.
            self.labels.append(labels.argmax(1) if labels.is_floating_point() else labels)
            for name, value in zip(Terms._fields, terms, strict=True):
                if value is not None:
                    total = self.sums.get(name)
                    self.sums[name] = value if total is None else total + value
            self.samples += len(labels)
        self.steps += 1

    def states(self) -> list[dict[str, Any]]:
        """Return what each rank has measured since the last point, for a resume point; all ranks must call this."""
        logits, labels, sums = [*self.logits], [*self.labels], dict(self.sums)
        counts = {"steps": self.steps, "pieces": self.pieces}
        if ranks.world() == 1:
            return [{"logits": logits, "labels": labels, "sums": sums, **counts}]
        logits, labels = [part.cpu() for part in logits], [part.cpu() for part in labels]
        sums = {name: total.cpu() for name, total in sums.items()}
        return ranks.gather({"logits": logits, "labels": labels, "sums": sums, **counts})

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Restore what `states` returned; if the number of ranks has changed, divide the samples anew."""
        if len(states) == ranks.world():
            own = states[ranks.rank()]
            self.logits.extend(own["logits"])
            self.labels.extend(own["labels"])
            self.sums = own["sums"]
        else:
            self.logits.extend(self._cut_anew([state["logits"] for state in states], states[0]["pieces"]))
            self.labels.extend(self._cut_anew([state["labels"] for state in states], states[0]["pieces"]))
            every = [state["sums"] for state in states]
            self.sums = {name: torch.stack([sums[name] for sums in every]).mean(0) for name in every[0]}
        self.steps = states[0]["steps"]

    def _cut_anew(self, of_ranks: list[list[Tensor]], pieces: int) -> Iterator[Tensor]:
        """Yield this rank's samples of each step, cut anew from those that the interrupted run's ranks saved.

        Args:
            of_ranks: tensors of each rank that wrote the resume point, `pieces` per step.
            pieces: pieces of a step on each of those ranks.
        """
        for step in range(0, len(of_ranks[0]), pieces):
            whole = torch.cat([piece for own in of_ranks for piece in own[step : step + pieces]])
            yield from whole.chunk(ranks.world() * self.pieces)[ranks.rank() * self.pieces :][: self.pieces]

    @property
    def rate(self) -> float:
        """Return the samples per second of all ranks together."""
        return self.samples * ranks.world() / (time.perf_counter() - self.started)

    def losses(self) -> dict[str, float]:
        """Return each loss term's mean over ranks and over steps since the last point; all ranks must call this."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        if ranks.world() > 1:
            means = {name: value / ranks.world() for name, value in means.items()}
            ranks.reduce_sum(*means.values())
        return {name: value.item() for name, value in means.items()}

    def show_when_due(self, bar: tqdm[Any], step: int) -> None:
        """Move the progress bar, and show the loss and the accuracy of this rank's share beside it."""
        # Reading the loss waits for the device, so it is read only where a bar is shown, and twice a second.
        if bar.disable or time.monotonic() - self.shown_at < _SHOWN_SECONDS:
            return
        self.shown_at = time.monotonic()
        logits, labels = counted(self.logits[-1], self.labels[-1])
        accuracy = (logits.argmax(1) == labels).float().mean()
        shown = {"loss": (self.sums["total"] / self.steps).item(), "accuracy": accuracy.item()}
        if self.smoothed:  # the loss of smoothed labels says little: it cannot reach 0
            shown["nll"] = nn.functional.cross_entropy(logits.float(), labels).item()
        bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)
        bar.update(step - bar.n)


def last_samples(states: Sequence[dict[str, Any]]) -> tuple[Float[Tensor, "n k"], Int64[Tensor, " n"]]:
    """Return the logits (float32) and labels of the last samples of all ranks, on the CPU.

    Args:
        states: result of `RecentSamples.states`.
    """
    # On the CPU, since the measures need float64, which mps does not have.
    logits, labels = (
        torch.cat([piece for state in states for piece in state[name]]) for name in ("logits", "labels")
    )
    return counted(logits.float().cpu(), labels.cpu())
