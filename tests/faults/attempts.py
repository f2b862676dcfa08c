"""Count how often each kind of fault is tried, and print the table of what was survived.

A test is of the kind that its marker names, `fault("kind")`, wherever it stands. It is one attempt, unless it
counts its own with the fixture `attempts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

Attempts = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-count", action="store_true", help="faults as often as scripts/faults has them")


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return a function of (few, full) that gives the number of attempts: few in CI, full with --full-count."""
    full = request.config.getoption("--full-count")
    return lambda few, many: many if full else few


@pytest.fixture
def attempts(record_property: Callable[[str, object], None]) -> Attempts:
    """Return a function of (attempts, what went wrong) that adds to the count of its test, and may fail."""
    counted = [0, 0]
    record_property("attempts", counted)

    def add(number: int = 1, wrong: Sequence[str] = ()) -> None:
        counted[0] += number
        counted[1] += len(wrong)
        assert not wrong, f"{len(wrong)} of {number}:\n" + "\n".join(wrong[:20])

    return add


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the reports of a test say of which kind it is, also to the process that waits for its workers."""
    for item in items:
        if marker := item.get_closest_marker("fault"):
            item.user_properties.append(("fault", marker.args[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the number of attempts and survivals of each kind."""
    if not config.getoption("--full-count"):
        return
    tried: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            told = dict(report.user_properties)
            if "fault" in told:
                number, wrong = told.get("attempts") or (1, 0)
                number = number or 1
                tried[told["fault"]] += number
                survived[told["fault"]] += number - (wrong if outcome == "passed" else max(wrong, 1))
    tried["all"], survived["all"] = tried.total(), survived.total()
    terminalreporter.write_line("\n| kind of fault | attempts | survived |\n| --- | ---: | ---: |")
    for kind, number in sorted(tried.items(), key=lambda row: (row[0] == "all", row[0])):
        terminalreporter.write_line(f"| {kind} | {number:,} | {survived[kind]:,} |")
