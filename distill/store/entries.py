"""Find the published folders of a stage, and sum up for `ls`, `plan` and `gc` what their records say."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from distill.config import Config, DataConfig, StageConfig
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RECORD
from distill.store.stages import STAGES

# The change time (ctime) and not mtime: whoever edits a record can put back its mtime, but not its ctime.
RecordStat = tuple[int, int]
"""Change time (ns) and size in bytes of a record, which tell whether it was written again."""


class Entry(NamedTuple):
    """The summary of a published folder: what its record says, without the config."""

    name: str
    """Name of the folder."""
    stat: RecordStat
    """Change time and size of the record when it was read."""
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
    cost_group: str = ""
    """Hash that is equal for artifacts that cost about the same to make."""
    data_set: str = ""
    """Hash that is equal for artifacts of one data set with the same arguments."""
    shape: tuple[int, ...] = ()
    """Training images, test images, channels, height, width and classes of the data set; empty if unknown."""
    inputs: tuple[str, ...] = ()
    """Keys of the inputs."""
    problem: str = ""
    """Why the record cannot be read; empty when it can be read."""


def published(folder: Path, key: str = "") -> Iterator[tuple[str, RecordStat]]:
    """Yield the name of each published artifact in the folder of a stage and the stat of its record, by name.

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
        if name[-8:].startswith(key[:8]) and (stat := record_stat(f"{folder}/{name}")):
            yield name, stat


def record_stat(folder: Path | str) -> RecordStat | None:
    """Return the change time and the size of the record in a folder, or None if there is no record."""
    try:
        status = os.stat(f"{folder}/{RECORD}")  # noqa: PTH116
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size


def read_entry(path: Path, stat: RecordStat, read: Callable[[Path], Artifact]) -> Entry:
    """Read the record in a folder and return its entry; the entry of an unreadable record says why."""
    try:
        artifact = read(path)
    except UserError as error:
        return Entry(path.name, stat, problem=str(error))
    record, config = artifact.record, artifact.config
    stage = STAGES[config.stage]
    data = stage.data_set(config) if stage.data_set else None
    return Entry(
        path.name,
        stat,
        record.key,
        record.version,
        record.version == stage.version and artifact.is_current,
        _number(record.metrics.get("test/accuracy")),
        sum(file.bytes for file in record.files.values()),
        _number(record.provenance.get("seconds")),
        cost_group(config),
        hash_of_data_set(data) if data else "",
        _shape(record.data) if data and data.limit is None else (),
        tuple(record.inputs),
    )


def cost_group(config: StageConfig) -> str:
    """Return a hash that two artifacts share when they cost about the same to make."""
    costs_like = STAGES[config.stage].costs_like
    alike = costs_like(config) if costs_like else [key(config)]
    return _hash([config.stage, *(each.model_dump() if isinstance(each, Config) else each for each in alike)])


def hash_of_data_set(data: DataConfig) -> str:
    """Return a hash of a data set's name and arguments, whatever its split."""
    return _hash([data.name, data.kwargs])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _number(value: Any) -> float | None:
    """Return a value from a record as a finite number, or None if it is anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shape(data: dict[str, Any]) -> tuple[int, ...]:
    with suppress(KeyError, TypeError, ValueError):
        sizes, (channels, height, width) = data["sizes"], data["shape"]
        numbers = (sizes["train"] + sizes["held_out"], sizes["test"], channels, height, width, len(data["classes"]))
        return numbers if all(type(number) is int for number in numbers) else ()
    return ()
