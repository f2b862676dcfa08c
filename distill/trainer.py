"""The one training loop, for teacher and student alike; it can be interrupted at any moment and resumed."""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from distill import ranks, resume
from distill.artifact import RESUME
from distill.batch_norm import RunningStatistics, SharedBatchNorm
from distill.config import StudentConfig, TeacherConfig
from distill.data.loader import Batch, Join, Loader, Normaliser
from distill.divergence import Trail, weights_are_finite
from distill.errors import Diverged, UserError
from distill.faults import memory_fault
from distill.interrupts import Interrupts
from distill.losses import Loss, Terms
from distill.metrics.monitor import training_measures
from distill.metrics.smoothing_warnings import Notice, has_ceiling, no_effect, strongest
from distill.optim import build_ema, build_optimizer, build_schedule
from distill.progress import bar as progress_bar
from distill.runtime import Runtime
from distill.shares import Shares
from distill.tracking import MetricWriter, read_metrics
from distill.window import Piece, Window, last_samples

if TYPE_CHECKING:
    from jaxtyping import Float, Int64, UInt8


_POINTS = 20
"""A run is measured about this many times, whatever its length: curves stay readable, logging stays cheap."""
_TARGETS = 1 << 22
"""Numbers of targets that are made at a time."""


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

    Under torchrun all ranks call this. Each computes its share of every batch (`shares`), and gradients are
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
    run = _Run(model, config, len(loader), folder / RESUME)
    shares = run.shares
    labels = loader.batch_size * shares.steps * shares.world * loader.labels_per_sample
    window = Window(labels, smoothed=strongest(config) > 0, pieces=shares.steps)
    run.load(window)
    # What is measured and not yet logged is in the resume point: the step after this one may be due to be logged.
    logged = run.step - (window.steps > 0)
    model.train()
    every = math.ceil(config.schedule.epochs / _POINTS)
    kept = set(_snapshot_steps(config.snapshots, run.total_steps)) if ranks.is_first() else set()
    if kept and run.step == 0:
        _save_snapshot(run.averaged(), 0, folder)
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
                window.add(done)
                trail.add(run.step, [piece.terms for piece in done])
                if run.step in kept:
                    _save_snapshot(run.averaged(), run.step, folder)
                if interrupts.save_now(run.step, run.seconds_since_save() > runtime.checkpoint_seconds):
                    _check_finite(run, window, trail, batches_of)
                    _sync(writer)
                    run.save(window)
                    interrupts.raise_pending()
                window.show_when_due(bar, run.step)
            _check_finite(run, window, trail, batches_of)
            if (epoch + 1) % every == 0 or epoch + 1 == config.schedule.epochs:
                _log(writer, run, window, measure, loss if bounded else None)
                if writer and watched and (found := no_effect(read_metrics(folder))) is not None:
                    tell(found)
                    watched = False
            if interrupts.save_now(run.step, is_due=False, last=True):
                _sync(writer)
                run.save(window)
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
    run: _Run, window: Window, trail: Trail, batches_of: Callable[[int, int], Iterator[Batch]]
) -> None:
    """Refuse to go on from, and to save, what is not finite; all ranks find the same."""
    if not window.steps:
        return
    if math.isfinite(window.losses()["total"]) and weights_are_finite(run.model):
        trail.clear()
        return
    bad, per_epoch = trail.end(), run.total_steps // run.config.schedule.epochs
    pieces = islice(batches_of(*divmod(bad.step - 1, per_epoch)), run.shares.steps)
    found = bad.error(run.config, run.lr, run.scaler.get_scale(), pieces)
    # A loss may be finite on this rank and not on another one.
    raise min(ranks.gather((bad.weights_only, bad.step, found)), key=lambda of: of[:2])[2]


def _snapshot_steps(snapshots: int, total_steps: int) -> list[int]:
    """Steps after which weights are kept: 0 and the end of each of so many equal parts; none for none."""
    if not snapshots:
        return []
    return sorted({round(part * total_steps / snapshots) for part in range(snapshots + 1)})


def snapshot_file(step: int) -> str:
    """Path of a snapshot within the folder of its network."""
    return f"snapshots/{step:08d}.safetensors"


def _save_snapshot(model: nn.Module, step: int, folder: Path) -> None:
    """Keep the weights after `step` updates; an interrupted call leaves no half of them."""
    path = folder / snapshot_file(step)
    path.parent.mkdir(exist_ok=True)
    save_model(model, str(path.with_suffix(".partial")))
    path.with_suffix(".partial").replace(path)


def inference_batch(device: str) -> int:
    """Samples per forward without gradient: few enough for a CPU's caches, enough to fill a GPU."""
    return 128 if device == "cpu" else 2048


