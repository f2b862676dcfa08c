"""Everything of a training that changes with its steps, and its resume point on disk."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.config import StudentConfig, TeacherConfig
from distill.data.batch_shares import Shares
from distill.data.loader import Batch
from distill.errors import UserError
from distill.losses import Loss, Terms
from distill.store.machine_errors import memory_fault
from distill.system import ranks
from distill.training import resume
from distill.training.batch_norm import RunningStatistics, SharedBatchNorm
from distill.training.optim import build_ema, build_optimizer, build_schedule
from distill.training.recent_samples import RecentSamples, StepPart


class Run:
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

    def update(
        self, forward: Callable[[Tensor], Tensor], batches: Iterable[Batch], loss: Loss
    ) -> Sequence[StepPart]:
        """One step of gradient descent on a batch, or its pieces; nothing here waits for the device."""
        in_pieces = self.shares.steps * self.shares.world > 1
        progress = self.step / max(1, self.total_steps - 1)
        done: list[StepPart] = []
        counting: list[Tensor] = []
        for batch in batches:
            with self._around(len(done)) if in_pieces or self.amp else nullcontext():
                logits = forward(batch.images)
            terms = loss(logits, batch.labels, batch.teacher, progress)
            if in_pieces:
                share = _share_that_counts(batch.labels) / self.shares.steps
                if isinstance(share, Tensor):
                    counting.append(share)
                terms = _each(terms, lambda term, share=share: term * share)
            if not done:
                self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(terms.total).backward()
            done.append(StepPart(logits.detach(), batch.labels, _each(terms, Tensor.detach)))
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

    def _over_all_that_count(self, done: Sequence[StepPart], counting: Tensor) -> list[StepPart]:
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
        """The learning rate of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    def averaged(self) -> nn.Module:
        """The moving average of the weights, where there is one; else the model."""
        return self.model if self.ema is None else self.ema.module

    def seconds_since_save(self) -> float:
        """Seconds since the resume point was written."""
        return time.monotonic() - self.saved_at

    def save(self, recent: RecentSamples) -> None:
        """Write the resume point; all ranks give what they have."""
        measured = recent.states()
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
            "recent": measured,
        }
        resume.save(self.path, state)

    def load(self, recent: RecentSamples) -> None:
        """Take up the resume point if there is one.

        Raises:
            UserError: the file is damaged, or of another network or optimiser.
        """
        if not self.path.exists():
            return
        try:
            state = resume.load(self.path, self.device)
            self._restore(state)
            recent.restore(state["recent"])
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


def _share_that_counts(labels: Tensor) -> float | Tensor:
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
    soft = config.loss.soft
    if shares.shared and config.loss.alpha > 0 and config.loss.soft_term.compares_samples:
        expected = f"another one for a batch that {shares.world} ranks share, since {soft} compares its samples"
        way_out = f"Set --schedule.parts {shares.world}: it then compares those of a part, on one rank or more."
        raise UserError("loss.soft", soft, expected, way_out)


def _device_rng(device: str) -> Any:
    return {"cuda": torch.cuda, "mps": torch.mps}[device]
