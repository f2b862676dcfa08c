"""Keep what the records of a store say in one file per stage, so that listing 100,000 artifacts opens none.

The index is a pure cache and may be deleted at any moment. A row is believed only while its record still has the
change time and the size that were read. An index that is missing, damaged, written by other code or not writable
costs nothing but time.
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
"""Letters of a key that tell artifacts apart; two of a million artifacts share them with a chance of 3 in 10⁸."""
_LARGEST = 1 << 30
"""Largest index in bytes; a larger one is made anew."""
_ROWS_FOR_A_RECORD = 50
"""Number of rows that are written in the time in which one record is read."""


# The change time (ctime) and not mtime: whoever edits a record can put back its mtime, but not its ctime.
Stamp = tuple[int, int]
"""Change time (ns) and size of a record."""


class Entry(NamedTuple):
    """The index row of a published folder: what its record says, without the config."""

    name: str
    """Name of the folder."""
    stamp: Stamp
    """Stamp of the record when it was read."""
    key: str = ""
    version: int = 0
    current: bool = False
    """Whether the config, read today, has this key and this version."""
    accuracy: float | None = None
    """Accuracy on the test set."""
    bytes: int = 0
    """Total size of the files that the record names."""
    seconds: float | None = None
    """Seconds that the artifact took to make."""
    kind: str = ""
    """Hash that is equal for artifacts of similar cost; see `kind`."""
    source: str = ""
    """Hash that is equal for artifacts of one data set with the same arguments; see `source`."""
    shape: tuple[int, ...] = ()
    """Training images, test images, channels, height, width and classes of the data set; empty if unknown."""
    inputs: tuple[str, ...] = ()
    """The first `SHORT` letters of the key of each input."""
    problem: str = ""
    """Why the record cannot be read; empty when it can be read."""


_LISTS = tuple(GenericAlias(list, (kind,)) for kind in get_type_hints(Entry).values())
_FORM: Any = GenericAlias(tuple, (str, GenericAlias(tuple, _LISTS)))
# One list per field, because reading by column takes half the time of reading by row.
_FILE: TypeAdapter[Any] = TypeAdapter(_FORM)
"""Validator of an index file: a hash of the code that derived the rows, and one list per field of `Entry`."""


def read_index(root: Path, stage: str, read: Callable[[Path], Artifact]) -> list[Entry]:
    """List the published artifacts of one stage, sorted by name.

    Args:
        root: folder of the store.
        stage: name of the stage.
        read: function that returns the artifact in a folder, and raises a UserError if it cannot be read.
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
    finally:  # after an interrupt these records need not be read again
        if fresh * _ROWS_FOR_A_RECORD > len(found):
            # Records that cannot be read are tried again each time: the reason may be gone.
            _save(file, [entry for entry in found if not entry.problem])
    return found


def published(folder: Path, key: str = "") -> Iterator[tuple[str, Stamp]]:
    """Yield the name and the stamp of each published artifact in the folder of a stage, sorted by name.

    Args:
        folder: folder of the stage.
        key: yield only artifacts whose name ends with the beginning of this key.
    """
    try:
        # The names stay strings: making 100,000 Paths takes a second.
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if name[-8:].startswith(key[:8]) and (found := stamp(f"{folder}/{name}")):
            yield name, found


def stamp(folder: Path | str) -> Stamp | None:
    """Return the stamp of the record in a folder, or None if there is no record."""
    try:
        status = os.stat(f"{folder}/{RECORD}")  # noqa: PTH116
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size


def kind(config: StageConfig) -> str:
    """Return a hash that two artifacts share when they cost about the same to make."""
    costs_like = STAGES[config.stage].costs_like
    alike = costs_like(config) if costs_like else [key(config)]
    return _short([config.stage, *(each.model_dump() if isinstance(each, Config) else each for each in alike)])


def source(data: DataConfig) -> str:
    """Return a hash of a data set and its arguments, whatever its split."""
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
    """Return a value from a record as a finite number, or None if it is anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shape(data: dict[str, Any]) -> tuple[int, ...]:
    with suppress(KeyError, TypeError, ValueError):
        sizes, (channels, height, width) = data["sizes"], data["shape"]
        numbers = (sizes["train"] + sizes["held_out"], sizes["test"], channels, height, width, len(data["classes"]))
        return numbers if all(type(number) is int for number in numbers) else ()
    return ()


@functools.cache
def _code() -> str:
    """Return a hash of the code that derives the rows."""
    # Other fields or other versions make other keys, so all rows must then be derived anew.
    rooms = Path(__file__).parent, Path(config.__file__).parent
    files = [path.read_bytes() for room in rooms for path in sorted(room.glob("*.py"))]
    return hashlib.sha256(b"".join(files)).hexdigest()


def _load(file: Path) -> dict[str, Entry]:
    # Lists of different lengths raise a ValueError, and so does whatever pydantic refuses.
    with suppress(OSError, ValueError, UserError):
        code, columns = _FILE.validate_json(read_bytes(file, _LARGEST))
        if code == _written_with():
            return {entry.name: entry for entry in map(Entry._make, zip(*columns, strict=True))}
    return {}


def _save(file: Path, rows: list[Entry]) -> None:
    # A forged record may hold a number with more digits than Python writes, which raises a ValueError.
    with suppress(OSError, ValueError):
        columns = list(zip(*rows, strict=True)) or [()] * len(Entry._fields)
        text = json.dumps([_written_with(), columns], allow_nan=False, separators=(",", ":"))
        file.parent.mkdir(exist_ok=True)
        replace_file(file, text.encode())


def _written_with() -> str:
    return f"{_code()} {[(stage.name, stage.version) for stage in STAGES.values()]}"
