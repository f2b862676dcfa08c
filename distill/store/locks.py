"""Locks of the store: of all processes that want to make the same artifact one does, and the others wait.

The system frees a lock when its process ends, however it ends. The file stays: another process may be about to
lock it, and would then hold a file that nobody finds any more. On NFS (Linux, versions 3 and 4) the lock holds
between machines, unless it is mounted with `nolock` or `local_lock`. Where there are no locks at all a file that
names its holder stands for one: one of a dead process of this machine is taken over, one of another machine is
waited for.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from tqdm import tqdm

from distill.system.progress import Warned, pass_on

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
PATIENCE = 2.0
"""Seconds after which one who waits is told for whom."""
_told: set[Path] = set()


@contextmanager
def held(path: Path, what: str = "", wait: bool = True) -> Iterator[None]:
    """Hold the lock of a path inside the block.

    Args:
        path: of the lock file, in a folder that exists.
        what: it protects, for the line that one who waits is told.
        wait: for as long as another holds it.

    Raises:
        Timeout: another holds it, without `wait`.
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
            _tell(f"{path.parent} is on a file system without locks: files that name their holder stand for them")
        lock = SoftFileLock(path.with_suffix(".soft.lock"))
        _acquire(lock, what, wait)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, what: str, wait: bool) -> None:
    try:
        lock.acquire(timeout=PATIENCE if wait else 0)
    except Timeout:
        if not wait:
            raise
        path = Path(lock.lock_file)
        gone = f"; if it is gone, delete {path}" if isinstance(lock, SoftFileLock) else ""
        _tell(f"waiting for {_holder(path)}, which makes the same artifact ({what}){gone}")
        lock.acquire()


def _sign(path: Path) -> None:
    """Leave word of who holds the lock, in the form of a soft one."""
    with suppress(OSError):  # of a full disk: the lock holds all the same
        path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError, IndexError):
        process, host = path.read_text().splitlines()[:2]
        since = datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "seconds")
        name, _, _ = host.partition("?")  # after it filelock says in which container
        where = "" if name == socket.gethostname() else f" on {name}"
        return f"process {process}{where} (since {since})"
    return "another process"


def _tell(text: str) -> None:
    if not pass_on(Warned("lock", text)):  # a worker's own stderr is a log that nobody reads now
        tqdm.write(text, file=sys.stderr)
