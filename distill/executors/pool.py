"""Runs the stages of a graph side by side, in processes of one machine.

Small nets gain little from more threads: two of them on one thread each are done sooner than one after the
other on two. A stage starts as soon as its inputs are there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

from distill.errors import UserError

Stage = TypeVar("Stage")

_GRACE_SECONDS = 5.0
"""How long a worker without a parent may take to save its state."""


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
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_prepare_worker)
    try:
        _exit_on_sigterm()
        while needs or running:
            # No more than run at once: what is handed to the pool can no longer be called back.
            ready = [name for name, waiting in needs.items() if not waiting]
            for name in ready[: jobs - len(running)]:
                del needs[name]
                running[pool.submit(run, stages[name])] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                future.result()
                done(name)
                for waiting in needs.values():
                    waiting.discard(name)
    except BrokenProcessPool as error:
        way_out = "It may have run out of memory: lower --jobs. Run the same command again to go on."
        raise UserError("worker", "killed", "a worker that lives", way_out) from error
    except BaseException:
        _stop(pool)
        raise
    pool.shutdown()


def _exit_on_sigterm() -> None:
    # By default SIGTERM ends a process at once: a parent would leave its workers behind, a worker its queues.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def _prepare_worker() -> None:
    # Ctrl-C reaches every process of the terminal. A worker that trains saves its state and stops (trainer);
    # an idle one leaves it to the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _exit_on_sigterm()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # The parent was killed outright: what trains saves its state, and nobody waits for a result.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)


def _stop(pool: ProcessPoolExecutor) -> None:
    for process in list(pool._processes.values()):
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGTERM)
    with suppress(Exception):
        pool.shutdown(cancel_futures=True)
