"""The commands that make networks and caches: what feeds what, and what a sweep prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distill.config import LabelsConfig
from tests.cli.commands import TINY, fail, run


def test_each_command_feeds_the_next(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = ["--augment.pad", "1", "--views", "2", "--min-teacher-accuracy", "0"]
    cache = run(capsys, "cache", "--teacher", str(teacher), *views).splitlines()[-1]
    arguments = ["student", "--cache", cache, *TINY, "--loss.temperature", "2", "--exclude-classes", "3", "5"]
    student = Path(run(capsys, *arguments).splitlines()[-1])
    config = json.loads((student / "record.json").read_text())["config"]
    assert config["cache"]["views"] == 2
    assert config["loss"] == {
        "alpha": 1.0,
        "temperature": 2.0,
        "equivalent_smoothing": None,
        "temperature_on": "both",
        "soft": "kl",
        "kwargs": {},
        "smoothing": 0.0,
        "smoothing_convention": "uniform",
        "labels": LabelsConfig().model_dump(mode="json"),
        "class_weights": [],
    }
    assert config["exclude_classes"] == [3, 5]
    assert run(capsys, *arguments).splitlines()[-1] == str(student), "the second time it is a hit"
    alone = Path(run(capsys, "student", *TINY, "--loss.smoothing", "0.1").splitlines()[-1])
    assert json.loads((alone / "record.json").read_text())["config"]["cache"] is None


def test_a_teacher_of_other_classes_or_shape_is_refused(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "own_data.py").write_text(
        "import torch\n"
        "def two(classes=2, side=8):\n"
        "    images = torch.zeros(40, 1, side, side, dtype=torch.uint8)\n"
        "    labels = torch.arange(40) % classes\n"
        "    return images, labels, images, labels, [str(i) for i in range(classes)]\n"
    )
    monkeypatch.chdir(folders)
    other = ["cache", "--teacher", str(teacher), "--transfer-set.name", "own_data:two"]
    assert "10 classes" in fail(capsys, *other)
    assert "input shape (1, 8, 8)" in fail(capsys, *other, "--transfer-set.kwargs", '{"classes": 10, "side": 9}')


SWEEP = ["sweep-smoothing", *TINY, "--schedule.epochs", "3", "--smoothings", "0", "0.3"]


def test_a_sweep_prints_tables_answers_and_its_page(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 hits, 5 to make" in run(capsys, "plan", *SWEEP, "--seeds", "2")
    told = run(capsys, *SWEEP, "--seeds", "2", "--jobs", "1")
    for use in ("accuracy", "calibration", "teaching"):
        assert re.search(rf"^{use} +ε = (0|0.3) \(not told apart from ε = (0|0.3)\)$", told, re.MULTILINE)
    assert "Held-out images, which choose" in told
    assert "Test images, which choose nothing" in told
    page = Path(told.split("page ")[-1].split()[0])
    assert "How much label smoothing" in page.read_text()
    assert str(page.parent) in run(capsys, "ls", "sweep")
    assert len(run(capsys, "ls", "teacher").splitlines()) == 4
    assert run(capsys, *SWEEP, "--seeds", "2") == told, "the second time it is a hit"
    assert "2 hits, 3 to make" in run(capsys, "plan", *SWEEP[:-1], "0.2", "--seeds", "2"), "of ε=0 nothing is new"


def test_what_diverges_in_a_sweep_is_told(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, *SWEEP, "--seeds", "1", "--jobs", "1", "--optim.lr", "1e30", "--optim.clip", "None")
    assert "one or more that learns something" in told


def test_a_sweep_of_smoothing_that_has_a_schedule(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--loss.labels.schedule", "linear", "--smoothings", "0", "0.3", "--seeds", "1"]
    assert "0 hits, 3 to make" in run(capsys, "plan", "sweep-smoothing", *TINY, *flags)


def test_a_sweep_that_cannot_be_taught_trains_nothing(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--smoothings", "0", "0.95", "--loss.smoothing-convention", "others"]
    assert "less than 0.9" in fail(capsys, "sweep-smoothing", *TINY, *flags)
    assert not (folders / "store" / "teachers").exists()
