"""Turn signals into exceptions, so that open resources are closed on the way out."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distill.system.interrupts import SAME_SECONDS, SIGNALS


@contextmanager
def signals_raise() -> Iterator[Callable[[], None]]:
    """Let SIGINT raise KeyboardInterrupt inside the block, and SIGTERM and SIGHUP SystemExit.

    A signal that is ignored stays so. The block gets a function that raises again if a signal came: native code may
    have turned the first exception into another error. Outside the main thread nothing changes, because only the
    main thread may set handlers.
    """
    # By default SIGTERM and SIGHUP end a process at once, and a parent would leave its workers behind.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []
    last = -SAME_SECONDS

    def end(number: int, _frame: object) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= SAME_SECONDS:
            last = now
            came.append(number)
            end_if_told()

    def end_if_told() -> None:
        if came and came[0] == signal.SIGINT:
            raise KeyboardInterrupt
        if came:
            sys.exit(128 + came[0])

    obeyed = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in obeyed}
    try:
        yield end_if_told
    finally:
        for number, handler in before.items():
            # It is None for a handler that was not set from Python, which Python cannot restore.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
