"""The one training loop, for teacher and student alike; it can be interrupted at any moment and resumed."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_model
from torch import nn
from tqdm import tqdm

from distill.artifact import RESUME
from distill.config import StudentConfig, TeacherConfig
from distill.data.loader import Batch, Join, Loader, Normaliser
from distill.errors import Diverged, UserError
from distill.losses import Loss, Terms
from distill.metrics.monitor import training_measures
from distill.metrics.positions import counted
from distill.metrics.smoothing_warnings import Notice, has_ceiling, no_effect, strongest
from distill.optim import build_ema, build_optimizer, build_schedule
from distill.runtime import Runtime
from distill.tracking import MetricWriter, read_metrics

if TYPE_CHECKING:
    from jaxtyping import Float, Int64, UInt8
    from torch import Tensor


_POINTS = 20
"""A run is measured about this many times, whatever its length: curves stay readable, logging stays cheap."""
_SHOWN_SECONDS = 0.5
_WINDOW = 10_000
"""Training measures are taken over the last so many labels."""
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

    The loss that is logged and shown is what is minimised; runs of different smoothing are compared by the NLL of
    hard labels (`train/nll`), which the progress bar shows beside it where labels are smoothed.

    Args:
        model: on its device, with its initial weights.
        loader: gives the batches of an epoch.
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
        KeyboardInterrupt: the run was interrupted and its state is saved.
    """
    run = _Run(model, config, len(loader), folder / RESUME)
    run.load()
    model.train()
    every = math.ceil(config.schedule.epochs / _POINTS)
    kept = set(_snapshot_steps(config.snapshots, run.total_steps))
    if kept and run.step == 0:
        _save_snapshot(run.averaged(), 0, folder)
    with _Interrupts() as interrupts, MetricWriter(folder, run.step) as writer:
        if run.step == 0:
            writer.explain()
            for notice in notices:
                writer.text(0, "warnings", notice.text)
            if at_start:
                writer.scalars(0, at_start)
        bar = tqdm(
            total=run.total_steps,
            initial=run.step,
            unit="step",
            desc=config.stage,
            leave=False,
            delay=2,
            disable=None if runtime.progress else True,
        )
        window = _Window(loader.batch_size * loader.labels_per_sample, smoothed=strongest(config) > 0)
        bounded = watched = has_ceiling(config)
        forward = torch.compile(model) if runtime.compile else model
        for epoch in range(run.step // len(loader), config.schedule.epochs):
            for batch in loader.epoch(epoch, run.step - epoch * len(loader), teacher):
                window.add(batch, *run.update(forward, batch, loss))
                if run.step in kept:
                    _save_snapshot(run.averaged(), run.step, folder)
                if interrupts.pending or run.seconds_since_save() > runtime.checkpoint_seconds:
                    window.check_finite(run)
                    run.save()
                    interrupts.raise_pending()
                window.show_when_due(bar, run.step)
            window.check_finite(run)
            if (epoch + 1) % every == 0 or epoch + 1 == config.schedule.epochs:
                _log(writer, run, window, evaluate, loss if bounded else None)
                if watched and (found := no_effect(read_metrics(folder))) is not None:
                    tell(found)
                    watched = False
            if interrupts.pending:
                run.save()
                interrupts.raise_pending()
        bar.close()
    return run.averaged()


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

    def update(self, forward: Callable[[Tensor], Tensor], batch: Batch, loss: Loss) -> tuple[Tensor, Terms]:
        """One step of gradient descent; nothing here waits for the device."""
        if self.amp is None:
            logits = forward(batch.images)
        else:
            with torch.autocast(self.device, dtype=self.amp):
                logits = forward(batch.images)
        terms = loss(logits, batch.labels, batch.teacher, self.step / max(1, self.total_steps - 1))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms.total).backward()
        if self.config.optim.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.config.optim.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.schedule.step_update(self.step)
        if self.ema is not None:
            self.ema.update(self.model, step=self.step)
        return logits, terms

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def averaged(self) -> nn.Module:
        return self.model if self.ema is None else self.ema.module

    def seconds_since_save(self) -> float:
        return time.monotonic() - self.saved_at

    def save(self) -> None:
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
        }
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
        self.saved_at = time.monotonic()

    def load(self) -> None:
        """Take up the resume point if there is one.

        Raises:
            UserError: the file cannot be read as plain tensors.
        """
        if not self.path.exists():
            return
        try:
            # weights_only refuses everything but tensors and plain values: nothing in it can run.
            self._restore(torch.load(self.path, weights_only=True, map_location=self.device))
        except Exception as error:
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
        torch.set_num_threads(state["threads"])
        self.step = state["step"]
        self.schedule.step_update(self.step)


