"""Find what no run needs in a store, say how large it is, and delete it."""

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
from distill.store.record import RECORD, RESUME, STAMPS, RecordStat, record_stat
from distill.store.stages import STAGES, Stage
from distill.store.store import ArtifactStore
from distill.system.progress import bar
from distill.system.units import format_bytes

# Writing a file takes a fraction of this time, so the process that wrote an older half was killed.
_STALE_SECONDS = 3600
"""Age in seconds from which a half-written file is garbage."""
_KEY = re.compile("[0-9a-f]{64}")
IN_USE = "in use"
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
    own = [drafts, diverged, logs, *(store.root / stage.folder for stage in STAGES.values())]
    # Nothing in a linked folder is listed, because a link inside the store may lead out of it.
    linked = [path for path in own if path.is_symlink()]
    for path in linked:
        yield _garbage(path, "link", "what it leads to may be no part of the store")
    at_work = set(_keys_at_work(drafts))
    candidates = chain(
        _drafts(drafts, at_work),
        (_garbage(path, "note of a diverged run") for path in sorted(diverged.glob("*.json"))),
        _logs(logs, at_work),
        _halves([store.root, *own]),
        _artifacts(store, unreached, bool(at_work)),
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


def _keys_at_work(drafts: Path) -> Iterator[str]:
    """Yield the keys of the artifacts that processes are making at this moment."""
    for lock in sorted(drafts.glob("*.lock")):
        key = lock.name.partition(".")[0]
        if _KEY.fullmatch(key) and _is_held(lock):
            yield key


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


def _drafts(drafts: Path, at_work: set[str]) -> Iterator[Garbage]:
    for path in sorted(drafts.glob("*")):
        key = path.name.partition(".")[0]
        in_use = IN_USE if key in at_work else ""
        if path.suffix == ".deleted":
            yield _garbage(path, "half deleted")
        elif not _KEY.fullmatch(key):
            continue  # no run made this file
        elif path.suffix == ".lock":
            if not (drafts / key).is_dir():  # otherwise the lock is deleted with its draft
                yield _garbage(path, "lock", in_use)
        else:
            resumes = any((path / name).exists() for name in (RESUME, STAMPS, RECORD))
            yield _garbage(path, "unfinished draft", in_use or (RESUMES if resumes else ""))


def _logs(logs: Path, at_work: set[str]) -> Iterator[Garbage]:
    for path in sorted(logs.glob("*.log")):
        is_written = any(key.startswith(path.stem[-8:]) for key in at_work)
        yield _garbage(path, "log of a failed run", IN_USE if is_written else "")
    for path in sorted(logs.glob("*.token")):  # written by the executor ray
        yield _garbage(path, "token of a killed run", IN_USE if at_work or _is_held(path) else "")


def _halves(places: Iterable[Path]) -> Iterator[Garbage]:
    for path in sorted(path for place in places for path in place.glob("*.partial")):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                yield _garbage(path, "half of a file")


class _Published(NamedTuple):
    """Hold what a record says about who needs which artifact; an unreadable record has no key."""

    path: Path
    stage: Stage
    stat: RecordStat | None
    key: str = ""
    version: int = 0
    is_current: bool = False
    inputs: tuple[str, ...] = ()


def _published(store: ArtifactStore) -> Iterator[_Published]:
    folders = [(stage, path) for name, stage in STAGES.items() for path in store.published(name)]
    for stage, path in bar(folders, "records", delay=2, disable=None, unit="record", leave=False):
        stat = record_stat(path)
        try:
            artifact = store.read(path)
        except UserError:
            yield _Published(path, stage, stat)
        else:
            record = artifact.record
            is_current = record.version == stage.version and artifact.is_current
            yield _Published(path, stage, stat, record.key, record.version, is_current, tuple(record.inputs))


def _artifacts(store: ArtifactStore, unreached: bool, is_busy: bool) -> Iterator[Garbage]:
    published = list(_published(store))
    roots = [each.key for each in published if each.is_current and (each.stage.is_result or not unreached)]
    needed = _with_inputs(roots, published)
    ends_of_needed = {key[:8] for key in needed}
    closed = {each.path for each in published if not each.key and not _can_be_opened(each.path)}
    for each in published:
        if not each.key:
            reason, why_kept = "unreadable record", "cannot be opened" if each.path in closed else ""
            if not why_kept and each.path.name[-8:] in ends_of_needed:  # its files may still be whole
                why_kept = "something current was made from it"
        elif each.key in needed:
            continue
        elif each.is_current:
            reason, why_kept = "in no report or sweep", IN_USE if is_busy else ""
        else:
            is_older = each.version != each.stage.version
            reason = f"of version {each.version}" if is_older else "of an older form"
            why_kept = "it may be an input of one whose record cannot be opened" if closed else ""
        yield _garbage(each.path, reason, why_kept, each.stat)


def _with_inputs(roots: list[str], published: Iterable[_Published]) -> set[str]:
    """Return the keys of some artifacts and of everything from which they were made."""
    inputs: dict[str, set[str]] = {}
    for each in published:  # two folders may have the same key
        inputs.setdefault(each.key, set()).update(each.inputs)
    reached: set[str] = set()
    while roots:
        if (key := roots.pop()) not in reached:
            reached.add(key)
            roots += inputs.get(key, ())
    return reached


def _can_be_opened(path: Path) -> bool:
    if _is_file(path / RECORD):
        with suppress(OSError), (path / RECORD).open("rb"):
            return True
    return False


def _is_file(path: Path) -> bool:
    """Tell whether a path is a regular file, which can be opened without waiting; a pipe cannot."""
    with suppress(OSError):
        return path.is_file()
    return False