def predict(
    model: nn.Module, images: UInt8[Tensor, "n c h w"], normalise: Normaliser, device: str
) -> Float[Tensor, "n *t k"]:
    """Logits in float32 on the CPU, in evaluation mode; the mode of the model is restored."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        parts = [model(normalise(part.to(device))) for part in images.split(inference_batch(device))]
    model.train(was_training)
    return torch.cat(parts).float().cpu()


class _Run:
    """Everything of a training run that changes with its steps, and its resume point on disk."""

    def __init__(self, model: nn.Module, config: TeacherConfig | StudentConfig, steps_per_epoch: int, path: Path):
        self.model, self.config, self.path = model, config, path
        self.device = next(model.parameters()).device.type
        self.optimizer = build_optimizer(model, config.optim)
        self.schedule = build_schedule(self.optimizer, config.schedule, steps_per_epoch)
        self.ema = build_ema(model, config.ema) if config.ema is not None else None
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.amp = None if config.precision == "float32" else getattr(torch, config.precision)
        self.scaler = torch.amp.GradScaler(self.device, enabled=config.precision == "float16")
        self.step, self.total_steps = 0, steps_per_epoch * config.schedule.epochs
        self.saved_at = time.monotonic()
        self.shares = Shares.here(config.schedule.parts)
        self.replica: nn.parallel.DistributedDataParallel | None = None
        self.statistics: RunningStatistics | None = None

    def distributed(self) -> nn.Module:
        """The model as a step calls it: under torchrun, backward averages gradients over the ranks.

        Raises:
            UserError: the ranks cannot share this training.
        """
        if self.shares.world == 1:
            return self.model
        _refuse_shares(self.config, self.shares, self.device)
        ranks.join()
        if not self.shares.shared:
            self.statistics = RunningStatistics(self.model, self.shares)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.11 does not know the new name of the argument
            self.replica = nn.parallel.DistributedDataParallel(self.model, broadcast_buffers=False)
        return self.replica

    def update(self, forward: Callable[[Tensor], Tensor], batches: Iterable[Batch], loss: Loss) -> Sequence[Piece]:
        """One step of gradient descent on a batch, or its pieces; nothing here waits for the device."""
        in_pieces = self.shares.steps * self.shares.world > 1
        progress = self.step / max(1, self.total_steps - 1)
        done: list[Piece] = []
        counting: list[Tensor] = []
        for batch in batches:
            with self._around(len(done)) if in_pieces or self.amp else nullcontext():
                logits = forward(batch.images)
            terms = loss(logits, batch.labels, batch.teacher, progress)
            if in_pieces:
                share = _counting(batch.labels) / self.shares.steps
                if isinstance(share, Tensor):
                    counting.append(share)
                terms = _each(terms, lambda term, share=share: term * share)
            if not done:
                self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(terms.total).backward()
            done.append(Piece(logits.detach(), batch.labels, _each(terms, Tensor.detach)))
        if counting:
            done = self._over_all_that_count(done, torch.stack(counting).sum())
        if self.config.optim.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.config.optim.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.schedule.step_update(self.step)
        if self.statistics is not None:
            self.statistics.merge()
        if self.ema is not None:
            self.ema.update(self.model, step=self.step)
        return done

    @contextmanager
    def _around(self, piece: int) -> Iterator[None]:
        """What the forward pass of a piece is made in."""
        shares = self.shares
        with ExitStack() as stack:
            if self.replica is not None and piece < shares.steps - 1:
                stack.enter_context(self.replica.no_sync())
            if self.amp is not None:
                stack.enter_context(torch.autocast(self.device, dtype=self.amp))
            if shares.shared:
                stack.enter_context(SharedBatchNorm())
            if shares.steps * shares.world > 1:
                # Dropout is drawn by step and piece, whoever computes it: another number of ranks may go on.
                draws = np.random.SeedSequence([self.config.seed, self.step, shares.number(piece)])
                torch.manual_seed(int(draws.generate_state(1, np.uint64)[0]))
            yield

    def _over_all_that_count(self, done: Sequence[Piece], counting: Tensor) -> list[Piece]:
        """Make of a mean over all labels of the step one over those that count, in gradients and terms.

        `counting` is the part of this rank's labels that do.
        """
        counting = counting / self.shares.world
        ranks.reduce_sum(counting)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        torch._foreach_div_(gradients, counting)  # pyright: ignore[reportPrivateImportUsage]
        return [piece._replace(terms=_each(piece.terms, lambda term: term / counting)) for piece in done]

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def averaged(self) -> nn.Module:
        return self.model if self.ema is None else self.ema.module

    def seconds_since_save(self) -> float:
        return time.monotonic() - self.saved_at

    def save(self, window: Window) -> None:
        """Write the resume point; all ranks give what they have."""
        measured = window.states()
        if ranks.is_first():
            self.write(measured)
        self.saved_at = time.monotonic()

    def write(self, measured: list[dict[str, Any]]) -> None:
        """Write the resume point, with what the windows of all ranks hold; one rank has all the rest."""
        state: dict[str, Any] = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "rng": torch.get_rng_state(),
            "device_rng": _device_rng(self.device).get_rng_state() if self.device != "cpu" else None,
            # Sums over more threads are rounded in another order.
            "threads": torch.get_num_threads(),
            "ranks": self.shares.world,
            "window": measured,
        }
        resume.save(self.path, state)

    def load(self, window: Window) -> None:
        """Take up the resume point if there is one.

        Raises:
            UserError: the file is damaged, or of another network or optimiser.
        """
        if not self.path.exists():
            return
        try:
            state = resume.load(self.path, self.device)
            self._restore(state)
            window.restore(state["window"])
        except Exception as error:
            if isinstance(error, OSError) or memory_fault(error, self.config):
                raise  # which says nothing of the file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            way_out = "Delete this file: the run then starts anew."
            raise UserError(str(self.path), reason, "a resume point of ours", way_out) from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        torch.set_rng_state(state["rng"].cpu())
        if self.device != "cpu":
            _device_rng(self.device).set_rng_state(state["device_rng"].cpu())
        if state["ranks"] == self.shares.world:
            torch.set_num_threads(state["threads"])
        self.step = state["step"]
        self.schedule.step_update(self.step)


def _counting(labels: Tensor) -> float | Tensor:
    """The part of the labels that count: 1, or where there is one per position what is not ignored."""
    if labels.ndim == 1 or labels.is_floating_point():
        return 1.0
    return (labels >= 0).float().mean()


def _each(terms: Terms, change: Callable[[Tensor], Tensor]) -> Terms:
    return Terms(change(terms.total), *(None if term is None else change(term) for term in terms[1:]))


def _refuse_shares(config: TeacherConfig | StudentConfig, shares: Shares, device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise UserError("device", device, "cpu or cuda under torchrun", "Set --device, or run it without torchrun.")
    if device == "cuda" and ranks.on_this_machine() > torch.cuda.device_count():
        found = torch.cuda.device_count()
        expected = f"one GPU for each rank of this machine, which has {found}"
        raise UserError("nproc-per-node", ranks.on_this_machine(), expected, f"Set --nproc-per-node {found}.")
    if shares.shared and isinstance(config, StudentConfig) and config.loss.soft == "dist" and config.loss.alpha > 0:
        expected = f"another one for a batch that {shares.world} ranks share, since dist compares its samples"
        way_out = f"Set --schedule.parts {shares.world}: it then compares those of a part, on one rank or more."
        raise UserError("loss.soft", "dist", expected, way_out)


def _device_rng(device: str) -> Any:
    return {"cuda": torch.cuda, "mps": torch.mps}[device]


def _log(
    writer: MetricWriter | None,
    run: _Run,
    window: Window,
    evaluate: Callable[[nn.Module, list[dict[str, Any]]], dict[str, float]],
    bounding: Loss | None,
) -> None:
    """Write a point of the curve; all ranks give what they have, and wait for the one that writes it."""
    rate = window.rate
    losses = {f"loss/{name}": value for name, value in window.losses().items()}
    measured = window.states()
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
    window.clear()


def confidence_ceiling(loss: Loss, labels: Int64[Tensor, " n"], classes: int, progress: float) -> float:
    """What mean confidence would be if a network gave exactly its targets: the mean of their largest shares.

    Targets are read off the loss: the gradient of cross-entropy by the logits is softmax - target (Müller et al.
    2019, section 1), here at logits of 0. So they are those that are minimised, whatever the convention, matrix or
    schedule.

    Args:
        loss: one whose targets depend on label and progress only (`has_ceiling`).
        labels: of the samples, on the device of the loss.
        classes: how many there are.
        progress: of training, 0 to 1.
    """
    found, counts = labels.unique(return_counts=True)
    largest = []
    for part in found.split(max(1, _TARGETS // classes)):
        logits = torch.zeros(len(part), classes, device=labels.device, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(logits, part, None, progress).total, logits)
        largest.append((1 / classes - len(part) * gradient).amax(1))
    # In float64 on the CPU, which mps has not.
    return (torch.cat(largest).double().cpu() @ counts.double().cpu() / len(labels)).item()


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed every generator (initial weights, dropout) inside the block, and leave them as they were after."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - a plug-in's network may draw from the old generator
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
