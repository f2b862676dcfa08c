"""Run stages in children that can be killed: import all that they need, and fork for each.

Importing torch takes seconds, a fork milliseconds. One order per line on stdin, one answer per line on stdout, both
JSON: see `Order` and `Ended`. It never trains itself: a fork would not survive autograd's threads.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}
"""Names that `sys.addaudithook` gives to changes of a folder; `os.replace` is a rename."""


_LONGEST_SECONDS = 120
"""Seconds after which SIGALRM ends a child that hangs."""
_IMPORTED = (
    *(f"distill.stages.{name}" for name in ("teacher", "cache", "student", "analysis", "calibration", "sweep")),
    *("distill.stages.report", "distill.probes.snapshots", "distill.metrics.diagram"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "torch.utils.tensorboard.writer"),
    *("PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"),
)
"""Modules that stages import only when they run."""


class Order(NamedTuple):
    """A stage to make in a store, and how its process ends before that."""

    stage: str
    store: str
    kill_at: int = 0
    """Number of the change of the store right before which SIGKILL comes; 0 for none."""
    signal: int = 0
    """Signal that is sent from outside; 0 for none."""
    after: float = 0.0
    """Seconds until the signal is sent."""


class Ended(NamedTuple):
    """The way in which a child ended."""

    code: int
    """Exit code, or minus the signal that ended the process."""
    seconds: float
    """Seconds that passed from the fork to the end."""
    since_signal: float
    """Seconds that passed from the signal to the end; 0 without a signal."""
    changes: int
    """Number of changes of the store; 0 for a process that was killed."""
    said: str
    """The last part of what it wrote to stdout and stderr."""


def _count_changes(store: str, kill_at: int) -> list[int]:
    """Count what changes the store, and die before the change `kill_at`."""
    count = [0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS:
            return
        path = arguments[0]
        if isinstance(path, int) or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = Path(os.fsdecode(path))
        # Relative to a folder that is being deleted, or within the store.
        if path.is_absolute() and not path.is_relative_to(store):
            return
        count[0] += 1
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return count


def _run(order: Order, said: Path) -> None:
    """Run an order in the child, which ends here."""
    code = 70
    with said.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            from distill.pipeline.graph import ensure
            from distill.store.store import ArtifactStore
            from distill.system.runtime import Runtime

            # Saves often: a kill at any moment then finds a resume point, and perhaps half of the next one.
            runtime = Runtime(
                store=Path(order.store),
                device="cpu",
                executor="inline",
                jobs=1,
                threads=1,
                workers=0,
                progress=False,
                min_teacher_accuracy=0,
                checkpoint_seconds=0.005,
            )
            config = tiny.stages()[order.stage]
            count = _count_changes(order.store, order.kill_at)
            ensure([config], ArtifactStore(runtime.store), runtime)
            said.with_suffix(".count").write_text(str(count[0]))
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 71
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def _carry_out(order: Order) -> Ended:
    said = Path(f"{order.store}.said")
    for path in (said, said.with_suffix(".count")):
        path.unlink(missing_ok=True)
    reading, writing = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        signal.alarm(_LONGEST_SECONDS)
        _run(order, said)
    os.close(writing)
    sent = 0.0
    if order.signal:
        select.select(
            [reading], [], [], order.after
        )  # or until the child has ended, and its end of the pipe with it
        sent = time.perf_counter()
        os.kill(child, order.signal)  # who has ended is not yet waited for, so the number is still its own
    _, status = os.waitpid(child, 0)
    ended = time.perf_counter()
    os.close(reading)
    count = said.with_suffix(".count")
    return Ended(
        os.waitstatus_to_exitcode(status),
        ended - started,
        ended - sent if sent else 0.0,
        int(count.read_text() or 0) if count.exists() else 0,  # empty: killed while it was written
        said.read_text()[-2000:] if said.exists() else "",
    )


def _warm() -> None:
    """Import what stages import when they run, and render one figure, so that no child has to."""
    for name in _IMPORTED:
        import_module(name)
    from matplotlib.figure import Figure

    from distill.data.sets.load import load
    from distill.models import build_model, check_model
    from distill.reports import experiment_files
    from distill.reports.experiment import Label, Table
    from distill.store.provenance import provenance
    from distill.system.runtime import Runtime
    from distill.training import train
    from distill.training.optim import build_ema, build_optimizer, build_schedule

    import_module("torch").set_num_threads(1)
    provenance(Runtime(device="cpu"))
    experiment_files.load_experiment = {tiny.NAME: tiny}.__getitem__  # pyright: ignore[reportAttributeAccessIssue]
    data, config = load(tiny.TEACHER.data, Path("nowhere")), tiny.TEACHER
    check_model(config.model, len(data.classes), data.shape, data.label_shape)
    model = build_model(config.model, len(data.classes), data.shape)
    build_schedule(build_optimizer(model, config.optim), config.schedule, 1)
    build_ema(model, 0.9)
    for name in ("calibration_figure", "confidence_figure"):  # each takes longer than a training
        setattr(train, name, lambda *_: Figure(figsize=(1, 1), dpi=10))
    tiny.draw(Table({Label("teacher", 0): {"accuracy": 1.0}}))["accuracy"].savefig(os.devnull, format="svg")


if __name__ == "__main__":
    from tests.faults import tiny

    _warm()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_carry_out(Order(*json.loads(line)))), flush=True)
    os._exit(0)  # taking down what was imported takes seconds
