"""Run the training loop of teachers and students, which can be interrupted at any moment and resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from distill.config import StudentConfig, TeacherConfig
from distill.data.loader import Batch, Join, Loader
from distill.errors import Diverged
from distill.losses import Loss
from distill.metrics.monitor import training_measures
from distill.metrics.smoothing_warnings import Notice, has_ceiling, no_effect, strongest
from distill.store.record import RESUME
from distill.system import ranks
from distill.system.interrupts import Interrupts
from distill.system.progress import bar as progress_bar
from distill.system.runtime import Runtime
from distill.training.ceiling import confidence_ceiling
from distill.training.divergence import Trail, weights_are_finite
from distill.training.kept_weights import save_snapshot, steps_to_keep
from distill.training.recent_samples import RecentSamples, StepPart, last_samples
from distill.training.state import Run
from distill.training.step import Step, take_step
from distill.training.step_distributed import StepInParts
from distill.training.tracking import MetricWriter, read_metrics

if TYPE_CHECKING:
    from tqdm import tqdm

Evaluate = Callable[[nn.Module], dict[str, float]]
"""A function from a model to its measures on held-out data."""
_POINTS = 20  # few enough for readable curves and cheap logging
"""Number of times that a run is measured, approximately, whatever its length."""


def fit(
    model: nn.Module,
    loader: Loader,
    loss: Loss,
    config: TeacherConfig | StudentConfig,
    folder: Path,
    runtime: Runtime,
    teacher: Join | None = None,
    evaluate: Evaluate | None = None,
    at_start: Mapping[str, float] | None = None,
    notices: Sequence[Notice] = (),
    tell: Callable[[Notice], object] = lambda _: None,
) -> nn.Module:
    """Train `model`, or continue a training that was interrupted in the same folder.

    On a CPU an interrupted run ends with the same bits as an uninterrupted one.

    Under torchrun all ranks call this function. Each rank computes its share of every batch
    (`distill.data.batch_share`), and gradients are averaged, so after a step all ranks have the same state. Only
    the first rank writes files.

    The loss that is logged and shown is the one that is minimised. Runs of different smoothing are compared by the
    NLL of hard labels (`train/nll`), which the progress bar shows too where labels are smoothed.

    Args:
        model: network on its device, with its initial weights.
        loader: gives the batches of an epoch, cut into `BatchShare.here(config.schedule.parts)`.
        loss: loss function of `losses.make_loss`.
        config: optimiser, schedule, precision and seed.
        folder: where the resume point, snapshots, `metrics.jsonl` and `tb/` are written.
        runtime: settings of the machine, which do not change results.
        teacher: gives what the loss needs of the teacher for each batch, for a distilled student.
        evaluate: computes measures on held-out data, logged beside those on the training data.
        at_start: measures known before the first step, logged at step 0.
        notices: warnings about the config, written to TensorBoard at step 0.
        tell: called once, with a warning, when smoothing seems to have no effect.

    Returns:
        The trained model, or the moving average of its weights where the config asks for one.

    Raises:
        Diverged: a loss or a weight was not finite.
        UserError: the ranks of torchrun cannot share this training.
        KeyboardInterrupt: the run was interrupted and its state is saved.
    """
    # Order and views are pure functions of the step, and everything else that changes is in the resume point.
    run = Run(model, config, len(loader), folder / RESUME)
    share = run.share
    labels = loader.batch_size * share.pieces * share.world * loader.labels_per_sample
    recent = RecentSamples(labels, smoothed=strongest(config) > 0, pieces=share.pieces)
    run.load(recent)
    # The resume point holds the measures since the last logged point. Where there are some, the point of step
    # `run.step` may still have to be logged.
    logged = run.step - (recent.steps > 0)
    model.train()
    with Interrupts() as interrupts, _log_file(folder, logged) as writer:
        if writer is not None and logged == 0:
            _log_start(writer, notices, at_start)
        batches_of = partial(loader.epoch, join=teacher)
        watch = _Watch(run, recent, writer, interrupts, batches_of, folder, runtime.checkpoint_seconds)
        if run.step == 0:
            watch.keep_snapshot()
        network, take = _step_of(run)
        forward = torch.compile(network) if runtime.compile else network
        bounding = loss if has_ceiling(config) else None
        every = math.ceil(config.schedule.epochs / _POINTS)
        with _progress_bar(run, runtime.progress) as bar:
            for epoch in range(logged // len(loader), config.schedule.epochs):
                batches = batches_of(epoch, run.step - epoch * len(loader))
                for parts in _by_step(batches, share.pieces):
                    watch.note(take(forward, parts, loss))
                    recent.show_when_due(bar, run.step)
                watch.check_finite()
                if (epoch + 1) % every == 0 or epoch + 1 == config.schedule.epochs:
                    watch.log(evaluate, bounding, tell)
                watch.save_when_due(last_of_epoch=True)
    return run.averaged()


def _step_of(run: Run) -> tuple[nn.Module, Step]:
    """Return the network that a step calls, and the function that takes the step."""
    if run.share.pieces * run.share.world == 1:
        return run.model, partial(take_step, run)
    in_parts = StepInParts(run)
    return in_parts.network, in_parts


def _progress_bar(run: Run, shown: bool) -> tqdm[Any]:
    return progress_bar(
        total=run.total_steps,
        initial=run.step,
        unit="step",
        desc=run.config.stage,
        leave=False,
        delay=2,
        disable=None if shown else True,
    )


def _log_file(folder: Path, step: int) -> AbstractContextManager[MetricWriter | None]:
    return MetricWriter(folder, step) if ranks.is_first() else nullcontext()


def _log_start(writer: MetricWriter, notices: Sequence[Notice], at_start: Mapping[str, float] | None) -> None:
    writer.explain()
    for notice in notices:
        writer.text(0, "warnings", notice.text)
    if at_start:
        writer.scalars(0, at_start)


def _by_step(batches: Iterator[Batch], pieces: int) -> Iterator[Iterator[Batch]]:
    """Yield, for each step, an iterator over the batches of its pieces."""
    # An iterator and not a list, since all batches of a step may not fit into memory.
    for batch in batches:
        yield chain((batch,), islice(batches, pieces - 1))


class _Watch:
    """Looks after a training between its steps: stops it if it diverges, logs measures, and saves the state."""

    def __init__(
        self,
        run: Run,
        recent: RecentSamples,
        writer: MetricWriter | None,
        interrupts: Interrupts,
        batches_of: Callable[[int, int], Iterator[Batch]],
        folder: Path,
        seconds: float,
    ):
        self._run, self._recent, self._writer = run, recent, writer
        self._interrupts, self._batches_of = interrupts, batches_of
        self._folder, self._seconds = folder, seconds
        self._trail, self._may_have_no_effect = Trail(), True
        self._kept = set(steps_to_keep(run.config.snapshots, run.total_steps)) if ranks.is_first() else set[int]()

    def note(self, parts: Sequence[StepPart]) -> None:
        """Take in the results of a step, and save what is due after it."""
        self._recent.add(parts)
        self._trail.add(self._run.step, [part.terms for part in parts])
        self.keep_snapshot()
        self.save_when_due()

    def keep_snapshot(self) -> None:
        """Save a snapshot of the weights if the config asks for one at this step."""
        if self._run.step in self._kept:
            save_snapshot(self._run.averaged(), self._run.step, self._folder)

    def save_when_due(self, last_of_epoch: bool = False) -> None:
        """Write the resume point if it is due or the run is to be interrupted; in the second case end the run.

        Raises:
            KeyboardInterrupt: the run was interrupted and its state is saved.
        """
        is_due = not last_of_epoch and self._run.seconds_since_save() > self._seconds
        if not self._interrupts.save_now(self._run.step, is_due, last=last_of_epoch):
            return
        self.check_finite()
        if self._writer is not None:
            self._writer.sync()
        self._run.save(self._recent)
        self._interrupts.raise_pending()

    def check_finite(self) -> None:
        """Stop the training if a loss or a weight is not finite, with the same error on all ranks.

        Raises:
            Diverged: the loss of a step, or the weights after the step, were not finite.
        """
        run = self._run
        if not self._recent.steps:
            return
        if math.isfinite(self._recent.losses()["total"]) and weights_are_finite(run.model):
            self._trail.clear()
            return
        bad, per_epoch = self._trail.end(), run.total_steps // run.config.schedule.epochs
        parts = islice(self._batches_of(*divmod(bad.step - 1, per_epoch)), run.share.pieces)
        error = bad.error(run.config, run.lr, run.scaler.get_scale(), parts)
        # A loss may be finite on this rank and not on another one.
        raise min(ranks.gather((bad.weights_only, bad.step, error)), key=lambda of: of[:2])[2]

    def log(self, evaluate: Evaluate | None, bounding: Loss | None, tell: Callable[[Notice], object]) -> None:
        """Write a point of the training curve; all ranks must call this, and wait for the first one to write."""
        rate = self._recent.rate
        losses = {f"loss/{name}": value for name, value in self._recent.losses().items()}
        measured = self._recent.states()
        ranks.on_first(lambda: self._write_point(measured, losses, rate, evaluate, bounding))
        self._recent.clear()
        if bounding is None or self._writer is None or not self._may_have_no_effect:
            return
        if (notice := no_effect(read_metrics(self._folder))) is not None:
            tell(notice)
            self._may_have_no_effect = False

    def _write_point(
        self,
        measured: list[dict[str, Any]],
        losses: dict[str, float],
        rate: float,
        evaluate: Evaluate | None,
        bounding: Loss | None,
    ) -> None:
        run, writer = self._run, self._writer
        assert writer is not None, "the first rank has one"
        logits, labels = last_samples(measured)
        values = losses | {f"train/{name}": value for name, value in training_measures(logits, labels).items()}
        if bounding is not None:
            progress = (run.step - 1) / max(1, run.total_steps - 1)
            ceiling = confidence_ceiling(bounding, labels.to(run.device), logits.shape[1], progress)
            values["train/confidence_ceiling"] = ceiling
        # An evaluation may take minutes, and whoever interrupts a training waits for a second or two only. So a
        # signal saves the state at once.
        with self._interrupts.at_once(lambda: run.write(measured)):
            held_out = evaluate(run.averaged()) if evaluate else {}
        values |= {f"held_out/{name}": value for name, value in held_out.items()}
        if not all(map(math.isfinite, values.values())):
            raise Diverged(run.step, run.lr, math.nan)
        writer.scalars(run.step, values | {"lr": run.lr, "images_per_second": rate})
        correct = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        writer.histogram(run.step, "logits/correct", logits[correct])
        writer.histogram(run.step, "logits/incorrect", logits[~correct])
