"""A store of its own for each command, and a teacher to give it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import TINY, run


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def teacher(folders: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    return Path(run(capsys, "teacher", *TINY).splitlines()[-1])
