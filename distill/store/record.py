"""`record.json`: what an artifact is, what it was made from, and what it must contain."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from distill.config import (
    Count,
)

RECORD = "record.json"


RESUME = "resume.safetensors"


STAMPS = "stamps"
"""A draft with a resume point or with stamps holds finished work, which a mistake in a later call must not cost."""


def _within(name: str) -> str:
    """A path that stays within the folder of its artifact, here and on other systems, and that can be printed."""
    parts = name.split("/")
    if "\\" in name or ":" in parts[0] or not name.isprintable() or {"", ".", ".."} & set(parts):
        raise ValueError(f"a path within the folder, not {name[:200]!r}")
    return name


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


_FileName = Annotated[str, Field(max_length=1000), AfterValidator(_within)]


class FileEntry(BaseModel):
    """What a file of an artifact must be."""

    sha256: _Digest
    bytes: Annotated[int, Field(ge=0)]


class _Images(BaseModel):
    """Types of what a record says of its images, as far as it does."""

    model_config = ConfigDict(strict=True)

    classes: Annotated[list[str], Field(min_length=1)] = []
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)] = []
    mean: list[float] = []
    std: list[float] = []
    fingerprint: str = ""
    sizes: dict[str, int] = {}
    priors: list[float] = []


def _of_images(fields: dict[str, Any]) -> dict[str, Any]:
    _Images.model_validate(fields)
    return fields


class Record(BaseModel):
    """`record.json`: what an artifact is, what it was made from, and what it must contain."""

    model_config = ConfigDict(extra="forbid")

    key: _Digest
    version: int
    config: dict[str, Any]
    inputs: dict[_Digest, str]
    """Key of each input → sha256 of its record: keys are of recipes, this is of bytes."""
    files: dict[_FileName, FileEntry]
    data: Annotated[dict[str, Any], AfterValidator(_of_images)] = {}
    """Identity of the data set: name, classes, shape, mean, std, fingerprint."""
    metrics: dict[str, float] = {}
    provenance: dict[str, Any] = {}
    seal: str = ""
    """sha256 of the bytes of `record.json` without this; empty until it is written."""

    def sealed(self) -> bytes:
        """The content of `record.json`."""
        fields = self.model_dump(mode="json") | {"seal": ""}
        before, name, after = json.dumps(fields, indent=1, allow_nan=False).rpartition('"seal": "')
        return f"{before}{name}{hashlib.sha256((before + name + after).encode()).hexdigest()}{after}".encode()

    def fits(self, content: bytes) -> bool:
        """Whether the bytes that it was read from are those that were sealed."""
        if not self.seal:
            return False
        head, _, tail = content.rpartition(self.seal.encode())
        return hashlib.sha256(head + tail).hexdigest() == self.seal
