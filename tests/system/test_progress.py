from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterator

import pytest

from distill.system import progress
from distill.system.progress import Lines, Report, Warned, bar, pass_on, report_to
from distill.training.tracking import warn


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[progress.Message]]:
    """What this process tells, which is taken for a worker."""
    monkeypatch.setattr(progress, "to_parent", None)
    monkeypatch.setattr(progress, "sends_bars", False)
    monkeypatch.setattr(progress.tqdm, "monitor_interval", 10)
    told: list[progress.Message] = []
    before = progress.tqdm.get_lock()
    report_to(told.append)
    yield told
    progress.tqdm.set_lock(before)


def test_a_notebook_which_is_no_terminal_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    with bar(total=1, desc="here", disable=None, file=drawn):
        pass
    assert drawn.getvalue() == ""
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with bar(total=1, desc="here", disable=None, file=drawn):
        pass
    assert "here" in drawn.getvalue()


def test_a_bar_of_a_worker_draws_nothing_and_reports_at_most_twice_a_second(worker, capfd) -> None:
    with bar(total=1000, desc="cache", disable=None, unit="view") as shown:
        shown.set_postfix({"loss": "0.5"}, refresh=False)
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            shown.update()
            time.sleep(0.002)
        last = shown.n
    assert worker[-1] == Report("cache", last, 1000, "loss=0.5")
    assert 2 <= len(worker) <= 4
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_is_switched_off_reports_nothing(worker) -> None:
    with bar(total=3, disable=True) as shown:
        shown.update(3)
    assert worker == []


def test_where_nobody_sees_bars_only_warnings_are_told(worker, capfd) -> None:
    report_to(worker.append, bars=False)
    with bar(total=3, disable=None) as shown:
        shown.update(3)
    warn("kind", "text")
    assert worker == [Warned("kind", "text")]
    assert capfd.readouterr() == ("", "")


def test_a_process_that_works_for_none_draws_its_bars_and_warns_itself(monkeypatch) -> None:
    assert not pass_on(Warned("kind", "text"))
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with bar(total=3, desc="cache", disable=None) as shown:
        shown.update(3)
    assert "cache: 100%" in screen.getvalue()


def test_a_graph_has_one_line_and_each_running_stage_one(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())

    def drawn() -> str:
        text = screen.getvalue()
        screen.truncate(0)
        screen.seek(0)
        return text

    with Lines(3, show=True, delay=0) as lines:
        assert lines.shown
        lines.start("teachers/a")
        lines.start("students/" + "b" * 99)
        assert {abs(line.pos) for line in lines.running.values()} == {1, 2}
        drawn()
        lines.show("teachers/a", Report("teacher", 20, 80, "loss=1.000"))
        assert re.search(r"teachers/a: +25%.* 20/80 .*teacher loss=1.000", drawn())
        lines.show("not here", Report("x", 1, 2, ""))
        assert drawn() == ""
        lines.end("teachers/a", failed=0)
        assert "all:  33%" in drawn()
        lines.start("caches/c")
        assert {abs(line.pos) for line in lines.running.values()} == {1, 2}, "the free place is taken"
        lines.end("caches/c", failed=1)
        assert "1 failed" in drawn()
        titles = [line.desc for line in lines.running.values()]
        assert [len(title) for title in titles] == [60]
    assert not progress.tqdm._instances


def test_without_a_terminal_there_are_no_lines(capfd) -> None:
    with Lines(3, show=True) as lines:
        lines.start("a")
        lines.show("a", Report("teacher", 20, 80, ""))
        lines.end("a", failed=0)
        assert not lines.shown
    assert capfd.readouterr() == ("", "")
