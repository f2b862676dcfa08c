"""Turn SIGTERM into an exception, so that open resources are closed on the way out."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_exits() -> Iterator[Callable[[], None]]:
    """Let SIGTERM raise SystemExit inside the block; restore the previous handler after it.

    The block gets a function that raises SystemExit again if the signal came: native code may have turned the first
    one into another error. Outside the main thread nothing changes, because only the main thread may set handlers.
    """
    # By default SIGTERM ends a process at once, and a parent would leave its workers behind.
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
        # `before` is None for a handler that was not set from Python, which Python cannot restore.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
