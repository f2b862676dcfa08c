"""Check the table that `scripts/faults` prints."""

from __future__ import annotations

from types import SimpleNamespace

from tests.faults.attempts import pytest_terminal_summary


def report(kind: str, counted: list[int] | None = None) -> SimpleNamespace:
    return SimpleNamespace(user_properties=[("fault", kind)] + ([("attempts", counted)] if counted else []))


def test_attempts_of_a_kind_are_summed_and_what_failed_is_not_survived() -> None:
    reports = {
        "passed": [report("b", [100, 0]), report("a"), report("b"), SimpleNamespace(user_properties=[])],
        "failed": [report("b", [20, 3]), report("b", [7, 0]), report("a", [0, 0])],
        "error": [report("c")],
        "skipped": [report("c")],
    }
    lines: list[str] = []
    config = SimpleNamespace(getoption=lambda _: True)
    pytest_terminal_summary(SimpleNamespace(stats=reports, write_line=lines.append), config)
    assert lines[1:] == ["| a | 2 | 1 |", "| b | 128 | 124 |", "| c | 1 | 0 |", "| all | 131 | 125 |"]
