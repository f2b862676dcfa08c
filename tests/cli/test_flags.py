"""Flags: those that a command has, and values that are none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distill.cli.main import main
from tests.cli.commands import TINY, fail, run
from tests.store.records import sealed


def test_a_wrong_kind_of_artifact_is_refused(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the artifact of a cache, this is a teacher" in fail(capsys, "student", "--cache", str(teacher))


def test_an_artifact_of_an_older_form_is_rubbish_and_no_input(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((teacher / "record.json").read_text())
    older = record | {"key": "0" * 64}  # as if a field had been added to configs since
    (teacher / "record.json").write_bytes(sealed(older))
    assert "of an older form" in run(capsys, "gc")
    with pytest.raises(SystemExit) as stopped:
        main(["cache", "--teacher", str(teacher)])
    assert stopped.value.code == 2
    assert "an artifact of this version" in capsys.readouterr().err


def test_help_of_a_sweep_has_the_flags_of_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    def flags(command: str) -> set[str]:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        return set(re.findall(r"--[\w.-]+", capsys.readouterr().out))

    of_teacher, of_sweep = flags("teacher"), flags("sweep-smoothing")
    assert of_sweep - of_teacher == {"--smoothings", "--seeds", "--bins"}
    assert of_teacher - of_sweep == {"--loss.smoothing", "--smoothing", "--loss.labels.per-class"}


def test_arguments_that_are_nested_too_deep(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = '{"tree": ' + "[" * 100_000 + "]" * 100_000 + "}"
    told = fail(capsys, "teacher", *TINY, "--loss.labels.towards", "hierarchy", "--loss.labels.kwargs", deep)
    assert "a JSON object" in told


def test_smoothings_that_are_no_numbers_are_one_line(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--smoothings", "a", "0.1"], ["--smoothings=0,0.1"]):
        assert "--smoothings [FLOAT [FLOAT ...]] Strengths of label smoothing, such as 0 0.1 0.2" in fail(
            capsys, "sweep-smoothing", *TINY, *words
        )


def test_a_flag_with_underscores_is_one_with_hyphens(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--smoothing_source", "--smoothing-source"):
        assert "distill ls" in fail(capsys, "teacher", *TINY, flag, "nobody")
    assert "less than 1" in fail(capsys, "teacher", *TINY, "--loss.labels.hold", "0.5", "--smoothing", "2")
