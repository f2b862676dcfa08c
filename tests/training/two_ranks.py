"""What two ranks of torchrun do for `test_step_distributed`, which does the same as one process and compares.

torchrun --standalone --nproc-per-node 2 tests/training/two_ranks.py FOLDER
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
from pathlib import Path

import torch

from distill.config import (
    CacheConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.pipeline.graph import ensure
from distill.pipeline.run import run_stage
from distill.store.store import ArtifactStore
from distill.system import ranks
from distill.system.runtime import Runtime
from distill.training.state import Run
from tests.data import copies
from tests.small import GAPS

DATA = DataConfig(limit=600, held_out=0.1)
OPTIM = OptimConfig(lr=0.05)
SHARED = ScheduleConfig(epochs=4, batch_size=64)
"""Both ranks share each batch."""
PARTED = SHARED.replace(parts=4)
"""Each has two parts of its own."""
MLP = ModelConfig(name="mlp", kwargs={"widths": [32]})
CNN = ModelConfig(name="cnn", kwargs={"widths": [8], "hidden": 16})
"""With batch norm."""
DROPPING = ModelConfig(name="cnn", kwargs={"widths": [8], "hidden": 16, "dropout": 0.3})
TOKENS = copies.DATA
COPYIST = copies.MODEL

TEACHER = TeacherConfig(data=DATA, model=MLP, optim=OPTIM, schedule=SHARED, ema=0.9).with_loss(smoothing=0.1)
CACHE = CacheConfig(teacher=TEACHER, transfer_set=DATA, views=3, augment={"pad": 1})
RUNS = {
    "teacher": TEACHER,
    "student": StudentConfig(cache=CACHE, data=DATA, model=MLP, schedule=SHARED, loss=LossConfig(alpha=0.5)),
    "batch norm of a batch": TeacherConfig(data=DATA, model=CNN, optim=OPTIM, schedule=SHARED),
    "batch norm and dropout of a part": TeacherConfig(data=DATA, model=DROPPING, schedule=PARTED, ema=0.9),
    "layers without a gradient": TeacherConfig(data=DATA, model=GAPS, optim=OPTIM, schedule=SHARED, ema=0.9),
    "tokens in odd parts": TeacherConfig(
        data=TOKENS, model=COPYIST, schedule=SHARED.replace(batch_size=60, parts=3)
    ),
}
RESUMED = TeacherConfig(data=DATA, model=CNN, optim=OPTIM, schedule=PARTED, snapshots=2, seed=1)
ENDLESS = TeacherConfig(data=DATA, model=MLP, schedule=SHARED.replace(epochs=100_000))
HOT = TEACHER.replace(optim=OPTIM.replace(lr=1e30, clip=None))


def runtime(store: Path) -> Runtime:
    return Runtime(store=store, device="cpu", executor="inline", progress=False, min_teacher_accuracy=0, threads=1)


def stop_at(step: int, number: int) -> None:
    """Send this process a signal in the update after so many steps."""
    update = Run.update

    def stopping(self, *arguments):
        if self.step == step:
            Run.update = update
            os.kill(os.getpid(), number)
        return update(self, *arguments)

    Run.update = stopping


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)


def main(folder: Path) -> None:
    where = runtime(folder / "two")
    store = ArtifactStore(where.store)
    assert (ranks.rank(), ranks.world()) == (int(os.environ["RANK"]), 2)
    ensure(RUNS.values(), store, where)
    ensure([HOT], store, where, tolerate_divergence=True)
    if not ranks.is_first():  # the other one has to hear of it
        stop_at(13, signal.SIGINT)
    try:
        run_stage(RESUMED, store, where)
    except KeyboardInterrupt:
        (folder / f"stopped{ranks.rank()}").touch()
    wait_for(folder / "go on")
    run_stage(RESUMED, store, where)
    if ranks.is_first():
        (folder / "done").touch()
    run_stage(ENDLESS, store, where)


if __name__ == "__main__":
    torch.set_num_threads(1)
    atexit.register(gc.freeze)  # as the command does
    main(Path(sys.argv[1]))
