"""Look after a training between its steps: stop it if it diverges, and save its state and its snapshots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from distill.system import ranks
from distill.system.interrupts import Interrupts
from distill.training.curve import Curve
from distill.training.divergence import LossHistory, weights_are_finite
from distill.training.kept_weights import save_snapshot, steps_to_keep
from distill.training.recent_samples import RecentSamples, StepPart
from distill.training.state import Run
from distill.training.step import TaughtBatch


class Watch:
    """Take in the result of every step; between steps check, log and save.

    Args:
        run: training to look after.
        recent: samples and losses since the last point of the curve.
        curve: training curve.
        interrupts: signals of the user.
        batches_from: function from (epoch, step within it) to the batches from this step on, to find out why a loss
            was not finite.
        folder: folder of the snapshots.
        seconds: seconds between two resume points.
    """

    def __init__(
        self,
        run: Run,
        recent: RecentSamples,
        curve: Curve,
        interrupts: Interrupts,
        batches_from: Callable[[int, int], Iterator[TaughtBatch]],
        folder: Path,
        seconds: float,
    ):
        self._run, self._recent, self._curve, self._interrupts = run, recent, curve, interrupts
        self._batches_from, self._folder, self._seconds = batches_from, folder, seconds
        self._losses = LossHistory()
        self._kept = set(steps_to_keep(run.config.snapshots, run.total_steps)) if ranks.is_first() else set[int]()

    def start(self) -> None:
        """Save a snapshot of the initial weights, if snapshots are kept."""
        if self._run.step == 0:
            self._keep_snapshot()

    def end_step(self, parts: Sequence[StepPart]) -> None:
        """Take in the results of a step, and save what is due after it."""
        self._recent.add(parts)
        self._losses.add(self._run.step, [part.terms for part in parts])
        self._keep_snapshot()
        self._save_when_due()

    def end_epoch(self, epoch: int) -> None:
        """Check that everything is finite, and log and save what is due after this epoch."""
        self._check_finite()
        self._curve.end_epoch(epoch)
        self._save_when_due(last_of_epoch=True)

    def _keep_snapshot(self) -> None:
        if self._run.step in self._kept:
            save_snapshot(self._run.averaged(), self._run.step, self._folder)

    def _save_when_due(self, last_of_epoch: bool = False) -> None:
        """Write the resume point if it is due or the run is to be interrupted; in the second case end the run.

        Raises:
            KeyboardInterrupt: the run was interrupted and its state is saved.
        """
        is_due = not last_of_epoch and self._run.seconds_since_save() > self._seconds
        if not self._interrupts.should_save(self._run.step, is_due, last_of_epoch):
            return
        self._check_finite()
        self._curve.sync()
        self._run.save(self._recent)
        self._interrupts.raise_signal()

    def _check_finite(self) -> None:
        """Stop the training if a loss or a weight is not finite, with the same error on all ranks.

        Raises:
            Diverged: the loss of a step, or the weights after the step, were not finite.
        """
        run = self._run
        if not self._recent.steps:
            return
        if math.isfinite(self._recent.losses()["total"]) and weights_are_finite(run.model):
            self._losses.clear()
            return
        bad, per_epoch = self._losses.first_not_finite(), run.total_steps // run.config.schedule.epochs
        parts = islice(self._batches_from(*divmod(bad.step - 1, per_epoch)), run.share.pieces)
        error = bad.error(run.config, run.lr, run.scaler.get_scale(), parts)
        # A loss may be finite on this rank and not on another one.
        raise min(ranks.gather((bad.weights_only, bad.step, error)), key=lambda of: of[:2])[2]
