"""Compare the log and the snapshots of an interrupted run with the digests in its resume point."""

from __future__ import annotations

import hashlib
from pathlib import Path

from distill.errors import UserError
from distill.system.files import sha256
from distill.training.tracking import METRICS

Digests = dict[str, tuple[int, str]]
"""File within the folder of the run → number of its first bytes that are digested, and their sha256."""


def digests(folder: Path) -> Digests:
    """Return the digests of the log and of every snapshot in the folder of a run."""
    files = [folder / METRICS, *sorted((folder / "snapshots").glob("*.safetensors"))]
    return {str(path.relative_to(folder)): (path.stat().st_size, sha256(path)) for path in files if path.is_file()}


def check(folder: Path, expected: Digests) -> None:
    """Refuse to go on with files that have changed since the resume point was written.

    A log may be longer than it was: what was added is dropped when the run goes on.

    Raises:
        UserError: a file is missing or has changed.
    """
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file() or _digest(path, size if name == METRICS else None) != digest:
            way_out = f"Delete {folder}: the run then starts anew."
            raise UserError(str(path), "missing or changed", "the file that the resume point names", way_out)


def _digest(path: Path, size: int | None) -> str:
    """Return the sha256 of the first bytes of a file, or of all of them."""
    return sha256(path) if size is None else hashlib.sha256(path.read_bytes()[:size]).hexdigest()
