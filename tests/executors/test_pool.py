from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from distill.errors import Diverged, UserError
from distill.executors.pool import run_pool


def note(name: str, folder: Path, needs: dict[str, list[str]]) -> None:
    assert all((folder / need).exists() for need in needs[name]), "what it needs is there"
    (folder / name).touch()
    if name == "bad":
        raise Diverged(3, 0.1, float("nan"))


def test_every_stage_runs_once_after_what_it_needs(tmp_path: Path) -> None:
    graph = {"student": ["cache"], "cache": ["teacher"], "teacher": [], "other": ["not listed: there already"]}
    needs = {name: [need for need in wanted if need in graph] for name, wanted in graph.items()}
    finished: list[str] = []
    run = partial(note, folder=tmp_path, needs=needs)
    run_pool({name: name for name in graph}, graph, run, jobs=2, done=finished.append)
    assert sorted(finished) == sorted(graph)
    assert finished.index("teacher") < finished.index("cache") < finished.index("student")


def test_a_failure_reaches_the_caller_and_what_needs_it_does_not_run(tmp_path: Path) -> None:
    graph = {"bad": [], "after": ["bad"]}
    with pytest.raises(UserError, match="step 3") as caught:
        run_pool({name: name for name in graph}, graph, partial(note, folder=tmp_path, needs=graph), jobs=2)
    assert isinstance(caught.value, Diverged)
    assert not (tmp_path / "after").exists()
