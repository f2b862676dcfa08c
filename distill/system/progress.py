"""Draw progress bars; a worker sends its progress to its parent, which draws it."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from tqdm import tqdm

from distill.errors import printable

_SECONDS_BETWEEN = 0.5
"""Least seconds between two reports of a worker's bar."""
_TITLE_CHARACTERS = 60


class Report(NamedTuple):
    """Tell the parent how far a worker's bar is."""

    description: str
    n: float
    total: float | None
    postfix: str


class Warned(NamedTuple):
    """Tell the parent a warning, which it shows on its terminal."""

    kind: str
    text: str


class Told(NamedTuple):
    """Tell the parent a line that is no warning, which the parent shows on its terminal once."""

    text: str


Message = Report | Warned | Told
to_parent: Callable[[Message], object] | None = None
"""Function that sends a message to the parent; None in a process that has no parent to report to."""
sends_bars = False
"""Whether the parent wants reports of bars, and not only warnings."""


def bar(*arguments: Any, **keywords: Any) -> tqdm[Any]:
    """Return `tqdm(...)`, or in a worker a bar that draws nothing and reports at most twice a second.

    With `disable=None` a worker's bar always reports: only the parent knows whether its output is a terminal. In a
    notebook, which is no terminal, the bar is drawn.
    """
    if "ipykernel" in sys.modules and keywords.get("disable", False) is None:
        keywords["disable"] = False
    if to_parent is None or not sends_bars:
        return tqdm(*arguments, **keywords)
    return _Reporting(to_parent, *arguments, **keywords)


def report_to(send: Callable[[Message], object], bars: bool = True) -> None:
    """Send the warnings of this process as messages, and its progress bars too if `bars` is true."""
    global to_parent, sends_bars
    tqdm.monitor_interval = 0  # start no thread that refreshes bars
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is a semaphore, which a killed worker would leave behind
    to_parent, sends_bars = send, bars


def pass_on(message: Message) -> bool:
    """Send a message to the parent; return False in a process that has no parent to report to."""
    if to_parent is None:
        return False
    to_parent(message)
    return True


def write_line(text: str) -> None:
    """Print a line on stderr, above the progress bars, with escapes for what a terminal would obey.

    Where stderr is closed or full, the line is lost and the work goes on.
    """
    with suppress(OSError):
        tqdm.write(printable(text), file=sys.stderr)


def tell(text: str) -> None:
    """Print a line on stderr, above the progress bars; a worker's parent prints it."""
    if not pass_on(Told(text)):
        write_line(text)


class _Reporting(tqdm):
    """Send to the parent what a bar on a terminal would draw."""

    def __init__(self, send: Callable[[Message], object], *arguments: Any, **keywords: Any):
        self._send = send
        disable = keywords.get("disable") or False
        replaced = {"disable": disable, "file": io.StringIO(), "mininterval": _SECONDS_BETWEEN}
        super().__init__(*arguments, **keywords | replaced)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        if msg is None:  # with a message the bar is being cleared
            self._send(Report((self.desc or "").removesuffix(": "), self.n, self.total, self.postfix or ""))
        return True


class Lines:
    """Draw a progress line for a whole graph, and below it one for each stage that runs; only on a terminal.

    Args:
        stages: number of stages in the graph.
        show: False draws nothing, even on a terminal.
        delay: seconds before the line of the graph is drawn, which spares short runs the line.
    """

    def __init__(self, stages: int, show: bool, delay: float = 2):
        drawn: dict[str, Any] = {"position": 0, "mininterval": 0, "miniters": 1, "disable": None if show else True}
        self._graph: tqdm[Any] = tqdm(total=stages, desc="all", unit="stage", delay=delay, **drawn)
        self.running: dict[str, tqdm[Any]] = {}
        """Name of each running stage → its line."""
        self._told: set[str] = set()

    @property
    def shown(self) -> bool:
        """Tell whether progress lines are drawn, as they are only on a terminal."""
        return not self._graph.disable

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.running.values():
            line.close()
        self._graph.close()

    def start(self, name: str) -> None:
        """Open a stage's progress line, on the first free line of the terminal."""
        if self.shown:
            title = name if len(name) <= _TITLE_CHARACTERS else f"{name[: _TITLE_CHARACTERS - 1]}…"
            self.running[name] = tqdm(desc=title, leave=False, bar_format="{desc}")

    def show(self, name: str, report: Report) -> None:
        """Draw what the worker of a stage reported."""
        if (line := self.running.get(name)) is None:
            return
        if line.bar_format or line.total != report.total or line.n > report.n:  # another bar of the same stage
            line.bar_format = None
            line.reset(report.total)
            line.initial = report.n
        line.n = report.n
        line.set_postfix_str(f"{report.description} {report.postfix}".strip(), refresh=False)
        line.refresh()

    def tell(self, text: str) -> None:
        """Print a line above the progress lines, once, even if several workers send the same line."""
        if text not in self._told:
            self._told.add(text)
            tell(text)

    def end(self, name: str, failed: int) -> None:
        """Clear the line of a stage that has ended, and count it; `failed` is the number of all failed stages."""
        if (line := self.running.pop(name, None)) is not None:
            line.close()
        if failed:
            self._graph.set_postfix_str(f"{failed} failed", refresh=False)
        self._graph.update()
