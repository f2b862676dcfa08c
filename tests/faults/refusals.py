"""Let the system refuse something to this process: changes of a store, large files, or many open files."""

from __future__ import annotations

import errno
import functools
import gc
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHANGES = {"open", "os.rename", "os.mkdir", "os.truncate", "os.link"}
"""Names that `sys.addaudithook` gives to changes that may need room."""


@dataclass
class Refusal:
    """A rule that says which changes are refused, and counts them."""

    store: str
    which: Callable[[int, str], bool]
    """Function of the number of the change, from 1, and its path, that tells whether it is refused."""
    errno: int
    seen: int = 0
    refused: int = 0


_now: list[Refusal] = []
"""The rule that is in force. A hook cannot be taken away, so one hook looks here."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _now or event not in _CHANGES or isinstance(arguments[0], int):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return
    refusal, path = _now[0], os.fsdecode(arguments[0])
    if not path.startswith(refusal.store):
        return
    refusal.seen += 1
    if refusal.which(refusal.seen, path):
        refusal.refused += 1
        raise OSError(refusal.errno, os.strerror(refusal.errno), path)


@functools.cache
def _hook() -> None:
    sys.addaudithook(_watch)


@contextmanager
def refused(
    store: Path, which: Callable[[int, str], bool] = lambda *_: False, number: int = errno.ENOSPC
) -> Iterator[Refusal]:
    """Refuse changes of a store inside the block."""
    _hook()
    refusal = Refusal(str(store), which, number)
    _now.append(refusal)
    try:
        yield refusal
    finally:
        _now.remove(refusal)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no write of this process, in any language or thread, make a file larger than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ: a write fails with EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def few_open_files(more: int) -> Iterator[None]:
    """Let this process open no more than `more` further files inside the block."""
    gc.collect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(open_file.name) for open_file in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
