"""Define a graph whose stages are names, and which notes the order in which they finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distill.pipeline.executors.stage_graph import Graph


class Recorded(Graph[str]):
    def __init__(
        self,
        needs: Mapping[str, Sequence[str]],
        run: Callable[[str], object],
        logs: Path,
        then: Callable[[str], object] = lambda _: None,
    ):
        super().__init__({name: name for name in needs}, needs, run, logs)
        self.then = then
        self.finished: list[str] = []

    def finish(self, name: str) -> None:
        super().finish(name)
        self.finished.append(name)
        self.then(name)
