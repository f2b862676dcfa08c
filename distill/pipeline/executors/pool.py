"""Run the stages of a graph side by side, in processes of one machine.

Small nets gain little from more threads: two of them on one thread each are done sooner than one after the other
on two threads. A stage starts as soon as its inputs exist.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Pipe, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from distill.pipeline.executors.failures import Failure, WorkerDied, log_file
from distill.pipeline.executors.signals import signals_raise
from distill.pipeline.executors.stage_graph import Graph, Work, show_message
from distill.pipeline.executors.worker import FOR_PARENT, Ended, work
from distill.system.progress import Lines, Message

_GRACE_SECONDS = 30.0
"""Seconds that workers may take to save their state after an interrupt; a second interrupt does not wait."""
_IDLE_SECONDS = 2.0
"""Seconds that a worker without further work may take to end."""


def run_pool(graph: Graph[Work], jobs: int) -> dict[str, Failure]:
    """Run every stage after its inputs, `jobs` at a time, each in a worker process, and return the failures.

    A worker that dies fails the stage that it ran, and another worker takes its place.

    Raises:
        KeyboardInterrupt, SystemExit: on SIGINT, SIGTERM or SIGHUP. Stages that have not started are dropped,
            training networks save their state and stop, and finished stages are kept.
    """
    with signals_raise(), Lines(len(graph.stages), graph.show) as lines, _workers() as workers:
        while graph.open:
            for name in graph.ready()[: jobs - len(graph.running)]:
                worker = next((each for each in workers if each.is_free), None)
                if worker is None:
                    workers.append(worker := _start(graph.run, lines.shown))
                worker.take(name, graph.start(name), log_file(graph.logs, name))
                lines.start(name)
            busy = {worker.pipe: (name, worker) for worker in workers if (name := worker.runs) is not None}
            for pipe in wait(list(busy)):
                name, worker = busy[pipe]
                match worker.receive():
                    case Ended(error):
                        graph.end(name, error, lines)
                    case message:
                        show_message(name, message, lines)
    return graph.failures


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Any
    """Connection to the worker; on Windows it has another type."""
    runs: str | None = None
    """Name of the stage that the worker runs; None once that stage has ended."""

    @property
    def is_free(self) -> bool:
        return self.runs is None and self.process.is_alive()

    def take(self, name: str, stage: Any, log: Path) -> None:
        self.runs = name
        with suppress(OSError):  # the worker has just died, which `receive` will report
            self.pipe.send((stage, log))

    def receive(self) -> Message | Ended:
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(_GRACE_SECONDS)
            self.process.kill()
            self.process.join()
            message = Ended(WorkerDied(self.process.exitcode or 0))
        if isinstance(message, Ended):
            self.runs = None
        return message


def _start(run: Callable[[Any], object], bars: bool) -> _Worker:
    # spawn, because a forked child would share the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    ours, its = Pipe()
    # The process is no daemon, because it may have children that load data.
    process = context.Process(target=work, args=(its, run, bars), daemon=False)
    # Ctrl-C and a closed terminal reach the worker too, and are blocked until it ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_PARENT)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    its.close()
    return _Worker(process, ours)


@contextmanager
def _workers() -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    grace = _IDLE_SECONDS
    try:
        yield workers
        for worker in workers:
            worker.pipe.close()
    except BaseException:
        grace = _GRACE_SECONDS
        for worker in workers:
            worker.process.terminate()
        raise
    finally:
        try:
            until = time.monotonic() + grace
            for worker in workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
