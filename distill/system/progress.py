"""Draw progress bars; a worker sends its progress to its parent, which draws it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from tqdm import tqdm

_SECONDS_BETWEEN = 0.5
_TITLE = 60


class Report(NamedTuple):
    """The progress of a worker's bar, as sent to the parent."""

    description: str
    n: float
    total: float | None
    postfix: str


class Warned(NamedTuple):
    """A warning of a worker, for whoever reads the terminal."""

    kind: str
    text: str


Message = Report | Warned
_send: Callable[[Message], object] | None = None
_bars_too = False


def bar(*arguments: Any, **keywords: Any) -> tqdm[Any]:
    """Return `tqdm(...)`, or in a worker a bar that draws nothing and reports at most twice a second.

    With `disable=None` a worker's bar always reports: only the parent knows whether its output is a terminal.
    """
    if _send is None or not _bars_too:
        return tqdm(*arguments, **keywords)
    return _Reporting(_send, *arguments, **keywords)


def report_to(send: Callable[[Message], object], bars: bool = True) -> None:
    """Send the warnings of this process as messages, and its progress bars too if `bars` is true."""
    global _send, _bars_too
    tqdm.monitor_interval = 0  # start no thread that refreshes bars
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is a semaphore, which a killed worker would leave behind
    _send, _bars_too = send, bars


def pass_on(message: Message) -> bool:
    """Send a message to the parent; return False in a process that has no parent to report to."""
    if _send is None:
        return False
    _send(message)
    return True


class _Parent(io.TextIOBase):
    """The stand-in for a terminal that a reporting bar writes to."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return len(text)


class _Reporting(tqdm):
    def __init__(self, send: Callable[[Message], object], *arguments: Any, **keywords: Any):
        self._send = send
        super().__init__(*arguments, **keywords | {"file": _Parent(), "mininterval": _SECONDS_BETWEEN})

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        if msg is None:  # with a message the bar is being cleared
            self._send(Report((self.desc or "").removesuffix(": "), self.n, self.total, self.postfix or ""))
        return True


class Lines:
    """A progress line for a whole graph, and one below it for each stage that runs; drawn only on a terminal.

    Args:
        stages: number of stages in the graph.
        show: False draws nothing, even on a terminal.
    """

    def __init__(self, stages: int, show: bool):
        self._graph: tqdm[Any] = tqdm(
            total=stages,
            desc="all",
            unit="stage",
            position=0,
            delay=2,
            mininterval=0,
            miniters=1,
            disable=None if show else True,
        )
        self._stages: dict[str, tqdm[Any]] = {}

    @property
    def shown(self) -> bool:
        """Tell whether the lines are drawn."""
        return not self._graph.disable

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._stages.values():
            line.close()
        self._graph.close()

    def start(self, name: str) -> None:
        """Open the line of a stage, on the first free place."""
        if self.shown:
            taken = {abs(line.pos) for line in self._stages.values()}
            place = next(place for place in range(1, len(taken) + 2) if place not in taken)
            title = name if len(name) <= _TITLE else f"{name[: _TITLE - 1]}…"
            self._stages[name] = tqdm(desc=title, position=place, leave=False, bar_format="{desc}")

    def show(self, name: str, report: Report) -> None:
        """Draw what the worker of a stage reported."""
        if (line := self._stages.get(name)) is None:
            return
        if line.bar_format or line.total != report.total or line.n > report.n:  # another bar of the same stage
            line.bar_format = None
            line.reset(report.total)
            line.initial = report.n
        line.n = report.n
        line.set_postfix_str(f"{report.description} {report.postfix}".strip(), refresh=False)
        line.refresh()

    def end(self, name: str, failed: int) -> None:
        """Clear the line of a stage that has ended, and count it; `failed` is the number of all failed stages."""
        if (line := self._stages.pop(name, None)) is not None:
            line.close()
        if failed:
            self._graph.set_postfix_str(f"{failed} failed", refresh=False)
        self._graph.update()
