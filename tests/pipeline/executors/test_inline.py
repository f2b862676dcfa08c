from __future__ import annotations

import gc
import os
import signal
import weakref
from pathlib import Path

import pytest

from distill.errors import Diverged
from distill.pipeline.executors.inline import run_inline
from tests.pipeline.executors.recorded import Recorded

pytestmark = pytest.mark.fault("a node or a worker process that dies")


class Held:
    """This object stands for a network that a failed stage held."""


def test_a_failure_costs_only_what_needs_it_and_holds_no_network(tmp_path: Path) -> None:
    held: list[weakref.ref[Held]] = []

    def run(name: str) -> None:
        if name.startswith("bug"):
            network = Held()
            held.append(weakref.ref(network))
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second") from None
        if name == "diverges":
            raise Diverged(3, 0.1, float("nan"))

    needs = {"bug": [], "of the bug": ["bug"], "diverges": [], "good": ["elsewhere"], "of good": ["good"]}
    graph = Recorded(needs, run, tmp_path / "logs")
    failures = run_inline(graph)
    assert graph.finished == ["good", "of good"]
    assert list(failures) == ["bug", "diverges"]
    assert failures["bug"].blocked == ("of the bug",)
    assert failures["bug"].log == tmp_path / "logs" / "bug.log"
    assert "ValueError: second" in failures["bug"].log.read_text()
    assert failures["diverges"].log is None, "a user's mistake says all in its line"
    gc.collect()
    assert held[0]() is None


@pytest.mark.fault("a full or read-only disk")
def test_a_log_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    failures = run_inline(Recorded({"a": []}, lambda _: 1 / 0, tmp_path / "logs"))
    assert failures["a"].log is None
    assert isinstance(failures["a"].error, ZeroDivisionError)


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_an_interrupt_ends_it_and_what_a_signal_does_is_as_before(
    tmp_path: Path, number: signal.Signals, raised: type[BaseException]
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def run(name: str) -> None:
        if name == "b":
            os.kill(os.getpid(), number)

    with pytest.raises(raised) as caught:
        run_inline(graph := Recorded(dict.fromkeys("abc", ()), run, tmp_path))
    assert graph.finished == ["a"]
    assert signal.getsignal(signal.SIGTERM) == before
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 128 + number


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
def test_a_signal_that_comes_twice_is_one_and_an_ignored_one_none(tmp_path: Path) -> None:
    """`timeout` and wrappers send it twice, and `nohup` ignores that of a closed terminal."""

    def run(name: str) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        if name == "b":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                (tmp_path / "saved").touch()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as caught:
            run_inline(graph := Recorded(dict.fromkeys("abc", ()), run, tmp_path))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert graph.finished == ["a"]
    assert caught.value.code == 143
    assert (tmp_path / "saved").exists()


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
def test_an_exit_that_native_code_makes_an_error_of_is_one_all_the_same(tmp_path: Path) -> None:
    def run(_name: str) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit:
            raise ValueError("could not determine the shape") from None  # as torch says when it reads a file

    with pytest.raises(SystemExit) as caught:
        run_inline(Recorded(dict.fromkeys("ab", ()), run, tmp_path))
    assert caught.value.code == 143
    assert not list(tmp_path.iterdir())
