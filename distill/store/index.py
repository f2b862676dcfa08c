"""Keep the entries of all artifacts in one file per stage, so that listing 100,000 artifacts opens no record.

The index is a pure cache and may be deleted at any moment. An index that is missing, damaged, written by other code
or not writable costs nothing but time.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from distill import config
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.entries import Entry, published, read_entry
from distill.store.stages import STAGES
from distill.system import progress
from distill.system.files import replace_file
from distill.system.reading import read_bytes

FOLDER = "index"
_LARGEST = 1 << 30
"""Largest index in bytes; a larger one is made anew."""
_FILE: TypeAdapter[tuple[str, list[Entry]]] = TypeAdapter(tuple[str, list[Entry]])
"""Validator of an index file: a hash of the code that derived the entries, and the entries."""


def read_index(root: Path, stage: str, read: Callable[[Path], Artifact]) -> list[Entry]:
    """List the published artifacts of one stage, sorted by name; unchanged records are not opened.

    Args:
        root: folder of the store.
        stage: name of the stage.
        read: function that returns the artifact in a folder, and raises a UserError if it cannot be read.
    """
    folder, file = root / STAGES[stage].folder, root / FOLDER / f"{STAGES[stage].folder}.json"
    known = _load(file)
    entries: list[Entry] = []
    names = list(published(folder))
    for name, stat in progress.bar(names, "records", delay=2, disable=None, unit="record", leave=False):
        entry = known.get(name)
        entries.append(entry if entry and entry.stat == stat else read_entry(folder / name, stat, read))
    # A record that cannot be read is tried again each time, because the reason may be gone.
    readable = [entry for entry in entries if not entry.problem]
    if readable != list(known.values()):
        _save(file, readable)
    return entries


@functools.cache
def _hash_of_code() -> str:
    # Other fields or other versions make other keys, so all entries must then be derived anew.
    rooms = Path(__file__).parent, Path(config.__file__).parent
    files = [path.read_bytes() for room in rooms for path in sorted(room.glob("*.py"))]
    return hashlib.sha256(b"".join(files)).hexdigest()


def written_with() -> str:
    """Name the code and the stage versions with which entries are derived; other entries are not believed."""
    return f"{_hash_of_code()} {[(stage.name, stage.version) for stage in STAGES.values()]}"


def _load(file: Path) -> dict[str, Entry]:
    with suppress(OSError, ValueError, UserError):  # whatever pydantic refuses raises a ValueError
        code, entries = _FILE.validate_json(read_bytes(file, _LARGEST))
        if code == written_with():
            return {entry.name: entry for entry in entries}
    return {}


def _save(file: Path, entries: list[Entry]) -> None:
    # A forged record may hold a number with more digits than Python writes, which raises a ValueError.
    with suppress(OSError, ValueError):
        text = json.dumps([written_with(), entries], allow_nan=False, separators=(",", ":"))
        file.parent.mkdir(exist_ok=True)
        replace_file(file, text.encode())
