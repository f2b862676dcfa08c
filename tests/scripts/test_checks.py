"""Check that `scripts/test` fails with each of its checks, and shows what each says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = ("ruff check", "ruff format", "basedpyright", "lint-imports", "python")


@pytest.mark.parametrize("failing", [None, *CHECKS])
def test_a_check_that_fails_is_shown_and_fails_all(failing: str | None, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts")
    programs = {"scripts/setup": "", **{f".venv/bin/{check.split()[0]}": 'echo "$0 $1"\n' for check in CHECKS}}
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fails = f'case "${{0##*/}} $1" in "{failing}"*) exit 3;; esac\n' if failing else ""
        path.write_text(f"#!/bin/sh\n{text}{fails}")
        path.chmod(0o755)
    done = subprocess.run([tmp_path / "scripts" / "test"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (failing is None)
    assert failing is None or failing in done.stdout
    assert failing or all(check in done.stdout for check in CHECKS)
