"""The one training loop, for teacher and student alike; it can be interrupted at any moment and resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

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
from distill.training.kept_weights import save_snapshot
from distill.training.recent_samples import RecentSamples, last_samples
from distill.training.state import Run
from distill.training.tracking import MetricWriter, read_metrics

_POINTS = 20
"""A run is measured about this many times, whatever its length: curves stay readable, logging stays cheap."""


def fit(
    model: nn.Module,
    loader: Loader,
    loss: Loss,
    config: TeacherConfig | StudentConfig,
    folder: Path,
    runtime: Runtime,
    teacher: Join | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    at_start: Mapping[str, float] | None = None,
    notices: Sequence[Notice] = (),
    tell: Callable[[Notice], object] = lambda _: None,
) -> nn.Module:
    """Train `model`, or go on where a former call in the same folder was interrupted.

    On a CPU an interrupted run ends in the same bits as an uninterrupted one: order and views are pure
    functions of the step, and everything else that changes is in the resume point.

    Under torchrun all ranks call this. Each computes its share of every batch (`batch_shares`), and gradients are
    averaged, so that after a step all have the same state; only the first one writes files.

    The loss that is logged and shown is what is minimised; runs of different smoothing are compared by the NLL of
    hard labels (`train/nll`), which the progress bar shows beside it where labels are smoothed.

    Args:
        model: on its device, with its initial weights.
        loader: gives the batches of an epoch, cut into `Shares.here(config.schedule.parts)`.
        loss: of `losses.make_loss`.
        config: optimiser, schedule, precision and seed.
        folder: where the resume point, snapshots, `metrics.jsonl` and `tb/` are written.
        runtime: switches that leave the numbers alone.
        teacher: what the loss wants of the teacher for each batch, for a distilled student.
        evaluate: model → measures on held-out data, logged beside those on the training data.
        at_start: what is known before the first step, logged at step 0.
        notices: of the config, put into TensorBoard at step 0.
        tell: called once when smoothing seems to have no effect.

    Returns:
        The trained model, or the moving average of its weights where the config asks for one.

    Raises:
        Diverged: a loss was not finite.
        UserError: the ranks of torchrun cannot share this training.
        KeyboardInterrupt: the run was interrupted and its state is saved.
    """
    run = Run(model, config, len(loader), folder / RESUME)
    shares = run.shares
    labels = loader.batch_size * shares.steps * shares.world * loader.labels_per_sample
    recent = RecentSamples(labels, smoothed=strongest(config) > 0, pieces=shares.steps)
    run.load(recent)
    # What is measured and not yet logged is in the resume point: the step after this one may be due to be logged.
    logged = run.step - (recent.steps > 0)
    model.train()
    every = math.ceil(config.schedule.epochs / _POINTS)
    kept = set(steps_to_keep(config.snapshots, run.total_steps)) if ranks.is_first() else set()
    if kept and run.step == 0:
        save_snapshot(run.averaged(), 0, folder)
    with Interrupts() as interrupts, _log_file(folder, logged) as writer:
        if writer is not None and logged == 0:
            writer.explain()
            for notice in notices:
                writer.text(0, "warnings", notice.text)
            if at_start:
                writer.scalars(0, at_start)
        bar = progress_bar(
            total=run.total_steps,
            initial=run.step,
            unit="step",
            desc=config.stage,
            leave=False,
            delay=2,
            disable=None if runtime.progress else True,
        )
        trail, batches_of = Trail(), partial(loader.epoch, join=teacher)
        bounded = watched = has_ceiling(config)
        forward = run.distributed()
        forward = torch.compile(forward) if runtime.compile else forward

        def measure(model: nn.Module, measured: list[dict[str, Any]]) -> dict[str, float]:
            # May take minutes, and whoever waits for the end of a training does so for a second or two.
            with interrupts.at_once(lambda: run.write(measured)):
                return evaluate(model) if evaluate else {}

        for epoch in range(logged // len(loader), config.schedule.epochs):
            batches = batches_of(epoch, run.step - epoch * len(loader))
            for pieces in _by_step(batches, shares.steps):
                done = run.update(forward, pieces, loss)
                recent.add(done)
                trail.add(run.step, [piece.terms for piece in done])
                if run.step in kept:
                    save_snapshot(run.averaged(), run.step, folder)
                if interrupts.save_now(run.step, run.seconds_since_save() > runtime.checkpoint_seconds):
                    _check_finite(run, recent, trail, batches_of)
                    _sync(writer)
                    run.save(recent)
                    interrupts.raise_pending()
                recent.show_when_due(bar, run.step)
            _check_finite(run, recent, trail, batches_of)
            if (epoch + 1) % every == 0 or epoch + 1 == config.schedule.epochs:
                _log(writer, run, recent, measure, loss if bounded else None)
                if writer and watched and (found := no_effect(read_metrics(folder))) is not None:
                    tell(found)
                    watched = False
            if interrupts.save_now(run.step, is_due=False, last=True):
                _sync(writer)
                run.save(recent)
                interrupts.raise_pending()
        bar.close()
    return run.averaged()


def _log_file(folder: Path, step: int) -> AbstractContextManager[MetricWriter | None]:
    return MetricWriter(folder, step) if ranks.is_first() else nullcontext()


def _sync(writer: MetricWriter | None) -> None:
    if writer is not None:
        writer.sync()


def _by_step(batches: Iterator[Batch], pieces: int) -> Iterator[Iterator[Batch]]:
    """The batches of each step in turn, one after another, since together they may not fit into memory."""
    for batch in batches:
        yield chain((batch,), islice(batches, pieces - 1))


def _check_finite(
    run: Run, recent: RecentSamples, trail: Trail, batches_of: Callable[[int, int], Iterator[Batch]]
) -> None:
    """Refuse to go on from, and to save, what is not finite; all ranks find the same."""
    if not recent.steps:
        return
    if math.isfinite(recent.losses()["total"]) and weights_are_finite(run.model):
        trail.clear()
        return
    bad, per_epoch = trail.end(), run.total_steps // run.config.schedule.epochs
    pieces = islice(batches_of(*divmod(bad.step - 1, per_epoch)), run.shares.steps)
    found = bad.error(run.config, run.lr, run.scaler.get_scale(), pieces)
    # A loss may be finite on this rank and not on another one.
    raise min(ranks.gather((bad.weights_only, bad.step, found)), key=lambda of: of[:2])[2]


def steps_to_keep(snapshots: int, total_steps: int) -> list[int]:
    """Steps after which weights are kept: 0 and the end of each of so many equal parts; none for none."""
    if not snapshots:
        return []
    return sorted({round(part * total_steps / snapshots) for part in range(snapshots + 1)})


def _log(
    writer: MetricWriter | None,
    run: Run,
    recent: RecentSamples,
    evaluate: Callable[[nn.Module, list[dict[str, Any]]], dict[str, float]],
    bounding: Loss | None,
) -> None:
    """Write a point of the curve; all ranks give what they have, and wait for the one that writes it."""
    rate = recent.rate
    losses = {f"loss/{name}": value for name, value in recent.losses().items()}
    measured = recent.states()
    logits, labels = last_samples(measured)

    def write() -> None:
        assert writer is not None, "of the first rank"
        values = losses | {f"train/{name}": value for name, value in training_measures(logits, labels).items()}
        if bounding is not None:
            progress = (run.step - 1) / max(1, run.total_steps - 1)
            values["train/confidence_ceiling"] = confidence_ceiling(
                bounding, labels.to(run.device), logits.shape[1], progress
            )
        values |= {f"held_out/{name}": value for name, value in evaluate(run.averaged(), measured).items()}
        if not all(map(math.isfinite, values.values())):
            raise Diverged(run.step, run.lr, math.nan)
        writer.scalars(run.step, values | {"lr": run.lr, "images_per_second": rate})
        correct = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        writer.histogram(run.step, "logits/correct", logits[correct])
        writer.histogram(run.step, "logits/incorrect", logits[~correct])

    ranks.on_first(write)
    recent.clear()
