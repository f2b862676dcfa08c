"""SIGTERM as an exception, so that it passes through what has to be closed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_exits() -> Iterator[Callable[[], None]]:
    """Let SIGTERM raise SystemExit inside the block; what it did before is put back after.

    What it gives raises that again if the signal came: native code may make another error of it on its way.

    By default it ends a process at once: a parent would leave its workers behind. Only the main thread may say
    what a signal does; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []

    def end(number: int, _frame: object) -> None:
        came.append(number)
        end_if_told()

    def end_if_told() -> None:
        if came:
            sys.exit(128 + came[0])

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield end_if_told
    finally:
        # None: a handler that was not set from Python cannot be put back from it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
