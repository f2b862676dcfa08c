"""Hash files, and replace files so that no reader sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any

from distill.errors import UserError

TICK_NS = 2_000_000_000
"""Coarsest step in which file systems count time, in nanoseconds."""


def expanded(path: Path) -> Path:
    """Replace `~` and `$NAME` at the start of a path, as a shell does, but not behind "=" or in a variable.

    Raises:
        UserError: there is no such user or variable.
    """
    if str(path)[:1] not in ("~", "$"):
        return path
    whole = Path(os.path.expanduser(os.path.expandvars(path)))  # noqa: PTH111 - leaves what it does not know
    if str(whole)[:1] in ("~", "$") and not whole.exists():
        raise UserError("path", str(path), "a user or variable that is known here", "Write the path in full.")
    return whole


def sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file; the file is read again only after it has changed."""
    state = path.stat()
    # Whoever changes a file can put its mtime back, but not its ctime.
    changed = state.st_mtime_ns, state.st_ctime_ns
    # A file that changed within the last step may change again without a new time, so its digest is not kept.
    if time.time_ns() - max(changed) < TICK_NS:
        return _digest.__wrapped__(path)
    return _digest(path, state.st_ino, state.st_size, *changed)


@lru_cache(maxsize=4096)
def _digest(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def follow_umask(folder: Path) -> None:
    """Give all files below a folder the permissions of new files, for libraries that create private ones."""
    probe = folder / f"{uuid.uuid4().hex}.partial"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mode != mode:
            path.chmod(mode)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    replace_file(path, json.dumps(value, indent=1, allow_nan=False).encode())


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file so that a reader, even after a crash, sees the old file or the new one, never a part."""
    # Each writer has a name of its own, because two threads may write the same file.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
