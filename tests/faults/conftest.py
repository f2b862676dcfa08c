"""Set how many times a fault is tried, and print the table of what was survived."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import pytest

Survived = Callable[[str, int, Sequence[str]], None]


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return a function of (few, full) that gives the number of trials: few in CI, full with --full-count."""
    full = request.config.getoption("--full-count")
    return lambda few, many: many if full else few


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Survived:
    """Return a function of (fault, trials, what went wrong) that adds a line to the table, and may fail."""

    def tell(fault: str, trials: int, wrong: Sequence[str]) -> None:
        record_property("fault", (fault, trials, trials - len(wrong)))
        assert not wrong, f"{len(wrong)} of {trials}:\n" + "\n".join(wrong[:20])

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print fault, trials and survivals; tests of one trial each share a line per file."""
    if not config.getoption("--full-count"):
        return
    rows = list(_rows(terminalreporter))
    width = max((len(fault) for fault, _, _ in rows), default=5)
    terminalreporter.write_line(f"\n{'fault':{width}}  trials  survived")
    for fault, trials, well in rows:
        terminalreporter.write_line(f"{fault:{width}}  {trials:6}  {well:8}")


def _rows(reporter: pytest.TerminalReporter) -> Iterator[tuple[str, int, int]]:
    files: dict[str, list[bool]] = defaultdict(list)
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for outcome in ("passed", "failed", "error"):
        for report in reporter.stats.get(outcome, []):
            found = [value for name, value in report.user_properties if name == "fault"]
            for fault, trials, well in found:
                counted[fault][0] += trials
                counted[fault][1] += well
            if not found:
                files[report.nodeid.split("::")[0]].append(outcome == "passed")
    yield from ((fault, trials, well) for fault, (trials, well) in sorted(counted.items()))
    yield from ((file, len(results), sum(results)) for file, results in sorted(files.items()))