def _device_rng(device: str) -> Any:
    return {"cuda": torch.cuda, "mps": torch.mps}[device]


class _Window:
    """The last samples of the training stream: what the training measures are taken from."""

    def __init__(self, labels_per_batch: int, smoothed: bool):
        self.smoothed = smoothed
        batches = max(1, _WINDOW // labels_per_batch)
        self.logits: deque[Tensor] = deque(maxlen=batches)
        self.labels: deque[Tensor] = deque(maxlen=batches)
        self.shown_at = time.monotonic()
        self.clear()

    def clear(self) -> None:
        self.logits.clear()
        self.labels.clear()
        self.sums: dict[str, Tensor] = {}
        self.steps, self.samples, self.started = 0, 0, time.perf_counter()

    def add(self, batch: Batch, logits: Tensor, terms: Terms) -> None:
        self.logits.append(logits.detach())
        # The largest share of a mixed view is taken for its class.
        self.labels.append(batch.labels.argmax(1) if batch.labels.is_floating_point() else batch.labels)
        for name, value in zip(Terms._fields, terms, strict=True):
            if value is not None:
                total = self.sums.get(name)
                self.sums[name] = value.detach() if total is None else total + value.detach()
        self.steps += 1
        self.samples += len(batch.labels)

    def losses(self) -> dict[str, float]:
        return {name: (value / self.steps).item() for name, value in self.sums.items()}

    def check_finite(self, run: _Run) -> None:
        if self.steps and not torch.isfinite(self.sums["total"]):
            raise Diverged(run.step, run.lr, self.losses()["total"])

    def show_when_due(self, bar: tqdm[Any], step: int) -> None:
        # Reading the loss waits for the device, so it is done for people's eyes only, twice a second.
        if bar.disable or time.monotonic() - self.shown_at < _SHOWN_SECONDS:
            return
        self.shown_at = time.monotonic()
        logits, labels = counted(self.logits[-1], self.labels[-1])
        accuracy = (logits.argmax(1) == labels).float().mean()
        shown = {"loss": self.losses()["total"], "accuracy": accuracy.item()}
        if self.smoothed:  # whose loss says little: it cannot reach 0
            shown["nll"] = nn.functional.cross_entropy(logits.float(), labels).item()
        bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)
        bar.update(step - bar.n)


def _log(
    writer: MetricWriter,
    run: _Run,
    window: _Window,
    evaluate: Callable[[nn.Module], dict[str, float]] | None,
    bounding: Loss | None,
) -> None:
    rate = window.samples / (time.perf_counter() - window.started)
    values = {f"loss/{name}": value for name, value in window.losses().items()}
    # On the CPU, since the measures take float64, which mps has not.
    logits, labels = torch.cat(list(window.logits)).float().cpu(), torch.cat(list(window.labels)).cpu()
    logits, labels = counted(logits, labels)
    values |= {f"train/{name}": value for name, value in training_measures(logits, labels).items()}
    if bounding is not None:
        progress = (run.step - 1) / max(1, run.total_steps - 1)
        values["train/confidence_ceiling"] = confidence_ceiling(
            bounding, labels.to(run.device), logits.shape[1], progress
        )
    if evaluate is not None:
        values |= {f"held_out/{name}": value for name, value in evaluate(run.averaged()).items()}
    if not all(map(math.isfinite, values.values())):
        raise Diverged(run.step, run.lr, math.nan)
    writer.scalars(run.step, values | {"lr": run.lr, "images_per_second": rate})
    correct = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    writer.histogram(run.step, "logits/correct", logits[correct])
    writer.histogram(run.step, "logits/incorrect", logits[~correct])
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


class _Interrupts:
    """Turns SIGINT and SIGTERM into a flag that is read between two steps, where the state is whole."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.pending: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        try:
            self._before = {number: signal.signal(number, self._note) for number in self._SIGNALS}
        except ValueError:  # not the main thread: whoever owns it decides
            self._before = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.raise_pending()

    def _note(self, number: int, _frame: object) -> None:
        self.pending = number

    def raise_pending(self) -> None:
        if self.pending == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self.pending:
            raise KeyboardInterrupt


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
