"""Turn errors of the disk and of memory into one line that says what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.config import StageConfig, StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.store.stages import title
from distill.system.runtime import free_bytes

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "a file would be larger than is allowed here (ulimit -f)",
}
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_AGAIN = "then run the same command again: it goes on from what is whole."
_IN_TEXT = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
"""Pattern by which Rust (safetensors) and Python write the number of an error into a text."""
_NO_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
_ASKED = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?(bytes|[KMGT]iB)", re.IGNORECASE)


@contextmanager
def explained(config: StageConfig, folder: Path, store: Path) -> Iterator[None]:
    """Turn errors of the disk and of memory inside the block into one line for the user.

    The `folder` that the stage fills is named when an error does not say which file it concerns.

    Raises:
        UserError: for an error of the disk or of memory; other errors are raised as they are.
    """
    try:
        yield
    except Exception as error:
        told = disk_fault(error, folder, store) or memory_fault(error, config)
        if told is None:
            raise
        raise told from error


def disk_fault(error: Exception, folder: Path, store: Path) -> UserError | None:
    """Explain a full disk or a store that cannot be written; return None for any other error."""
    number = _number(error)
    # Of an error that names two files, the second is where it was to be written.
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    path = Path(os.fsdecode(named or folder))
    if number in _FULL:
        free = f"{free_bytes(path) / 1e9:.3g} GB free"
        way_out = "Make room (`distill gc` lists what no run needs) or set `store` to another disk"
        expected = f"room to write there: {_FULL[number]} ({free})"
        return UserError("path", str(path), expected, f"{way_out}; {_AGAIN}")
    closed = number in _CLOSED or not store.exists()  # such as a folder of /proc
    if number and closed and path.absolute().is_relative_to(store.absolute()):
        expected = f"a store that can be read and written ({os.strerror(number)})"
        way_out = f"Set `store` or DISTILL_STORE to a folder of yours; {_AGAIN}"
        return UserError("path", str(path), expected, way_out)
    return None


def _number(error: Exception) -> int:
    """Return the errno of an error, or the one that its text names; 0 if there is none."""
    if isinstance(error, OSError):
        return error.errno or 0
    match = _IN_TEXT.search(str(error))
    return int(match[1] or match[2]) if match else 0


def memory_fault(error: Exception, config: StageConfig) -> UserError | None:
    """Explain that the memory of the machine or of a GPU did not suffice; return None for any other error."""
    text = str(error)
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError) and _NO_MEMORY.search(text)):
        return None
    asked = _ASKED.search(text)
    value = f"out of memory{f', {_size(*asked.groups())} more were asked for' if asked else ''}"
    if isinstance(config, TeacherConfig | StudentConfig):
        size, parts = config.schedule.batch_size, hasattr(config.schedule, "parts")
        expected = f"room for {title(config)} with batches of {size}"
        ways = [f"Lower `schedule.batch_size` (now {size})", *(["raise `schedule.parts`"] if parts else [])]
        ways += ["set `precision=bfloat16`"] if config.precision == "float32" else []
    else:
        expected, ways = f"room for {title(config)}", ["Free some memory"]
    return UserError("memory", value, expected, f"{', '.join(ways)}, or lower `jobs`; {_AGAIN}")


def _size(number: str, unit: str) -> str:
    return f"{int(number) / 2**30:.3g} GiB" if unit == "bytes" else f"{number} {unit}"
