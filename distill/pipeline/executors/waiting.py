"""Keep track of which stage may run when, and of which stages a failure blocks; all executors use this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from distill.pipeline.executors.failures import Failure

__all__ = ["Failure", "Graph"]
Work = TypeVar("Work")


class Graph(Generic[Work]):
    """The state of a graph of stages while it is run.

    Args:
        stages: name → stage, the most wanted first.
        needs: name → names of its inputs; names that are not in `stages` are taken to exist.
    """

    def __init__(self, stages: Mapping[str, Work], needs: Mapping[str, Sequence[str]]):
        self.stages = dict(stages)
        self.failures: dict[str, Failure] = {}
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
        """Tell whether a stage is running or ready to start."""
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
        blocked = tuple(sorted(set(self._behind(name)), key=self._position.__getitem__))
        self.blocked.update(blocked)
        self.failures[name] = Failure(error, log, blocked)

    def _behind(self, name: str) -> Iterator[str]:
        seen = {name}
        found = [name]
        while found:
            for other in self._needed_by[found.pop()]:
                if other not in seen:
                    seen.add(other)
                    found.append(other)
                    yield other
