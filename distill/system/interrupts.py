"""Handle SIGINT and SIGTERM between two training steps, where the state is whole, at the same step on all ranks."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from distill.system import ranks

_SECONDS = 0.1
"""Seconds between two agreements of the ranks: longer than a step may take, and short for a user who waits."""


class Interrupts:
    """Turns SIGINT and SIGTERM into a flag that is read between two steps.

    Under torchrun, signals reach the ranks at different steps, and only the clock of the first rank says when to
    save. So the ranks agree on the signal, on saving, and on the step of their next agreement.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.pending: int | None = None
        """Number of the signal that reached this process; None if none did."""
        self._agreed: int | None = None
        self._before: dict[int, Any] = {}
        self._at_once = False
        self._step, self._next, self._asked_at = -1, 0, time.monotonic()

    def __enter__(self) -> Interrupts:
        try:
            obeyed = [number for number in self._SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in obeyed}
        except ValueError:  # this is not the main thread, whose owner decides about signals
            self._before = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self._agreed = self.pending
            self.raise_pending()

    def _note(self, number: int, _frame: object) -> None:
        self.pending = number
        if self._at_once:
            self._at_once, self._agreed = False, number
            self.raise_pending()

    @contextmanager
    def at_once(self, save: Callable[[], object]) -> Iterator[None]:
        """Let a signal inside the block end the training at once, after `save`.

        Use it for work that takes long and leaves the training state as it is.
        """
        self._at_once = bool(self._before)
        try:
            if self._at_once and self.pending:  # a signal came just before the block
                self._note(self.pending, None)
            yield
        except (KeyboardInterrupt, SystemExit):
            save()
            raise
        finally:
            self._at_once = False

    def save_now(self, step: int, is_due: bool, last: bool = False) -> bool:
        """Tell whether to save the state after this step: a signal came, or a save is due on the first rank.

        Args:
            step: number of steps done.
            is_due: whether the last time was long ago.
            last: whether this is the last step of its epoch, after which the ranks always agree.
        """
        if ranks.world() == 1:
            self._agreed = self.pending
            return self._agreed is not None or is_due
        if step < self._next and not last:
            return False
        now = time.monotonic()
        each = (now - self._asked_at) / max(1, step - self._step)
        wait = max(1, min(1000, int(_SECONDS / max(each, 1e-9)))) if ranks.is_first() else 0
        asked = torch.tensor([self.pending or 0, is_due and ranks.is_first(), wait])
        ranks.reduce_max(asked)
        self._agreed, due, wait = asked.tolist()
        self._step, self._next, self._asked_at = step, step + wait, now
        return bool(self._agreed or due)

    def raise_pending(self) -> None:
        """End the training if the ranks last agreed on a signal; call this after the state is saved.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: after SIGTERM.
        """
        if self._agreed == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self._agreed:
            raise KeyboardInterrupt
