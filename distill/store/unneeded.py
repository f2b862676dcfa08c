"""Find the artifacts of a store that no run needs.

An artifact may be deleted only if its record can be read, if it is of an older version or no result was made from
it, and if its folder holds nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from distill.errors import UserError
from distill.store.record import RECORD, Record, RecordStat, record_stat
from distill.store.stages import FOLDERS, STAGES, Stage
from distill.store.store import ArtifactStore, read_config
from distill.system.progress import bar

IN_USE = "in use"
UNREADABLE = "its record cannot be read, so look at it before you delete it"
_OTHER = "edited, or made by a newer version of this program"


class _Published(NamedTuple):
    """Hold what a record says about who needs which artifact; an unreadable record has no key."""

    path: Path
    stage: Stage
    stat: RecordStat | None
    key: str = ""
    version: int = 0
    is_current: bool = False
    inputs: frozenset[str] = frozenset()


def _published(store: ArtifactStore) -> Iterator[_Published]:
    folders = [(stage, path) for stage in FOLDERS.values() for path in store.published(stage.name)]
    for stage, path in bar(folders, "records", delay=2, disable=None, unit="record", leave=False):
        stat, is_current = record_stat(path), False
        try:
            record = store.record(path)
        except UserError:
            yield _Published(path, stage, stat)
            continue
        stage = STAGES[name] if (name := str(record.config.get("stage"))) in STAGES else stage
        with suppress(UserError):  # another version of this program may read its config
            is_current = read_config(path, record).is_current
        yield _Published(path, stage, stat, record.key, record.version, is_current, frozenset(record.inputs))


def unneeded(
    store: ArtifactStore, unreached: bool, is_busy: bool
) -> Iterator[tuple[Path, str, str, RecordStat | None]]:
    """Yield each artifact that no run needs, or that nobody can judge.

    Args:
        store: the store.
        unreached: also yield artifacts of the present code from which no report and no sweep was made.
        is_busy: whether a process works in the store at this moment.

    Yields:
        The folder, the reason, why it must not be deleted all the same ("" if it may), and the stat of its record.
    """
    published = list(_published(store))
    older = _of_older_versions(published)
    needed = _with_inputs(published, older, unreached)
    unknown = "" if all(each.key for each in published) else "it may be an input of an unreadable record"
    for each in published:
        if not each.key:
            reason, why_kept = "unreadable record", UNREADABLE
        elif not each.is_current and each.key not in older:
            reason, why_kept = "of another form", "edited, or made by a newer version of this program"
        elif each.key in needed:
            continue
        elif each.is_current:
            reason, why_kept = "in no report or sweep", IN_USE if is_busy else unknown
        else:
            is_own = each.version != each.stage.version
            reason, why_kept = f"of version {each.version}" if is_own else "of an older form", unknown
        yield each.path, reason, why_kept or _why_not_ours(each, store), each.stat


def _of_older_versions(published: Iterable[_Published]) -> set[str]:
    """Return the keys of artifacts of an older version, or made from one directly or indirectly."""
    older: set[str] = set()
    for each in published:  # upstream stages first
        if not each.is_current and (each.version < each.stage.version or each.inputs & older):
            older.add(each.key)
    return older


def _with_inputs(published: Iterable[_Published], older: set[str], unreached: bool) -> set[str]:
    """Return the keys of what is wanted, which is not of an older version, and of all from which it was made."""
    inputs: dict[str, set[str]] = {}
    waiting: list[str] = []
    for each in published:  # two folders may have the same key
        inputs.setdefault(each.key, set()).update(each.inputs)
        if each.key not in older and (each.stage.is_result or not (unreached and each.is_current)):
            waiting.append(each.key)
    reached: set[str] = set()
    while waiting:
        if (key := waiting.pop()) not in reached:
            reached.add(key)
            waiting += inputs.get(key, ())
    return reached


def _why_not_ours(found: _Published, store: ArtifactStore) -> str:
    """Say why a folder may hold what somebody needs; empty if this program wrote all of it."""
    if found.path.is_symlink():
        return "a link"
    if not found.path.name.endswith(f"-{found.key[:8]}"):
        return "its name is not that of its record"
    others = others_files(found.path, store.record(found.path))
    return f"it also holds {others[0]}" if others else ""


def others_files(folder: Path, record: Record) -> list[str]:
    """List the files in the folder of an artifact that its record does not name, such as notes of the user."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return [name for name in names if name not in record.files and name != RECORD]
