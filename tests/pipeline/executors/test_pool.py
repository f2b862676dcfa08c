from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from distill.errors import Diverged
from distill.pipeline.executors import pool
from distill.pipeline.executors.failures import Failure, WorkerDied
from distill.pipeline.executors.pool import run_pool
from distill.system.progress import Report, Warned, bar, pass_on, tell
from tests.pipeline.executors.recorded import Recorded

pytestmark = pytest.mark.fault("a node or a worker process that dies")


class Unpicklable(Exception):
    def __init__(self, one: str, two: str):
        super().__init__(one + two)


class Stages:
    """A stage runs the method of its name without digits; a file tells which process ran it."""

    def __init__(self, folder: Path, needs: Mapping[str, Sequence[str]]):
        self.folder, self.needs = folder, needs

    def __call__(self, name: str) -> None:
        there = {path.name.split("-")[0] for path in self.folder.iterdir()}
        assert there >= set(self.needs[name]) & set(self.needs), "what it needs is there"
        getattr(self, name.rstrip("0123456789"))(name)
        (self.folder / f"{name}-{os.getpid()}").touch()

    def good(self, _name: str) -> None:
        pass

    def diverges(self, _name: str) -> NoReturn:
        raise Diverged(3, 0.1, float("nan"))

    def breaks(self, _name: str) -> NoReturn:
        print("before it broke", flush=True)
        os.system("echo a child of it >&2")
        raise Unpicklable("two ", "arguments")

    def dies(self, _name: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self, _name: str) -> None:
        sys.exit(3)

    def stopped(self, _name: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def says(self, name: str) -> None:
        assert pass_on(Warned("kind", f"{name} warns"))

    def loads(self, _name: str) -> None:
        tell("ten images")

    def shows(self, _name: str) -> None:
        with bar(total=10, desc="counted", delay=0, disable=None) as shown:
            shown.update(4)
            time.sleep(0.6)
            shown.update(6)


def run(needs: dict[str, list[str]], folder: Path, jobs: int = 2) -> tuple[dict[str, Failure], list[str]]:
    made = folder / "made"
    made.mkdir(parents=True)
    graph = Recorded(needs, Stages(made, needs), folder / "logs")
    failures = run_pool(graph, jobs)
    assert sorted(path.name.split("-")[0] for path in made.iterdir()) == sorted(graph.finished)
    return failures, graph.finished


def test_all_that_can_go_wrong_costs_only_what_needs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["diverges", "breaks", "dies", "leaves", "stopped"]
    needs = {name: [] for name in wrong} | {f"good{i}": [name] for i, name in enumerate(wrong)}
    needs |= {"says": [], "good8": ["says", "not listed: there already"], "good9": ["good8"]}
    before = signal.getsignal(signal.SIGTERM)
    failures, finished = run(needs, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before
    assert set(failures) == set(wrong)
    assert finished == ["says", "good8", "good9"]
    assert [failures[name].blocked for name in wrong] == [(f"good{i}",) for i in range(len(wrong))]
    assert isinstance(failures["diverges"].error, Diverged)
    assert failures["diverges"].log is None, "a user's mistake says all in its line"
    assert str(failures["breaks"].error) == "Unpicklable: two arguments"
    log = failures["breaks"].log
    assert log == tmp_path / "logs" / "breaks.log"
    told = log.read_text()
    assert "before it broke\na child of it\nTraceback" in told
    assert "in breaks" in told
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["breaks.log"]
    assert isinstance(failures["dies"].error, WorkerDied)
    assert "SIGKILL: most likely the machine ran out of memory. Lower `jobs`" in str(failures["dies"].error)
    assert "exit code 3" in str(failures["leaves"].error)
    assert "SIGTERM: somebody told it to stop" in str(failures["stopped"].error)
    shown = capsys.readouterr()
    assert "warning: says warns" in shown.err
    assert "Traceback" not in shown.err


def test_workers_are_kept_and_as_many_as_there_are_jobs(tmp_path: Path) -> None:
    run({f"good{i}": [] for i in range(8)} | {"good9": ["good0"]}, tmp_path)
    assert len({path.name.split("-")[1] for path in (tmp_path / "made").iterdir()}) <= 2


def test_a_worker_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, float | None]] = []

    class Seen(pool.Lines):
        shown = True

        def start(self, name: str) -> None:
            pass

        def show(self, name: str, report: Report) -> None:
            told.append((report.description, report.n, report.total))

    monkeypatch.setattr(pool, "Lines", Seen)
    run({"shows": []}, tmp_path)
    assert told[0] == ("counted", 0, 10)
    assert told[-1] == ("counted", 10, 10)
    assert len(told) <= 4


def test_what_several_workers_tell_is_shown_once_and_leaves_no_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run({f"loads{i}": [] for i in range(3)}, tmp_path)
    assert capsys.readouterr().err.splitlines().count("ten images") == 1
    assert not list((tmp_path / "logs").glob("*"))


SCRIPT = """
import sys; sys.path[:0] = [sys.argv[2]]
from functools import partial; from pathlib import Path
from tests.pipeline.executors.test_pool import Recorded, run_pool, sleep_long
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run_pool(Recorded(dict.fromkeys("abcd", ()), partial(sleep_long, folder=folder), folder / "logs"), 2)
"""


def sleep_long(name: str, folder: Path) -> None:
    (folder / f"{name}-{os.getpid()}").touch()
    time.sleep(60)


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the workers in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_workers_do_not_outlive_their_parent_and_end_without_a_word(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "parent.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "parent.py", tmp_path, Path(__file__).parents[3]]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: len(list(tmp_path.glob("?-*"))) == 2)
    workers = [int(path.name.split("-")[1]) for path in tmp_path.glob("?-*")]
    # As a terminal and a batch system do it: the whole group is told.
    os.killpg(parent.pid, number) if number != signal.SIGKILL else parent.kill()
    _, told = parent.communicate(timeout=20)
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert len(list(tmp_path.glob("?-*"))) == 2, "what had not started did not start"
    assert "SystemExit" not in told
    assert told.count("Traceback") == (number == signal.SIGINT), "only the parent, which has no command around it"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
