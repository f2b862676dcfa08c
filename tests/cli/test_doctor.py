"""`doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.commands import run


def test_doctor_finds_what_is_here(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "doctor")
    assert torch.__version__.split("+")[0] in told
    assert "digits" in told
    assert "not here" in told
