"""`plan` and `reproduce`: what would run, and what is told of what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.cli.main import main
from distill.errors import UserError
from distill.pipeline.executors.failures import Failure
from distill.pipeline.experiments import Reproduced
from tests.cli.commands import TINY, fail, run


def test_plan_says_what_would_run_and_runs_nothing(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "plan", "dark_knowledge", "--scale", "smoke", "--device", "cpu")
    assert "0 hits, 22 to make" in told
    assert not (folders / "store").exists()
    assert "miss" in run(capsys, "plan", "teacher", *TINY)
    run(capsys, "teacher", *TINY)
    assert "1 hits, 0 to make" in run(capsys, "plan", "teacher", *TINY)
    told = run(capsys, "plan", "teacher", "--data.name", "cifar100", "--model.name", "resnet56_preact")
    assert "1 to make" in told
    assert " h" in told or "min" in told, "hours or minutes, not seconds"


@pytest.mark.parametrize("before", [["teacher", *TINY], ["teacher", *TINY, "then", "cache", "then", "student"]])
def test_plan_of_a_student_wants_its_cache_before_it(before: list[str], capsys) -> None:
    assert "expected then cache in between" in fail(capsys, "plan", *before, "then", "student", *TINY)


def test_plan_of_all_experiments_counts_what_they_share_once(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_make(name: str) -> int:
        told = run(capsys, "plan", name, "--scale", "smoke", "--device", "cpu")
        return int(told.splitlines()[-1].split(" hits, ")[1].split()[0])

    monkeypatch.setattr(
        "distill.reports.experiment_files.experiment_names", lambda: ["dark_knowledge", "cache_precision"]
    )
    alone = to_make("dark_knowledge"), to_make("cache_precision")
    assert max(alone) < to_make("all") < sum(alone)
    assert not (folders / "store").exists()


def test_an_experiment_that_fails_or_is_skipped_is_told(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = UserError("data", "mnist", "digits", "Drop `data`.")
    failed = {"reports/two": Failure(ZeroDivisionError("in a figure")), "reports/three": Failure(reason)}
    made = Reproduced([], {"one": reason}, failed, folders)
    monkeypatch.setattr("distill.pipeline.experiments.reproduce", lambda *_: made)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "all", "--data", "mnist"])
    assert stop.value.code == 1
    told = capsys.readouterr()
    assert "skipped      one: --data = 'mnist': expected digits. Drop --data.\n" in told.out
    assert f"all reports  {folders}\n" in told.out
    told_of = "error: reports/two: ZeroDivisionError: in a figure\nerror: reports/three: --data = 'mnist'"
    assert told_of in told.err
    assert told.err.endswith("Run the same command again to try only what is missing.\n")
    assert "Traceback" not in told.err
