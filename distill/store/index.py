"""What the records of a store say, kept in one file for each stage, so that 100,000 are not opened to list them.

It is a pure cache: what is in it is believed only of a record whose time and size are still those that were read,
and a file that is missing, damaged, of other code or not writable costs time and nothing else. It may be deleted at
any moment.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import GenericAlias
from typing import Any, NamedTuple, get_type_hints

from pydantic import TypeAdapter

from distill import config
from distill.config import Config, DataConfig, StageConfig
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RECORD
from distill.store.stages import STAGES
from distill.system import progress
from distill.system.files import replace_file
from distill.system.reading import read_bytes

FOLDER = "index"
SHORT = 16
"""Letters of a key that tell artifacts apart: two of a million share them with a chance of 3 in 10⁸."""
_LARGEST = 1 << 30
"""Bytes; a larger index is made anew."""
_ROWS_FOR_A_RECORD = 50
"""So many rows are written in the time in which one record is read."""


Stamp = tuple[int, int]
"""Change time (ns) and size of a record. Whoever edits it can put back its mtime, but not this."""


class Entry(NamedTuple):
    """A published folder, without its config."""

    name: str
    """Of the folder."""
    stamp: Stamp
    """Of its record as it was read."""
    key: str = ""
    version: int = 0
    current: bool = False
    """Whether its config, read today, has this key and version."""
    accuracy: float | None = None
    """On the test set."""
    bytes: int = 0
    """Of the files that the record names."""
    seconds: float | None = None
    """That it took to make."""
    kind: str = ""
    """The same for artifacts that cost alike (`kind`)."""
    source: str = ""
    """The same for one data set with one set of arguments (`source`)."""
    shape: tuple[int, ...] = ()
    """Training and test images, channels, height, width and classes of that data set, where they are known."""
    inputs: tuple[str, ...] = ()
    """Keys of what it was made from, the first `SHORT` letters of each."""
    problem: str = ""
    """Why its record cannot be read; empty when it can."""


_LISTS = tuple(GenericAlias(list, (kind,)) for kind in get_type_hints(Entry).values())
_FORM: Any = GenericAlias(tuple, (str, GenericAlias(tuple, _LISTS)))
_FILE: TypeAdapter[Any] = TypeAdapter(_FORM)
"""An index as it is stored: a hash of what the rows were derived with, and a list for each field of an entry. Read
by column it takes half the time."""


def read_index(root: Path, stage: str, read: Callable[[Path], Artifact]) -> list[Entry]:
    """What is published of one stage, by name.

    Args:
        root: folder of the store.
        stage: its name.
        read: the artifact in a folder; raises a UserError where there is none that can be read.
    """
    folder, file = root / STAGES[stage].folder, root / FOLDER / f"{STAGES[stage].folder}.json"
    known = _load(file)
    found: list[Entry] = []
    fresh = 0
    there = list(published(folder))
    try:
        with progress.bar(there, "records", delay=2, disable=None, unit="record", leave=False) as bar:
            for name, seen in bar:
                entry = known.get(name)
                if entry is None or entry.stamp != seen:
                    entry = _entry(folder / name, seen, read)
                    fresh += 1
                found.append(entry)
    finally:  # who interrupts it need not wait for these again
        if fresh * _ROWS_FOR_A_RECORD > len(found):
            # What cannot be read is tried again each time: the reason may be gone.
            _save(file, [entry for entry in found if not entry.problem])
    return found


def published(folder: Path, key: str = "") -> Iterator[tuple[str, Stamp]]:
    """Name and stamp of each published artifact in the folder of a stage, by name.

    Args:
        folder: of the stage.
        key: only those whose name, which ends with the beginning of a key, fits this one.
    """
    try:
        # Strings, since a Path for each of 100,000 costs a second.
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if name[-8:].startswith(key[:8]) and (found := stamp(f"{folder}/{name}")):
            yield name, found


def stamp(folder: Path | str) -> Stamp | None:
    """Stamp of the record in a folder; None where there is none."""
    try:
        status = os.stat(f"{folder}/{RECORD}")  # noqa: PTH116
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size


def kind(config: StageConfig) -> str:
    """A hash of what makes two artifacts alike in cost."""
    costs_like = STAGES[config.stage].costs_like
    alike = costs_like(config) if costs_like else [key(config)]
    return _short([config.stage, *(each.model_dump() if isinstance(each, Config) else each for each in alike)])


def source(data: DataConfig) -> str:
    """A hash of a data set and its arguments, whatever its split."""
    return _short([data.name, data.kwargs])


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _entry(path: Path, seen: Stamp, read: Callable[[Path], Artifact]) -> Entry:
    try:
        found = read(path)
    except UserError as error:
        return Entry(path.name, seen, problem=str(error))
    record, made_by = found.record, found.config
    stage = STAGES[made_by.stage]
    data = stage.reads(made_by) if stage.reads else None
    return Entry(
        path.name,
        seen,
        record.key,
        record.version,
        record.version == stage.version and found.is_current,
        _number(record.metrics.get("test/accuracy")),
        sum(entry.bytes for entry in record.files.values()),
        _number(record.provenance.get("seconds")),
        kind(made_by),
        source(data) if data else "",
        _shape(record.data) if data and data.limit is None else (),
        tuple(name[:SHORT] for name in record.inputs),
    )


def _number(value: Any) -> float | None:
    """What others may have written: a finite number, or nothing."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shape(data: dict[str, Any]) -> tuple[int, ...]:
    with suppress(KeyError, TypeError, ValueError):
        sizes, (channels, height, width) = data["sizes"], data["shape"]
        numbers = (sizes["train"] + sizes["held_out"], sizes["test"], channels, height, width, len(data["classes"]))
        return numbers if all(type(number) is int for number in numbers) else ()
    return ()


@functools.cache
def _code() -> str:
    """Hash of what rows are derived with: other fields or other versions make other keys."""
    rooms = Path(__file__).parent, Path(config.__file__).parent
    files = [path.read_bytes() for room in rooms for path in sorted(room.glob("*.py"))]
    return hashlib.sha256(b"".join(files)).hexdigest()


def _load(file: Path) -> dict[str, Entry]:
    # Lists of different lengths are a ValueError, as what pydantic refuses.
    with suppress(OSError, ValueError, UserError):
        code, columns = _FILE.validate_json(read_bytes(file, _LARGEST))
        if code == _written_with():
            return {entry.name: entry for entry in map(Entry._make, zip(*columns, strict=True))}
    return {}


def _save(file: Path, rows: list[Entry]) -> None:
    # A number with more digits than Python writes, from a record that somebody made up, is a ValueError.
    with suppress(OSError, ValueError):
        columns = list(zip(*rows, strict=True)) or [()] * len(Entry._fields)
        text = json.dumps([_written_with(), columns], allow_nan=False, separators=(",", ":"))
        file.parent.mkdir(exist_ok=True)
        replace_file(file, text.encode())


def _written_with() -> str:
    return f"{_code()} {[(stage.name, stage.version) for stage in STAGES.values()]}"
