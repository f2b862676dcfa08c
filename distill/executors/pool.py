"""Runs the stages of a graph side by side, in processes of one machine.

Small nets gain little from more threads: two of them on one thread each are done sooner than one after the
other on two. A stage starts as soon as its inputs are there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

Stage = TypeVar("Stage")


def run_pool(
    stages: Mapping[str, Stage],
    graph: Mapping[str, Sequence[str]],
    run: Callable[[Stage], None],
    jobs: int,
    done: Callable[[str], object] = lambda _: None,
) -> None:
    """Run every stage after those that it needs, `jobs` at a time.

    When one fails, or the user interrupts, what has not started is dropped and what runs is told to save its
    state and stop; everything finished is kept.

    Args:
        stages: key → stage; what crosses to a worker is pickled.
        graph: key → keys of what it needs; keys that are not in `stages` are taken to be there.
        run: runs one stage, in a worker.
        jobs: number of processes.
        done: called with the key of each stage that is finished.

    Raises:
        Exception: what the first failing stage raised.
    """
    needs = {name: {other for other in graph[name] if other in stages} for name in stages}
    running: dict[Future[None], str] = {}
    # spawn, because a forked child would share the locks of torch's threads.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        while needs or running:
            for name in [name for name, waiting in needs.items() if not waiting]:
                del needs[name]
                running[pool.submit(run, stages[name])] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                future.result()
                done(name)
                for waiting in needs.values():
                    waiting.discard(name)
    except BaseException:
        _stop(pool)
        raise
    pool.shutdown()


def _ignore_interrupts() -> None:
    # Ctrl-C reaches every process of the terminal. A worker that trains saves its state and stops (trainer);
    # an idle one leaves it to the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(pool: ProcessPoolExecutor) -> None:
    for process in list(pool._processes.values()):
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGTERM)
    with suppress(Exception):
        pool.shutdown(cancel_futures=True)
