from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


def sleep_long(name: str, folder: Path) -> None:
    (folder / f"{name}-{os.getpid()}").touch()
    time.sleep(60)


def kill_self(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(UserError, match="lower --jobs"):
        run_pool({"a": "a", "b": "b"}, {"a": [], "b": ["a"]}, kill_self, jobs=2)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the workers in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_do_not_outlive_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys; sys.path[:0] = [sys.argv[2]]\n"
        "from functools import partial; from pathlib import Path\n"
        "from test_pool import sleep_long; from distill.executors.pool import run_pool\n"
        "if __name__ == '__main__':\n"
        "    names = {name: name for name in 'abcd'}\n"
        "    run_pool(names, dict.fromkeys(names, ()), partial(sleep_long, folder=Path(sys.argv[1])), jobs=2)\n"
    )
    (tmp_path / "parent.py").write_text(code)
    command = [sys.executable, tmp_path / "parent.py", tmp_path, Path(__file__).parent]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE)
    wait_until(lambda: len(list(tmp_path.glob("?-*"))) == 2)
    workers = [int(path.name.split("-")[1]) for path in tmp_path.glob("?-*")]
    parent.send_signal(number)
    parent.communicate(timeout=20)
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert len(list(tmp_path.glob("?-*"))) == 2, "what had not started did not start"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failure_reaches_the_caller_and_what_needs_it_does_not_run(tmp_path: Path) -> None:
    graph = {"bad": [], "after": ["bad"]}
    with pytest.raises(UserError, match="step 3") as caught:
        run_pool({name: name for name in graph}, graph, partial(note, folder=tmp_path, needs=graph), jobs=2)
    assert isinstance(caught.value, Diverged)
    assert not (tmp_path / "after").exists()
