"""Flags: those that a command has, and values that are none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distill.cli.main import main
from tests.cli.commands import fail, run
from tests.store.records import sealed


def test_a_wrong_kind_of_artifact_is_refused(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the artifact of a cache, this is a teacher" in fail(capsys, "student", "--cache", str(teacher))


def test_an_artifact_of_another_form_is_no_input_and_not_deleted(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((teacher / "record.json").read_text())
    older = record | {"key": "0" * 64}  # as if a field had been added to configs since
    (teacher / "record.json").write_bytes(sealed(older))
    assert "of another form" in run(capsys, "gc", "--delete")
    with pytest.raises(SystemExit) as stopped:
        main(["cache", "--teacher", str(teacher)])
    assert stopped.value.code == 2
    assert "an artifact of this version" in capsys.readouterr().err


def test_help_of_a_sweep_has_the_flags_of_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    def flags(command: str) -> set[str]:
        return set(re.findall(r"--[\w.-]+", run(capsys, command, "--help")))

    of_teacher, of_sweep = flags("teacher"), flags("sweep-smoothing")
    assert of_sweep - of_teacher == {"--smoothings", "--seeds", "--bins"}
    assert of_teacher - of_sweep == {"--loss.smoothing", "--smoothing", "--loss.labels.per-class"}
