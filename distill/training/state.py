"""Hold the state of a training run, and save it to and restore it from a resume point."""

from __future__ import annotations

import random
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from distill.config import StudentConfig, TeacherConfig
from distill.data.batch_share import BatchShare
from distill.errors import UserError
from distill.store.machine_errors import memory_fault
from distill.system import ranks
from distill.training import draft_files, resume
from distill.training.optim import build_ema, build_optimizer, build_schedule
from distill.training.recent_samples import RecentSamples


class Run:
    """Hold the state of a training run, everything that changes with its steps, and its resume point on disk.

    Args:
        model: network on its device, with its initial weights.
        config: optimiser, schedule, precision and seed.
        steps_per_epoch: number of steps in an epoch.
        path: file of the resume point.
        data: fingerprint of the images, which an interrupted run must find again.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TeacherConfig | StudentConfig,
        steps_per_epoch: int,
        path: Path,
        data: str = "",
    ):
        self.model, self.config, self.path, self.data = model, config, path, data
        self.device = next(model.parameters()).device.type
        self.optimizer = build_optimizer(model, config.optim)
        self.schedule = build_schedule(self.optimizer, config.schedule, steps_per_epoch)
        self.ema = build_ema(model, config.ema) if config.ema is not None else None
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.amp = None if config.precision == "float32" else getattr(torch, config.precision)
        self.scaler = torch.amp.GradScaler(self.device, enabled=config.precision == "float16")
        if config.precision == "float16":
            _refuse_other_weights(config, self.parameters)
        self.step, self.total_steps = 0, steps_per_epoch * config.schedule.epochs
        self.saved_at = time.monotonic()
        self.share = BatchShare.here(config.schedule.parts)

    @property
    def progress(self) -> float:
        """Return how far training is at the next step: 0 at the first step, 1 at the last step."""
        return self.step / max(1, self.total_steps - 1)

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context in which the forward pass has the precision of the config."""
        return nullcontext() if self.amp is None else torch.autocast(self.device, dtype=self.amp)

    def clip_gradients(self) -> None:
        """Clip the gradients to the norm that the config allows, if it sets one."""
        if self.config.optim.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.config.optim.clip)

    def update(self) -> None:
        """Update the weights, the count of steps, the learning rate and the moving average of weights."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.schedule.step_update(self.step)
        if self.ema is not None:
            self.ema.update(self.model, step=self.step)

    @property
    def lr(self) -> float:
        """Return the learning rate of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    def averaged(self) -> nn.Module:
        """Return the model with averaged weights where there is an average, else the model itself."""
        return self.model if self.ema is None else self.ema.module

    def seconds_since_save(self) -> float:
        """Return the seconds since the resume point was last written, or since the start."""
        return time.monotonic() - self.saved_at

    def save(self, recent: RecentSamples) -> None:
        """Write the resume point; all ranks must call this method."""
        measured = recent.states()
        # Apart from the recent measures, the state of the first rank holds for all ranks.
        if ranks.is_first():
            self.write(measured)
        self.saved_at = time.monotonic()

    def write(self, measured: list[dict[str, Any]]) -> None:
        """Write the resume point of all ranks, from one rank.

        Args:
            measured: result of `RecentSamples.states`, an item per rank.
        """
        state: dict[str, Any] = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "buffers": _unsaved_buffers(self.model),
            "ema_buffers": None if self.ema is None else _unsaved_buffers(self.ema.module),
            "rng": torch.get_rng_state(),
            # A network of the user may draw from these generators too.
            "python_rng": random.getstate(),
            "numpy_rng": _numpy_state(),
            "device_rng": _device_rng(self.device).get_rng_state() if self.device != "cpu" else None,
            # The number of threads decides in which order sums are rounded.
            "threads": torch.get_num_threads(),
            "ranks": self.share.world,
            "recent": measured,
            "data": self.data,
            "files": draft_files.digests(self.path.parent),
        }
        resume.save(self.path, state)

    def load(self, recent: RecentSamples) -> None:
        """Restore the state from the resume point if there is one.

        Raises:
            UserError: the file is damaged, belongs to another network or optimiser or to other images, or files
                beside it have changed.
        """
        if not self.path.exists():
            return
        try:
            state = resume.load(self.path, self.device)
            self._check(state)
            self._restore(state)
            recent.restore(state["recent"])
        except Exception as error:
            if isinstance(error, OSError | UserError) or memory_fault(error, self.config):
                raise  # such an error says nothing about the file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            way_out = "Delete this file: the run then starts anew."
            raise UserError(str(self.path), reason, "a resume point of ours", way_out) from error

    def _check(self, state: dict[str, Any]) -> None:
        if state["data"] != self.data:
            way_out = f"Bring them back, or delete {self.path.parent}: the run then starts anew."
            raise UserError("data", self.data, f"the images of the interrupted run ({state['data']})", way_out)
        draft_files.check(self.path.parent, state["files"])

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        _restore_buffers(self.model, state["buffers"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
            _restore_buffers(self.ema.module, state["ema_buffers"])
        random.setstate(state["python_rng"])
        kind, words, *rest = state["numpy_rng"]
        np.random.set_state((kind, words.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(state["rng"].cpu())
        if self.device != "cpu":
            _device_rng(self.device).set_rng_state(state["device_rng"].cpu())
        if state["ranks"] == self.share.world:
            torch.set_num_threads(state["threads"])
        self.step = state["step"]
        self.schedule.step_update(self.step)


def _refuse_other_weights(config: TeacherConfig | StudentConfig, weights: list[nn.Parameter]) -> None:
    """Refuse weights whose gradients cannot be scaled, as training in float16 has to."""
    if other := {weight.dtype for weight in weights} - {torch.float32, torch.float64}:
        expected = f"another one for {config.model.name}, which has weights of {', '.join(map(str, other))}"
        raise UserError("precision", config.precision, expected, "Set `precision=bfloat16`.")


def _numpy_state() -> tuple[Any, ...]:
    """Return the state of numpy's old generator, with its words as a tensor."""
    kind, words, *rest = cast(tuple[Any, ...], np.random.get_state())  # noqa: NPY002
    return kind, torch.from_numpy(words.astype(np.int64)), *rest


def _unsaved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a state dict leaves out (`persistent=False`)."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def _restore_buffers(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    for name, buffer in buffers.items():
        module, _, own = name.rpartition(".")
        setattr(model.get_submodule(module), own, buffer)


def _device_rng(device: str) -> Any:
    return {"cuda": torch.cuda, "mps": torch.mps}[device]
