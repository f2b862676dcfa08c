"""Run stages in a process of the pool, one after another, and report progress to the parent."""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from distill.errors import UserError
from distill.pipeline.executors.failures import one_line, open_log
from distill.store.record import LOG_HEAD
from distill.system.progress import report_to

FOR_PARENT = (signal.SIGINT, signal.SIGHUP)
"""Signals that reach every process of a terminal."""
_GRACE_SECONDS = 5.0
"""Seconds that a worker may take to save its state after its parent was killed."""


class Ended(NamedTuple):
    """Tell that a stage has ended in a worker."""

    error: Exception | None = None
    """Why the stage failed; None when its artifact was made."""


def work(pipe: Connection, run: Callable[[Any], object], bars: bool) -> None:
    """Run each (stage, log) that comes through the pipe, until the pipe is closed.

    SIGTERM ends the process, after the state of a network in training (`distill.training.loop.fit`) is saved.
    """
    # The parent decides what these mean: SIGTERM to its workers, or nothing.
    for number in FOR_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_PARENT)
    signal.signal(signal.SIGTERM, _exit_once)
    threading.Thread(target=_follow_parent, daemon=True).start()
    faulthandler.enable()  # says where native code crashed
    lock = threading.Lock()

    def send(message: object) -> None:
        # If the parent is gone, a training must not lose its state by this error.
        with lock, suppress(OSError):
            pipe.send(message)

    report_to(send, bars)
    try:
        while True:
            stage, log = pipe.recv()
            ended = run_logged(run, stage, log)
            if _told:  # native code turned the SystemExit into another error
                _leave(128 + _told[0])
            send(ended)
    except EOFError:
        pass  # the parent has no more stages, or is gone
    except SystemExit as stop:
        _leave(stop.code if isinstance(stop.code, int) else int(stop.code is not None))


_told: list[int] = []
"""The signal that is to end this process, if one came."""


def _exit_once(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    _told.append(number)
    sys.exit(128 + number)


def _leave(exit_code: int) -> NoReturn:
    # Leave at once: the state is on the disk, and unloading torch can last longer than the parent waits. The
    # children of this process, which make views, must not outlive it: the parent would wait for them.
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(exit_code)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # The parent was killed outright, and nobody waits for a result. A training saves its state on SIGTERM.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)


def run_logged(run: Callable[[Any], object], stage: Any, log: Path) -> Ended:
    """Run a stage; write its output, and the traceback of an error that is no user's mistake, to its log."""
    with _written_to(log):
        try:
            run(stage)
            return Ended()
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            try:
                crossed = pickle.loads(pickle.dumps(error))
                assert isinstance(crossed, Exception)
            except Exception:
                return Ended(RuntimeError(one_line(error)))
            return Ended(crossed)


@contextmanager
def _written_to(log: Path) -> Iterator[None]:
    """Send stdout and stderr, even of native code, to a file; delete the file if nothing comes."""
    try:
        file = open_log(log)
    except OSError:  # the stage explains better that the store cannot be written; or the log is a link or a pipe
        yield
        return
    before = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # whatever the locale of the terminal, a log is UTF-8
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, io.UnsupportedOperation):
                stream.flush()
        empty = os.fstat(file).st_size <= len(LOG_HEAD)
        for descriptor, kept in zip((1, 2), before, strict=True):
            os.dup2(kept, descriptor)
            os.close(kept)
        os.close(file)
        if empty:
            log.unlink(missing_ok=True)
