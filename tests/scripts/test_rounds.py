"""Every bench says first how long it takes, which is two minutes at most, and lets contestants take turns."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.scripts.script import script

FOLDER = Path(__file__).parents[2] / "scripts"
BENCHES = sorted(path.stem for path in FOLDER.glob("bench_*.py"))
TOY = {
    "bench_loss": "--rounds 1 --steps 1",
    "bench_step": "--rounds 1 --steps 1",
    "bench_identity": "--files 20 --rounds 1",
}


class Announced(Exception):
    """Stops a bench where it says how long it takes."""


def said(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> float:
    """Return the seconds that a bench announces, before it measures anything."""

    def stop(seconds: float) -> None:
        raise Announced(seconds)

    bench = script(FOLDER / f"{name}.py")
    monkeypatch.setattr(bench, "announce", stop)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(Announced) as stopped:
        bench.main()
    return stopped.value.args[0]


@pytest.mark.parametrize("name", BENCHES)
def test_two_minutes_by_default(name: str, monkeypatch, capsys) -> None:
    short = said(name, monkeypatch)
    assert 5 < short <= 120
    assert said(name, monkeypatch, "--full") > short
    assert capsys.readouterr().out.count("\n") <= 2  # no table without a measurement


@pytest.mark.parametrize(("name", "arguments"), TOY.items())
def test_at_toy_size(name: str, arguments: str, monkeypatch, capsys) -> None:
    bench = script(FOLDER / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments.split()])
    if name == "bench_loss":
        monkeypatch.setattr(bench, "SHAPES", ((8, 4),))
    if name == "bench_identity":
        monkeypatch.setattr(bench.time, "sleep", lambda _: None)  # files that have just changed are read again
    bench.main()
    told = capsys.readouterr()
    assert told.err.startswith("takes about ")
    assert len(told.out.splitlines()) > 4


def test_contestants_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    contestants = {name: lambda name=name: calls.append(name) or len(calls) for name in ("a", "b", "c")}
    found = script(FOLDER / "rounds.py").take_turns(contestants, rounds=3, warm_up=2)
    rounds = [calls[start : start + 3] for start in range(0, 15, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert found == {
        name: [number for number, called in enumerate(calls, 1) if called == name and number > 6] for name in "abc"
    }
    assert "15" in capsys.readouterr().err
