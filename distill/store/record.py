"""Define and check the fields of `record.json`, which a checksum protects against changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from distill.config import Count

RECORD = "record.json"
# A draft with a resume point or with stamps holds finished work, which a mistake in a later call must not destroy.
RESUME = "resume.safetensors"
STAMPS = "stamps"
"""Folder of a draft that has a stamp for each finished piece of work."""
LOG_HEAD = b"log of a stage of distill\n"
"""First line of a log, by which `distill gc` tells it from a log of another program."""


def _within(name: str) -> str:
    """Refuse a path that leaves the folder of its artifact, on any system, or that cannot be printed."""
    parts = name.split("/")
    if "\\" in name or ":" in parts[0] or not name.isprintable() or {"", ".", ".."} & set(parts):
        raise ValueError(f"a path within the folder, not {name[:200]!r}")
    return name


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_FileName = Annotated[str, Field(max_length=1000), AfterValidator(_within)]


# The change time (ctime) and not mtime: whoever edits a record can put back its mtime, but not its ctime.
RecordStat = tuple[int, int]
"""Change time (ns) and size in bytes of a record, which tell whether it was written again."""


def record_stat(folder: Path) -> RecordStat | None:
    """Return the change time and the size of the record in a folder, or None if there is no record."""
    try:
        status = (folder / RECORD).stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size


class FileEntry(BaseModel):
    """Hold the size and sha256 that a file of an artifact must have."""

    sha256: _Digest
    bytes: Annotated[int, Field(ge=0)]


class _Takes(BaseModel):
    """Hold the types of what a record says about the input of a network that does not take images as they are."""

    model_config = ConfigDict(strict=True)

    shape: Annotated[list[Count], Field(min_length=3, max_length=3)]
    interpolation: str
    crop: float


class _Images(BaseModel):
    """Hold the types of the fields that describe images in a record; a record may lack any of them."""

    model_config = ConfigDict(strict=True)

    classes: Annotated[list[str], Field(min_length=1)] = []
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)] = []
    mean: list[float] = []
    std: list[float] = []
    fingerprint: str = ""
    sizes: dict[str, int] = {}
    priors: list[float] = []
    takes: _Takes | None = None


def _of_images(fields: dict[str, Any]) -> dict[str, Any]:
    _Images.model_validate(fields)
    return fields


class Record(BaseModel):
    """Hold the content of `record.json`: what an artifact is, what it was made from, which files it must have."""

    model_config = ConfigDict(extra="forbid")

    key: _Digest
    version: int
    config: dict[str, Any]
    inputs: dict[_Digest, str]
    """Key of each input → sha256 of its record, or "diverged"; a key identifies a recipe, a sha256 its bytes."""
    files: dict[_FileName, FileEntry]
    data: Annotated[dict[str, Any], AfterValidator(_of_images)] = {}
    """Identity of the data set: name, classes, shape, mean, std, fingerprint."""
    metrics: dict[str, float] = {}
    provenance: dict[str, Any] = {}
    seal: str = ""
    """sha256 of the bytes of `record.json` with an empty seal; empty until the record is written."""

    def sealed(self) -> bytes:
        """Return the bytes of `record.json`, with a checksum (the seal) of all other bytes in them."""
        fields = self.model_dump(mode="json") | {"seal": ""}
        before, name, after = json.dumps(fields, indent=1, allow_nan=False).rpartition('"seal": "')
        return f"{before}{name}{hashlib.sha256((before + name + after).encode()).hexdigest()}{after}".encode()

    def fits(self, content: bytes) -> bool:
        """Tell whether `content`, the bytes of `record.json`, still has the checksum that is written in it."""
        if not self.seal:
            return False
        head, _, tail = content.rpartition(self.seal.encode())
        return hashlib.sha256(head + tail).hexdigest() == self.seal
