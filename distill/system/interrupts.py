"""End a training after a signal: between two steps, where its state is whole, on all ranks together."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distill.system import ranks

_SECONDS = 0.1
"""Seconds between two agreements of the ranks: longer than a step may take, and short for a user who waits."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which a user, a batch system or a closed terminal ends a process."""
SAME_SECONDS = 0.5
"""Seconds within which further signals are the first one again: a terminal and a wrapper may both send it."""


class Interrupts:
    """Note SIGINT, SIGTERM and SIGHUP while the block runs, so that they are obeyed between two steps.

    A second signal is obeyed at once.

    Under torchrun, signals reach the ranks at different steps, and only the clock of the first rank says when to
    save. So the ranks agree on the signal, on saving, and on the step of their next agreement.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        """Number of the signal that reached this process first."""
        self._received_at = 0.0
        self._agreed: int | None = None
        """Number of the signal that all ranks are to obey."""
        self._obeys_at_once = False
        self._handlers: dict[int, Any] = {}
        self._step, self._next, self._asked_at = -1, 0, time.monotonic()

    def __enter__(self) -> Interrupts:
        obeyed = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        with suppress(ValueError):  # outside the main thread, whose owner decides about signals
            self._handlers = {number: signal.signal(number, self._receive) for number in obeyed}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self._agreed = self._received
            self.raise_signal()

    def _receive(self, number: int, _frame: object = None) -> None:
        now = time.monotonic()
        if self._received is None:
            self._received, self._received_at = number, now
        if self._obeys_at_once or now - self._received_at >= SAME_SECONDS:
            self._obeys_at_once, self._agreed = False, number
            self.raise_signal()

    @contextmanager
    def obeyed_at_once(self, save: Callable[[], object]) -> Iterator[None]:
        """Inside this block, let SIGINT or SIGTERM break off the work at once, call `save`, and end the training.

        Use it for work that takes long and leaves the training state as it is.
        """
        self._obeys_at_once = bool(self._handlers)
        try:
            if self._obeys_at_once and self._received:  # a signal came just before the block
                self._receive(self._received)
            yield
        except (KeyboardInterrupt, SystemExit):
            save()
            raise
        finally:
            self._obeys_at_once = False

    def should_save(self, step: int, is_due: bool, last_of_epoch: bool = False) -> bool:
        """Tell whether to save the training state after this step, because a signal came or a save is due.

        Args:
            step: number of steps done.
            is_due: whether the last save was long ago; only the answer of the first rank counts.
            last_of_epoch: whether this is the last step of its epoch, after which the ranks always agree.
        """
        if ranks.world() > 1 and step < self._next and not last_of_epoch:
            return False
        now = time.monotonic()
        seconds_per_step = (now - self._asked_at) / max(1, step - self._step)
        wait = max(1, min(1000, int(_SECONDS / max(seconds_per_step, 1e-9)))) if ranks.is_first() else 0
        votes = ranks.gather((self._received or 0, is_due and ranks.is_first(), wait))
        self._agreed, due, wait = map(max, zip(*votes, strict=True))
        self._step, self._next, self._asked_at = step, step + wait, now
        return bool(self._agreed or due)

    def raise_signal(self) -> None:
        """End the training if the ranks agreed on a signal; call this after the state is saved.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: after SIGTERM or SIGHUP.
        """
        if self._agreed == signal.SIGINT:
            raise KeyboardInterrupt
        if self._agreed:
            raise SystemExit(128 + self._agreed)
