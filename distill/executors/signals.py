"""SIGTERM as an exception, so that it passes through what has to be closed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Let SIGTERM raise SystemExit inside the block; what it did before is put back after.

    By default it ends a process at once: a parent would leave its workers behind. Only the main thread may say
    what a signal does; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        # None: a handler that was not set from Python cannot be put back from it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)
