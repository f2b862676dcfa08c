"""Find what no run needs in a store, say how large it is, and delete it.

Other programs and people may keep files in the folders of a store. So nothing is listed that does not look like
this program's own by its whole name and by its content. `unneeded` says which artifacts no run needs.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from distill.errors import UserError
from distill.store.locks import held
from distill.store.record import LOG_HEAD, RECORD, RESUME, STAMPS, RecordStat, record_stat
from distill.store.stages import FOLDERS
from distill.store.store import ArtifactStore, read_diverged
from distill.store.unneeded import IN_USE, UNREADABLE, unneeded
from distill.system.units import format_bytes

# Writing a file takes a fraction of this time, so the process that wrote an older half was killed.
_STALE_SECONDS = 3600
"""Age in seconds from which a half-written file is garbage."""
# The second form is that of older versions.
_DRAFT = re.compile("(.+-[0-9a-f]{8}|[0-9a-f]{64})")
_LOCK = re.compile(rf"{_DRAFT.pattern}(\.soft)?\.lock")
_UUID = "[0-9a-f]{32}"
_DELETED = re.compile(rf".+-{_UUID}\.deleted")
_HALF = re.compile(rf".+\.{_UUID}\.partial")
RESUMES = "resumes a run"


class Garbage(NamedTuple):
    """Describe a file or folder that no run needs, or that is needed only to resume an interrupted run."""

    path: Path
    reason: str
    """Why no run needs it."""
    bytes: int
    why_kept: str = ""
    """Why it is not deleted all the same; empty when it may be deleted."""
    stat: RecordStat | None = None
    """Stat of the record that was looked at; None for what is no artifact."""


def find_garbage(store: ArtifactStore, unreached: bool = False) -> Iterator[Garbage]:
    """Yield each file or folder of a store that could be deleted, with the reason.

    Whatever an artifact of the present code was made from, directly or indirectly, is not listed, whatever its
    version. With `unreached`, artifacts from which no report and no sweep was made are listed too.
    """
    drafts, diverged, logs = (store.root / name for name in ("drafts", "diverged", "logs"))
    own = [drafts, diverged, logs, *(store.root / folder for folder in FOLDERS)]
    # Nothing in a linked folder is listed, because a link inside the store may lead out of it.
    linked = [path for path in own if path.is_symlink()]
    for path in linked:
        yield _garbage(path, "link", "what it leads to may be no part of the store")
    at_work = set(_drafts_at_work(drafts))
    candidates = chain(
        _drafts(store, drafts, at_work),
        _notes(diverged),
        _logs(logs, at_work),
        _left_over([store.root, *own]),
        (_garbage(*each) for each in unneeded(store, unreached, bool(at_work))),
    )
    yield from (each for each in candidates if each.path.parent not in linked)


def collect(store: ArtifactStore, delete: bool, drafts: bool = False, unreached: bool = False) -> Iterator[str]:
    """List the garbage of a store, and delete it if asked to.

    Args:
        store: the store to clean.
        delete: delete what may be deleted.
        drafts: drafts that would resume a run may be deleted too.
        unreached: artifacts from which no report and no sweep was made are listed too.

    Yields:
        A line for each file or folder, then the disk space for each reason, and then the total.
    """
    freed: dict[str, list[int]] = {}
    for each in find_garbage(store, unreached):
        why_kept = "" if drafts and each.why_kept == RESUMES else each.why_kept
        if delete and not why_kept and not _delete(store, each):
            why_kept = "changed"
        if not why_kept:
            freed.setdefault(each.reason, []).append(each.bytes)
        kept = f"  (kept: {why_kept})" if why_kept else ""
        yield f"{each.reason:24} {format_bytes(each.bytes):>8}  {each.path}{kept}"
    for reason, sizes in sorted(freed.items()):
        yield f"{len(sizes):8} {reason:24} {format_bytes(sum(sizes)):>8}"
    every = [size for sizes in freed.values() for size in sizes]
    done = "freed" if delete else "would be freed with `delete`"
    yield f"{len(every):8} in all: {format_bytes(sum(every))} {done}"


def _delete(store: ArtifactStore, garbage: Garbage) -> bool:
    """Delete garbage unless it has changed since it was found; return whether it is gone."""
    if garbage.stat and garbage.stat != record_stat(garbage.path):
        return False
    with suppress(FileNotFoundError):  # another process has deleted it already
        store.delete(garbage.path)
    return not garbage.path.exists()


def _garbage(path: Path, reason: str, why_kept: str = "", stat: RecordStat | None = None) -> Garbage:
    return Garbage(path, reason, _size(path), why_kept, stat)


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            return path.lstat().st_size
        return 0
    return sum(_size(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _drafts_at_work(drafts: Path) -> Iterator[str]:
    """Yield the names of the drafts that processes are filling at this moment."""
    for lock in sorted(drafts.glob("*.lock")):
        if (match := _LOCK.fullmatch(lock.name)) and _is_held(lock):
            yield match[1]


def _is_held(lock: Path) -> bool:
    if not _is_file(lock):
        return False
    try:
        if lock.name.endswith(".soft.lock"):
            with held(lock.with_name(lock.name.replace(".soft.lock", ".lock")), wait=False):
                return False
        with lock.open("rb") as file:
            # The lock is shared, held for a moment, and nothing is written into its file: a store may have
            # 100,000 locks, or be read-only.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, Timeout):
        return True
    except OSError:  # no process works in a store that cannot be written, and nothing will be deleted
        return False
    return False


def _drafts(store: ArtifactStore, drafts: Path, at_work: set[str]) -> Iterator[Garbage]:
    for path in sorted(drafts.glob("*")):
        match = _LOCK.fullmatch(path.name)
        in_use = IN_USE if (match[1] if match else path.name) in at_work else ""
        if match:
            # A lock names the process that had it, if the disk was not full. It is deleted with its draft.
            if not (drafts / match[1]).is_dir() and _is_file(path) and re.match(rb"\d+\n|$", _head(path)):
                yield _garbage(path, "lock", in_use)
        elif _DRAFT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            resumes = any((path / name).exists() for name in (RESUME, STAMPS, RECORD))
            try:
                owner = store.draft_key(path)
            except UserError:
                yield _garbage(path, "unfinished draft", UNREADABLE)
                continue
            named = path.name == owner or path.name.endswith(f"-{owner[:8]}")
            if named if owner else not any(path.iterdir()):  # without a key it may be of somebody else
                yield _garbage(path, "unfinished draft", in_use or (RESUMES if resumes else ""))


def _notes(diverged: Path) -> Iterator[Garbage]:
    for path in sorted(diverged.glob("*.json")):
        with suppress(UserError, OSError):
            if not path.is_symlink() and read_diverged(path):
                yield _garbage(path, "note of a diverged run")


def _logs(logs: Path, at_work: set[str]) -> Iterator[Garbage]:
    for path in sorted(logs.glob("*.log")):
        if _is_file(path) and _head(path) == LOG_HEAD:
            is_written = any(name.endswith(path.stem[-8:]) for name in at_work)
            yield _garbage(path, "log of a failed run", IN_USE if is_written else "")
    for path in sorted(logs.glob("*.token")):  # written by the executor ray
        if re.fullmatch(_UUID, path.stem) and _is_file(path) and not _size(path):
            yield _garbage(path, "token of a killed run", IN_USE if at_work or _is_held(path) else "")


def _left_over(places: Iterable[Path]) -> Iterator[Garbage]:
    """Yield what a killed process was deleting, or was writing or copying."""
    for path in sorted(path for place in places for path in place.glob("*")):
        if path.is_symlink():
            continue
        if _DELETED.fullmatch(path.name):
            yield _garbage(path, "half deleted")
        elif _HALF.fullmatch(path.name):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                    yield _garbage(path, "half of a file")


def _head(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(LOG_HEAD))
    return b"?"


def _is_file(path: Path) -> bool:
    """Tell whether a path is a regular file and no link; a pipe would be waited for when it is opened."""
    with suppress(OSError):
        return path.is_file() and not path.is_symlink()
    return False
