"""Render batches in processes of this machine, ahead of the step that needs them."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from distill.errors import UserError
from distill.system.interrupts import SIGNALS

Start = Literal["fork", "spawn", "forkserver"]
Job = tuple[Int64[np.ndarray, "b"], int]
"""Samples and view of a batch."""

_AHEAD = 2
"""Batches that each process has been asked for; while one is fetched it renders the next."""
_LONGEST_SECONDS = 600.0
"""Longest time, in seconds, that a batch may take."""
_LOOK_SECONDS = 2.0
"""Seconds between two looks whether a process still lives."""
_SEE = "With `workers=0` views are rendered without workers, which shows more."


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Any
    """Connection to the process; on Windows it has another type."""


class Workers:
    """Keep processes that render batches; they end with this object, and with this process.

    Args:
        render: function from (samples, view) to pixels.
        count: number of processes.
        shape: largest shape of a batch.
        dtype: dtype of all pixels.
        start: way to start a process.

    Raises:
        UserError: the machine does not let the processes start.
    """

    def __init__(
        self,
        render: Callable[[Int64[np.ndarray, "b"], int], Tensor],
        count: int,
        shape: Sequence[int],
        dtype: torch.dtype,
        start: Start,
    ):
        self.count, self.rows = count, shape[0]
        workers: list[_Worker] = []
        self.close = Finalize(self, _end, (workers,), exitpriority=10)
        try:
            places = _shared((_AHEAD * count, *shape), dtype, start)
            workers += (_start(render, places, start) for _ in range(count))
        except (OSError, RuntimeError) as error:
            self.close()
            expected = f"a number of processes that this machine can start ({error})"
            way_out = "Lower `workers`; with `workers=0` views are rendered without them."
            raise UserError("workers", count, expected, way_out) from error
        self._places = list(zip(range(len(places)), places, cycle(workers), strict=False))

    def run(self, jobs: Iterable[Job]) -> Iterator[Tensor]:
        """Yield the pixels of each job, in order.

        Raises:
            UserError: a view failed, or a process died or hangs.
        """
        asked: deque[tuple[Tensor, _Worker]] = deque()
        for (number, place, worker), (index, view) in zip(cycle(self._places), jobs, strict=False):
            # A place is read before it is written again.
            done = _fetch(*asked.popleft()) if len(asked) == len(self._places) else None
            try:
                worker.pipe.send((index, view, number))
            except OSError as error:
                raise _death(worker.process) from error
            asked.append((place[: len(index)], worker))
            if done is not None:
                yield done
        while asked:
            yield _fetch(*asked.popleft())


def _shared(shape: Sequence[int], dtype: torch.dtype, start: Start) -> Tensor:
    """Return memory that this process shares with the processes that it starts."""
    if start != "fork":
        return torch.empty(shape, dtype=dtype).share_memory_()
    # Forks share this memory without a file in /dev/shm, where containers have room for 64 MiB.
    numbers = torch.Size(shape).numel()
    return torch.frombuffer(mmap.mmap(-1, numbers * dtype.itemsize), dtype=dtype).view(shape)


def _start(render: Callable[[np.ndarray, int], Tensor], places: Tensor, start: Start) -> _Worker:
    # A pipe for each process and no queue: the end of a process closes its pipe, so its death is seen at once.
    ours, its = Pipe()
    context: Any = multiprocessing.get_context(start)
    process = context.Process(target=_work, args=(its, render, places), daemon=True)
    # Signals are blocked until the process ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads. These children transform images on one thread and take
            # no lock that a thread of this process could hold.
            warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        its.close()
    return _Worker(process, ours)


def _fetch(place: Tensor, worker: _Worker) -> Tensor:
    """Return a copy of the pixels that a process was asked to write to this place."""
    # Looks are counted and not seconds: while this process is stopped (Ctrl-Z), so are its workers.
    for _ in range(int(_LONGEST_SECONDS / _LOOK_SECONDS)):
        if worker.pipe.poll(_LOOK_SECONDS) or not worker.process.is_alive():
            break
    else:
        expected = f"a batch of {len(place)} views within {_LONGEST_SECONDS:g} seconds"
        way_out = "A transform hangs or is slow: mend it, or set `workers=0`, which has no limit."
        raise UserError("worker", f"no answer from process {worker.process.pid}", expected, way_out)
    try:
        error = worker.pipe.recv()
    except (EOFError, OSError) as closed:
        raise _death(worker.process) from closed
    if error is not None:
        raise error
    return place.clone()


def _death(process: BaseProcess) -> UserError:
    process.join(_LOOK_SECONDS)
    code = process.exitcode
    how = f"exit code {code}" if code is None or code >= 0 else f"killed by {signal.Signals(-code).name}"
    way_out = "It may have run out of memory: lower `workers`." if code == -signal.SIGKILL else _SEE
    way_out += " Run the same command again to go on."
    return UserError("worker", how, "a process that lives until all views are rendered", way_out)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
        worker.pipe.close()
    for worker in workers:
        worker.process.join()


def _work(pipe: Connection, render: Callable[[np.ndarray, int], Tensor], places: Tensor) -> None:
    """Render what the pipe asks for, until it is closed."""
    # Ctrl-C, a closed terminal and batch systems tell every process: the parent saves its state first, for which it
    # may need the rest of a step, and then kills its workers.
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(1)  # a fork does not have the threads of its parent, for which torch would wait for ever
    with suppress(EOFError, OSError):  # the parent closed the pipe, or is gone
        while True:
            index, view, number = pipe.recv()
            error = None
            try:
                places[number, : len(index)] = render(index, view)
            except UserError as refused:
                error = refused
            except BaseException as failed:
                error = UserError("worker", f"{type(failed).__name__}: {failed}", "views of a batch", _SEE)
            pipe.send(error)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "it was started by `_start`"
    parent.join()
    os._exit(1)
