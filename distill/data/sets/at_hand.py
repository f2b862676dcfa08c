"""Find, check and publish the files of a data set under the data root, where a file is whole or missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from distill.config.data_sets import Origin
from distill.errors import UserError


class Unavailable(Exception):
    """Tell that a source of files cannot serve them, and why."""


def find(folder: Path, name: str) -> Path | None:
    """Find a file of a data set in a folder, raw or gzipped."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def missing(origin: Origin, root: Path) -> list[str]:
    """List the files of a data set that are missing under the data root."""
    return [name for name in origin.files if find(root / origin.folder, name) is None]


def verify(path: Path, md5: str) -> None:
    """Compare a file with its checksum.

    Raises:
        UserError: the checksums differ; the message names the file and its size.
    """
    if (its_md5 := checksum(path)) != md5:
        raise damaged(path, f"md5 {md5}, not {its_md5}")


def checksum(path: Path) -> str:
    """Compute the md5 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def damaged(path: Path, expected: str) -> UserError:
    """Make the error for a file that exists but cannot be right."""
    size = f"{path.stat().st_size:,} bytes"
    return UserError("data file", f"{path} ({size})", expected, "Delete it to have it fetched again.")


def publish(source: Path, destination: Path, names: list[str]) -> None:
    """Move files to their final folder, each by one rename within the file system."""
    destination.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (source / name).is_file():
            raise Unavailable(f"it has no {name}")
        (source / name).replace(destination / name)
