"""Keep track of which stage may run when, and of which stages a failure blocks, for all executors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from distill.pipeline.executors.failures import Failure, log_file
from distill.store.record import LOG_HEAD
from distill.system.progress import Lines, Message, Report, Told
from distill.training.tracking import warn

Work = TypeVar("Work")


class Graph(Generic[Work]):
    """Hold the stages that an executor runs, and which are done; a failure skips only stages that need it.

    Args:
        stages: name → stage, the most wanted first; stages are pickled on their way to another process.
        needs: name → names of its inputs; names that are not in `stages` are taken to exist.
        run: function that runs one stage; after a kill at any moment it may be called again.
        logs: folder for the output of workers, and for the tracebacks of errors that are no user's mistakes.
        show: whether to show progress, if there is a terminal.
    """

    def __init__(
        self,
        stages: Mapping[str, Work],
        needs: Mapping[str, Sequence[str]],
        run: Callable[[Work], object],
        logs: Path,
        show: bool = False,
    ):
        self.stages = dict(stages)
        self.run, self.logs, self.show = run, logs, show
        self.failures: dict[str, Failure] = {}
        """Name of a failed stage → why it failed."""
        self.blocked: set[str] = set()
        """Names of the stages that cannot run because an input has failed."""
        self.running: set[str] = set()
        self._waiting = {name: {other for other in needs.get(name, ()) if other in stages} for name in stages}
        self._position = {name: position for position, name in enumerate(stages)}
        self._needed_by: dict[str, list[str]] = {name: [] for name in stages}
        for name, inputs in self._waiting.items():
            for other in inputs:
                self._needed_by[other].append(name)
        self._ready = {name for name, inputs in self._waiting.items() if not inputs}

    @property
    def open(self) -> bool:
        """Tell whether any stage is still running or ready to start."""
        return bool(self._ready or self.running)

    def ready(self) -> list[str]:
        """List the stages that may start now, in the order of the stages: not started, all inputs finished."""
        return sorted(self._ready, key=self._position.__getitem__)

    def start(self, name: str) -> Work:
        """Note that a ready stage runs, and return the stage."""
        self._ready.remove(name)
        self.running.add(name)
        return self.stages[name]

    def finish(self, name: str) -> None:
        """Note that a running stage is finished: stages that waited only for it become ready."""
        self.running.remove(name)
        for other in self._needed_by[name]:
            self._waiting[other].discard(name)
            if not self._waiting[other] and other not in self.blocked:
                self._ready.add(other)

    def fail(self, name: str, error: Exception, log: Path | None = None) -> None:
        """Note that a running stage failed: stages that need it will not run, the others will."""
        self.running.remove(name)
        blocked = tuple(sorted(self._behind(name), key=self._position.__getitem__))
        self.blocked.update(blocked)
        self.failures[name] = Failure(error, log, blocked)

    def end(self, name: str, error: Exception | None, lines: Lines) -> None:
        """Note that a stage has ended in a worker, with an error or without, and clear its progress line."""
        if error is None:
            self.finish(name)
        else:
            log = log_file(self.logs, name)
            if log.is_file() and log.stat().st_size <= len(LOG_HEAD):  # left by a worker that was killed
                log.unlink()
            self.fail(name, error, log if log.is_file() else None)
        lines.end(name, len(self.failures))

    def _behind(self, name: str) -> set[str]:
        behind: set[str] = set()
        waiting = [name]
        while waiting:
            for other in self._needed_by[waiting.pop()]:
                if other not in behind:
                    behind.add(other)
                    waiting.append(other)
        return behind


def show_message(name: str, message: Message, lines: Lines) -> None:
    """Show the user what a worker reports about a stage: its progress, a line or a warning."""
    if isinstance(message, Report):
        lines.show(name, message)
    elif isinstance(message, Told):
        lines.tell(message.text)
    else:
        warn(message.kind, message.text)
