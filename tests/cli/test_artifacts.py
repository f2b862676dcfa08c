"""The commands that read artifacts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.cli.main import main
from distill.config import TeacherConfig
from distill.store.stages import title
from distill.store.store import ArtifactStore
from tests.cli.commands import TINY, fail, run
from tests.store.records import publish


def test_commands_that_read(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = json.loads((teacher / "record.json").read_text())["key"]
    assert "interclass_variance" in run(capsys, "evaluate", str(teacher))
    assert "accuracy" in run(capsys, "evaluate", key[:8], "--split", "held_out")
    assert str(teacher) in run(capsys, "ls")
    assert str(teacher) in run(capsys, "ls", "teacher")
    assert str(teacher) not in run(capsys, "ls", "student")
    assert json.loads(run(capsys, "show", key[:8]))["key"] == key
    assert "ok" in run(capsys, "verify")
    assert "unfinished" not in run(capsys, "gc")
    (teacher / "model.safetensors").write_bytes(b"not what it was")
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(teacher)])
    assert stop.value.code == 1
    assert "model.safetensors: 15 bytes instead of" in capsys.readouterr().out


def test_evaluate_prints_every_measure(teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = [line.split()[0] for line in run(capsys, "evaluate", str(teacher)).splitlines()]
    assert {"accuracy", "bits_beyond_top1", "conditional_mutual_information", "held_out_accuracy"} <= set(usual)
    told = run(capsys, "evaluate", str(teacher), "--measures", "all", "--temperature", "4", "--device", "cpu")
    names = {line.split()[0] for line in told.splitlines() if line.startswith("  ")}
    assert {*usual, "class_separation", "risk_coverage_area"} <= names
    assert "Soft targets on the test images, T = 4" in told
    assert "Against its teacher on the test images, T = 4: none. It learned from labels." in told
    cache = run(capsys, "cache", "--teacher", str(teacher), "--min-teacher-accuracy", "0").splitlines()[-1]
    assert "Soft targets on the transfer set, T = 1" in run(capsys, "evaluate", cache, "--measures", "all")
    assert "nontarget_entropy" in run(capsys, "evaluate", cache)
    for arguments, says in (
        (("--temperature", "4"), "Add --measures all"),
        (("--measures", "all", "--temperature", "-1"), "--temperature = -1.0"),
        (("--measures", "some"), "some"),
    ):
        assert says in fail(capsys, "evaluate", str(teacher), *arguments)
    bare = Path(run(capsys, "teacher", *TINY, "--data.held-out", "0").splitlines()[-1])
    assert "expected one that has images" in fail(capsys, "evaluate", str(bare), "--split", "held_out")


@pytest.mark.fault("a damaged file in a store")
def test_a_record_that_cannot_be_read_blocks_nothing_else(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(run(capsys, "teacher", *TINY, "--seed", "1").splitlines()[-1])
    (teacher / "record.json").write_text("{")
    assert str(other) in run(capsys, "ls")
    with pytest.raises(SystemExit) as stop:
        main(["verify"])
    assert stop.value.code == 1
    assert f"damaged  {teacher}" in capsys.readouterr().out
    assert "unreadable record" in run(capsys, "gc", "--delete")
    assert teacher.exists(), "nothing says whose it is"


def test_a_list_for_programs(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "ls", "--json")) == []
    store = ArtifactStore(folders / "store")
    path = publish(store, TeacherConfig())
    (listed,) = json.loads(run(capsys, "ls", "teacher", "--json"))
    record = json.loads((path / "record.json").read_text())
    assert listed == {name: record[name] for name in ("key", "metrics", "data")} | {
        "stage": "teacher",
        "title": title(TeacherConfig()),
        "path": str(path),
    }
    assert run(capsys, "ls").split()[1] == "teacher"
