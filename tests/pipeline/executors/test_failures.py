from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.pipeline.executors.failures import Failure, StagesFailed, WorkerDied, raise_failure, write_traceback
from distill.pipeline.executors.worker import run_logged

pytestmark = pytest.mark.fault("a node or a worker process that dies")

MISTAKE = UserError("loss", 3, "4", "Take 4.")


def caught(function, *arguments) -> Exception:
    with pytest.raises(Exception) as found:  # noqa: PT011 - which one is what is tested
        function(*arguments)
    return found.value


def bug() -> Exception:
    return caught(lambda: 1 / 0)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.with_name("home"))])
def test_a_log_is_a_file_and_nothing_else(make: Callable[[Path], None], tmp_path: Path, capfd) -> None:
    (tmp_path / "home").write_text("a letter")
    log = tmp_path / "a.log"
    make(log)
    assert write_traceback(bug(), log) is None
    run_logged(print, "a step", log)
    assert capfd.readouterr().out == "a step\n", "it goes where it would without a log"
    assert (tmp_path / "home").read_text() == "a letter"


def test_one_error_is_raised_as_it_is_and_says_where_it_was_unless_that_is_what_was_wanted(tmp_path: Path) -> None:
    raise_failure({}, {"a"})
    assert caught(raise_failure, {"a": Failure(MISTAKE)}, {"a"}) is MISTAKE
    assert not hasattr(MISTAKE, "__notes__")
    error = bug()
    failure = Failure(error, tmp_path / "b.log", tuple("acdefgh"))
    assert caught(raise_failure, {"b": failure}, {"a"}) is error
    assert error.__notes__ == [f"  stage    b\n  log      {tmp_path}/b.log\n  not run  a, c, d, e, f, and 2 more"]


@pytest.mark.parametrize("error", [WorkerDied(-9), ValueError("it was\nin a worker")])
def test_what_has_no_traceback_here_is_listed(error: Exception, tmp_path: Path) -> None:
    found = caught(raise_failure, {"b": Failure(error, tmp_path / "b.log")}, {"b"})
    assert isinstance(found, StagesFailed)
    line, log = str(found).splitlines()
    assert line.startswith(
        ("error: b: its worker was ended by SIGKILL", "error: b: ValueError: it was in a worker")
    )
    assert log == f"  log      {tmp_path}/b.log"


def test_all_failures_are_listed_with_what_they_cost() -> None:
    failures = {"a": Failure(MISTAKE, None, ("c",)), "b": Failure(bug())}
    found = caught(raise_failure, failures, {"a", "b", "c"})
    assert str(found).splitlines() == [
        "error: a: loss = 3: expected 4. Take 4.",
        "  not run  c",
        "error: b: ZeroDivisionError: division by zero",
    ]


def test_one_cause_of_several_failures_is_told_once(tmp_path: Path) -> None:
    failures = {name: Failure(MISTAKE, None, ("x", name.upper())) for name in "abcdefgh"}
    failures["b"] = Failure(MISTAKE, tmp_path / "b.log")
    assert str(StagesFailed(failures)).splitlines() == [
        "error: a: loss = 3: expected 4. Take 4.",
        "  also     b, c, d, e, f, and 2 more",
        f"  log      {tmp_path}/b.log",
        "  not run  x, A, C, D, E, and 3 more",
    ]


@pytest.mark.parametrize(
    ("exit_code", "says"),
    [
        (-9, "out of memory"),
        (-11, "SIGSEGV: native code crashed"),
        (143, "SIGTERM"),
        (1, "exit code 1"),
        (0, "code 0"),
    ],
)
def test_the_end_of_a_worker_is_told_by_its_signal_and_likely_cause(exit_code: int, says: str) -> None:
    assert says in str(WorkerDied(exit_code))
