"""Run the training loop of teachers and students, which can be interrupted at any moment and resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from distill.config import StudentConfig, TeacherConfig
from distill.data.loader import Join, Loader
from distill.losses import FromTeacher, Loss
from distill.store.record import RESUME
from distill.system import ranks
from distill.system.interrupts import Interrupts
from distill.system.progress import bar as progress_bar
from distill.system.runtime import Runtime
from distill.training.curve import Curve, Evaluate
from distill.training.notices import Notices
from distill.training.recent_samples import RecentSamples
from distill.training.state import Run
from distill.training.step import Forward, Step, TaughtBatch, take_step
from distill.training.step_distributed import StepInParts
from distill.training.tracking import MetricWriter
from distill.training.watch import Watch

if TYPE_CHECKING:
    from tqdm import tqdm


def fit(
    model: nn.Module,
    loader: Loader,
    loss: Loss,
    config: TeacherConfig | StudentConfig,
    folder: Path,
    runtime: Runtime,
    teacher: Join[FromTeacher] | None = None,
    evaluate: Evaluate | None = None,
    at_start: Mapping[str, float] | None = None,
    notices: Notices | None = None,
    data: str = "",
) -> nn.Module:
    """Train `model`, or continue a training that was interrupted in the same folder; return the trained model.

    On a CPU an interrupted run ends with the same bits as an uninterrupted one. Under torchrun all ranks call this
    function, each computes its share of every batch, and only the first rank writes files.

    Args:
        model: network on its device, with its initial weights.
        loader: gives the batches of an epoch, cut into `BatchShare.here(config.schedule.parts)`.
        loss: loss function of `losses.make_loss`.
        config: optimiser, schedule, precision and seed.
        folder: where the resume point, snapshots, `metrics.jsonl` and `tb/` are written.
        runtime: settings of the machine, which do not change results.
        teacher: gives what the loss needs of the teacher for each batch, for a distilled student.
        evaluate: computes measures on held-out data for the training curve.
        at_start: measures known before the first step.
        notices: warnings about the config, to which the training adds its own.
        data: fingerprint of the images, which an interrupted run must find again.

    Raises:
        Diverged: a loss or a weight was not finite.
        UserError: the ranks of torchrun cannot share this training.
        KeyboardInterrupt: the run was interrupted and its state is saved.
    """
    # Order and views are pure functions of the step, and everything else that changes is in the resume point.
    run = Run(model, config, len(loader), folder / RESUME, data)
    recent = RecentSamples(loader.labels_per_step, smoothed=config.loss.strongest > 0, pieces=run.share.pieces)
    run.load(recent)
    # The resume point holds the measures since the last logged point. Where there are some, the point of step
    # `run.step` may still have to be logged.
    logged = run.step - (recent.steps > 0)
    batches_from = partial(loader.epoch, join=teacher)
    model.train()
    with Interrupts() as interrupts, _log_file(folder, logged) as writer:
        curve = Curve(run, recent, writer, loss, evaluate, interrupts, notices or Notices(), at_start or {})
        if logged == 0:
            curve.start()
        watch = Watch(run, recent, curve, interrupts, batches_from, folder, runtime.checkpoint_seconds)
        watch.start()
        forward, take = _step_of(run, runtime.compile)
        with _progress_bar(run, runtime.progress) as bar:
            for epoch in range(logged // len(loader), config.schedule.epochs):
                for parts in _by_step(batches_from(epoch, run.step - epoch * len(loader)), run.share.pieces):
                    watch.end_step(take(forward, parts, loss))
                    recent.show_when_due(bar, run.step)
                watch.end_epoch(epoch)
    return run.averaged()


def _step_of(run: Run, compiled: bool) -> tuple[Forward, Step]:
    """Return the forward function and the function that performs a training step, in parts if batches are split."""
    network, step = run.model, partial(take_step, run)
    if run.share.pieces * run.share.world > 1:
        step = StepInParts(run)
        network = step.network
    return torch.compile(network) if compiled else network, step


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


def _by_step(batches: Iterator[TaughtBatch], pieces: int) -> Iterator[Iterator[TaughtBatch]]:
    """Yield, for each step, an iterator over the micro-batches that this rank computes."""
    # An iterator and not a list, since all batches of a step may not fit into memory.
    for batch in batches:
        yield chain((batch,), islice(batches, pieces - 1))
