"""Damage the files of a store as disks, copies that stop half way, and people do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.store.record import RECORD

Damage = Callable[[Path, random.Random], str]
"""Function of a file and a generator that says what it did; it returns "" if it cannot damage this file."""


def flip(path: Path, draw: random.Random) -> str:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at}"


def truncate(path: Path, draw: random.Random) -> str:
    """Cut off the end of the file."""
    length = draw.randrange(path.stat().st_size)
    path.write_bytes(path.read_bytes()[:length])
    return f"cut to {length} bytes"


def empty(path: Path, draw: random.Random) -> str:
    """Empty the file."""
    path.write_bytes(b"")
    return "emptied"


def append(path: Path, draw: random.Random) -> str:
    """Append bytes; to a text append only white space."""
    path.write_bytes(path.read_bytes() + (b"\n" if draw.random() < 0.5 else draw.randbytes(8)))
    return "longer"


def delete(path: Path, draw: random.Random) -> str:
    """Delete the file."""
    path.unlink()
    return "deleted"


def swap(path: Path, draw: random.Random) -> str:
    """Swap the file with another of its kind in the artifact, such as two shards."""
    others = [other for other in path.parent.glob(f"*{path.suffix}") if other != path and other.name != RECORD]
    return _exchange(path, others, draw)


def mix_up(path: Path, draw: random.Random) -> str:
    """Swap the file with the file of this name in another artifact of the stage."""
    artifact = _artifact(path)
    others = [other / path.relative_to(artifact) for other in artifact.parent.glob("*/") if other != artifact]
    return _exchange(path, others, draw)


def replace(path: Path, draw: random.Random) -> str:
    """Replace the file by that of another artifact of the stage, as an old manifest beside new shards."""
    artifact = _artifact(path)
    others = [other / path.relative_to(artifact) for other in artifact.parent.glob("*/") if other != artifact]
    others = [other for other in others if other.is_file() and other.read_bytes() != path.read_bytes()]
    if not others:
        return ""
    other = draw.choice(others)
    path.write_bytes(other.read_bytes())
    return f"replaced by that of {_artifact(other).name}"


def edit(path: Path, draw: random.Random) -> str:
    """Change one number or text of a JSON file, which stays JSON."""
    if path.suffix != ".json":
        return ""
    value = json.loads(path.read_bytes())
    places = list(_places(value))
    if not places:
        return ""
    holder, name = draw.choice(places)
    before = holder[name]
    holder[name] = before + 1 if isinstance(before, int | float) else f"{before}x"
    path.write_text(json.dumps(value, indent=1))
    return f"{name}: {before!r} → {holder[name]!r}"


DAMAGES: list[Damage] = [flip, truncate, empty, append, delete, swap, mix_up, replace, edit]


def _artifact(path: Path) -> Path:
    """Return the folder of the artifact, which has the record."""
    return next(folder for folder in path.parents if (folder / RECORD).is_file())


def _exchange(path: Path, others: list[Path], draw: random.Random) -> str:
    content = path.read_bytes()
    others = [other for other in others if other.is_file() and other.read_bytes() != content]
    if not others:
        return ""
    other = draw.choice(others)
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return f"exchanged with {other.relative_to(path.parents[2])}"


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Yield the container and the key of every number and text in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for name, item in items:
        found += [(value, name)] if isinstance(item, str | int | float) else _places(item)
    return found
