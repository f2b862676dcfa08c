"""A process of the pool: runs one stage after another, and tells its parent how far it is."""

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
from distill.system.progress import report_to

_GRACE_SECONDS = 5.0
"""How long a worker without a parent may take to save its state."""


class Ended(NamedTuple):
    """What a worker says of a stage that it ran."""

    error: Exception | None = None
    """None when the stage is made."""


def work(pipe: Connection, run: Callable[[Any], object], bars: bool) -> None:
    """Run what comes through the pipe, (stage, log) each, until it is closed.

    SIGTERM ends the process, once the state of a network that is trained (`training.loop.fit`) is saved.
    """
    # Ctrl-C reaches every process of the terminal. The parent says what it means, by SIGTERM, or ignores it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, _exit_once)
    threading.Thread(target=_follow_parent, daemon=True).start()
    faulthandler.enable()  # where native code crashed
    lock = threading.Lock()

    def send(message: object) -> None:
        # Without a parent: what trains must not lose its state by that.
        with lock, suppress(OSError):
            pipe.send(message)

    report_to(send, bars)
    try:
        while True:
            stage, log = pipe.recv()
            ended = run_logged(run, stage, log)
            if _told:  # native code made another error of the exit
                _leave(128 + _told[0])
            send(ended)
    except EOFError:
        pass  # the parent needs no more, or is gone
    except SystemExit as stop:
        _leave(stop.code if isinstance(stop.code, int) else int(stop.code is not None))


_told: list[int] = []
"""The signal that is to end this process."""


def _exit_once(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    _told.append(number)
    sys.exit(128 + number)


def _leave(exit_code: int) -> NoReturn:
    # At once: what was saved is on the disk, and to take torch apart can last longer than who stops it waits. Nor
    # may its own children, which make views, outlive it: the parent would wait for them.
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
        # The parent was killed outright: what trains saves its state, and nobody waits for a result.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)


def run_logged(run: Callable[[Any], object], stage: Any, log: Path) -> Ended:
    """Run a stage; what it writes goes to its log, and so does the traceback of what is no user's mistake."""
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
    """Send stdout and stderr, of native code too, to a file that is deleted when it stays empty."""
    try:
        file = open_log(log)
    except OSError:  # the store cannot be written, which the stage will say better, or it is no file of ours
        yield
        return
    before = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, io.UnsupportedOperation):
                stream.flush()
        empty = os.fstat(file).st_size == 0
        for descriptor, kept in zip((1, 2), before, strict=True):
            os.dup2(kept, descriptor)
            os.close(kept)
        os.close(file)
        if empty:
            log.unlink(missing_ok=True)
