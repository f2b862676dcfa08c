"""End a process that was told twice to end, even where it is stuck in native code."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time
from contextlib import suppress

from distill.system.interrupts import SAME_SECONDS, SIGNALS

_TEXT = b"\nended at once; run the same command again to go on from what was saved last\n"


def end_at_second_signal() -> None:
    """Let the second SIGINT, SIGTERM or SIGHUP end this process and its children, without waiting for anything.

    The first one lets the process save its state. Signals that are ignored do not count.
    """
    # Python runs handlers of signals between two of its own instructions: never, while native code waits for what
    # does not come. So a thread reads the numbers of the signals from a pipe.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()


def _watch(numbers: int) -> None:
    first = None
    while number := os.read(numbers, 1):
        if number[0] in SIGNALS:
            now = time.monotonic()
            first = first or now
            if now - first >= SAME_SECONDS:
                _leave(128 + number[0])


def _leave(exit_code: int) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:  # a terminal that is stopped would be waited for
            os.write(2, _TEXT)
    os._exit(exit_code)
