"""Progress bars: of this process, or, where it works for another one, told to that and drawn there."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from tqdm import tqdm

_SECONDS_BETWEEN = 0.5
_TITLE = 60


class Report(NamedTuple):
    """How far the bar of a worker is."""

    description: str
    n: float
    total: float | None
    postfix: str


class Warned(NamedTuple):
    """A warning of a worker, which whoever reads the terminal should see."""

    kind: str
    text: str


Message = Report | Warned
_send: Callable[[Message], object] | None = None
_bars_too = False


def bar(*arguments: Any, **keywords: Any) -> tqdm[Any]:
    """What `tqdm(...)` gives; in a worker a bar that draws nothing and reports at most twice a second.

    With `disable=None` a worker's bar always reports: whether its parent's output is a terminal, the parent knows.
    """
    if _send is None or not _bars_too:
        return tqdm(*arguments, **keywords)
    return _Reporting(_send, *arguments, **keywords)


def report_to(send: Callable[[Message], object], bars: bool = True) -> None:
    """Make what this process warns of messages, and its bars too unless nobody sees them."""
    global _send, _bars_too
    tqdm.monitor_interval = 0  # no thread that refreshes bars
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a worker that is killed would leave behind
    _send, _bars_too = send, bars


def pass_on(message: Message) -> bool:
    """Give a message to the parent; False in a process that works for none."""
    if _send is None:
        return False
    _send(message)
    return True


class _Parent(io.TextIOBase):
    """What a reporting bar takes for its terminal."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return len(text)


class _Reporting(tqdm):
    def __init__(self, send: Callable[[Message], object], *arguments: Any, **keywords: Any):
        self._send = send
        super().__init__(*arguments, **keywords | {"file": _Parent(), "mininterval": _SECONDS_BETWEEN})

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        if msg is None:  # else it is cleared
            self._send(Report((self.desc or "").removesuffix(": "), self.n, self.total, self.postfix or ""))
        return True


class Lines:
    """One line for a whole graph and one below it for each stage that runs; nothing where there is no terminal.

    Args:
        stages: how many there are.
        show: False draws nothing, terminal or not.
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
        """Whether anybody sees them."""
        return not self._graph.disable

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._stages.values():
            line.close()
        self._graph.close()

    def start(self, name: str) -> None:
        """Open the line of a stage, on the first place that is free."""
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
        """Clear the line of a stage that has ended, and count it; so many of all failed."""
        if (line := self._stages.pop(name, None)) is not None:
            line.close()
        if failed:
            self._graph.set_postfix_str(f"{failed} failed", refresh=False)
        self._graph.update()
