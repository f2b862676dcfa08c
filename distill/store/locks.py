"""Lock artifacts: of all processes that want to make the same artifact, one makes it and the others wait.

The system frees a lock when its process ends, however it ends. On NFS (Linux, versions 3 and 4) a lock also holds
between machines, unless it is mounted with `nolock` or `local_lock`. On a file system without locks, a file that
names its holder stands for the lock. If that holder is a dead process of this machine, the lock is taken over; if
the holder is on another machine, others wait for it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from distill.system.progress import Warned, pass_on, write_line

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
PATIENCE = 2.0
"""Seconds after which a waiting process says for whom it waits."""
_told: set[Path] = set()


@contextmanager
def held(path: Path, what: str = "", wait: bool = True) -> Iterator[None]:
    """Hold the lock of a path inside the block.

    Args:
        path: the lock file, in a folder that exists.
        what: name of what the lock protects, for the message to a user who waits.
        wait: wait for as long as another process holds the lock.

    Raises:
        Timeout: another process holds the lock, and `wait` is False.
        OSError: the file cannot be made.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        _acquire(lock, what, wait)
        _sign(path)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if path.parent not in _told:
            _told.add(path.parent)
            tell(f"{path.parent} is on a file system without locks: files that name their holder stand for them")
        lock = SoftFileLock(path.with_suffix(".soft.lock"))
        _acquire(lock, what, wait)
    try:
        yield
    finally:
        # The file stays: another process may be about to lock it, and would then hold a file that nobody finds.
        lock.release()


def _acquire(lock: BaseFileLock, what: str, wait: bool) -> None:
    try:
        lock.acquire(timeout=PATIENCE if wait else 0)
    except Timeout:
        if not wait:
            raise
        path = Path(lock.lock_file)
        gone = f"; if it is gone, delete {path}" if isinstance(lock, SoftFileLock) else ""
        tell(f"waiting for {_holder(path)}, which makes the same artifact ({what}){gone}")
        lock.acquire()


def _sign(path: Path) -> None:
    """Write process id and host name into a lock file, in the format of filelock's `SoftFileLock`."""
    with suppress(OSError):  # if the disk is full: the lock holds all the same
        path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError, IndexError):
        process, host = path.read_text(encoding="utf-8").splitlines()[:2]
        since = datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "seconds")
        name, _, _ = host.partition("?")  # behind the "?" filelock writes the container
        where = "" if name == socket.gethostname() else f" on {name}"
        return f"process {process}{where} (since {since})"
    return "another process"


def tell(text: str) -> None:
    """Print a line for the user, from a worker too."""
    if not pass_on(Warned("lock", text)):  # a worker's own stderr goes to a log that nobody is reading
        write_line(text)
