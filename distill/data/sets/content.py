"""Compute the digest of the files of an image folder or archive; a file that did not change is read only once.

What is known of each file (size, times of change and inode → sha256) is kept under `<root>/digests/`, a file per
data set, which may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from distill.config import DataConfig
from distill.data.sets.archives import image_files, is_archive
from distill.errors import UserError
from distill.system.files import TICK_NS, expanded, replace_file
from distill.system.plugins import plugin_content
from distill.system.progress import bar
from distill.system.reading import read_bytes

FOLDER = "digests"
_THREADS = 16
_LARGEST = 4 << 30
"""Largest memory of digests in bytes; a larger one is made anew."""


# Whoever changes a file can put back its mtime, but not its ctime.
_File = tuple[str, int, int, int, int]
"""Name, size, mtime and ctime in nanoseconds, and inode of a file."""


def folder_path(config: DataConfig) -> Path:
    """Return the absolute path of an image folder or archive."""
    return expanded(Path(config.folder or "")).resolve()


def data_content(config: DataConfig, root: Path, *, read: bool = True, progress: bool = True) -> str | None:
    """Return the digest of an image folder or plug-in; None for a built-in, installed, missing or unread data set.

    Raises:
        UserError: the data set is a plug-in that is not trusted.
    """
    if config.folder:
        return folder_content(folder_path(config), expanded(root).resolve(), read=read, progress=progress)
    return plugin_content(config.plugin, "data.name") if config.plugin else None


def folder_content(path: Path, root: Path, *, read: bool = True, progress: bool = True) -> str | None:
    """Return the digest of the images of a folder or archive: their bytes and names, which hold the labels.

    Args:
        path: absolute path of the folder, tar or zip.
        root: data root, under which digests of files are remembered.
        read: whether files that are not known yet are read; else the result is None where there are some.
        progress: whether to show a bar while many files are read.

    Returns:
        The sha256 in hexadecimal; None if the path is neither a folder nor an archive.
    """
    now = time.time_ns()
    files = _files(path)
    if files is None:
        return None
    listing = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    stem = re.sub(r"[^\w.-]", "-", path.name)[:60]
    memory = root / FOLDER / f"{stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}.json"
    # An unchanged listing says all, and the digests of 100,000 files need not even be parsed.
    if (known := _known_content(memory, listing)) or not read:
        return known
    with _alone(memory):
        if known := _known_content(memory, listing):
            return known
        digests = _known_digests(memory)
        unknown = [file for file in files if file not in digests]
        digests |= zip(unknown, hash_files(path, [name for name, *_ in unknown], progress), strict=True)
        content = hashlib.sha256()
        for file in files:
            content.update(f"{digests[file]} {file[0]}\n".encode(errors="surrogateescape"))
        _remember(memory, listing, content.hexdigest(), {file: digests[file] for file in files}, now)
    return content.hexdigest()


def _files(path: Path) -> list[_File] | None:
    if is_archive(path):
        listed: Iterable[tuple[str, os.stat_result]] = [("", path.stat())]
    elif path.is_dir():
        listed = image_files(path)
    else:
        return None
    return [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in listed]


@contextmanager
def _alone(memory: Path) -> Iterator[None]:
    """Let only one process at a time hash a data set; where no lock file can be written, make nobody wait."""
    lock = FileLock(memory.with_suffix(".lock"))
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def hash_files(path: Path, names: Sequence[str], progress: bool) -> list[str]:
    """Return the sha256 of each named file in a folder; the name "" stands for `path` itself, an archive."""

    def digest(name: str) -> str:
        with (path / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    hidden = None if progress else True
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        bar(total=len(names), desc=f"hash {path.name}", unit="file", delay=2, disable=hidden) as line,
    ):
        digests = []
        for each in pool.map(digest, names):
            digests.append(each)
            line.update()
    return digests


def _known_content(memory: Path, listing: str) -> str | None:
    """Return the remembered digest of a data set whose files are all as they were."""
    with suppress(OSError, ValueError), memory.open("rb") as file:
        known, content = json.loads(file.readline(1000))
        return content if known == listing else None
    return None


def _known_digests(memory: Path) -> dict[_File, str]:
    with suppress(OSError, ValueError, TypeError, LookupError, UserError):
        rows = json.loads(read_bytes(memory, _LARGEST).split(b"\n", 1)[1])
        return {(name, *numbers): digest for name, *numbers, digest in rows}
    return {}


def _remember(memory: Path, listing: str, content: str, digests: dict[_File, str], now: int) -> None:
    # A file that changed within the last step of the clock may change again without a new time.
    settled = {file: digest for file, digest in digests.items() if now - max(file[2:4]) >= TICK_NS}
    known = [listing, content] if len(settled) == len(digests) else ["", ""]
    rows = [[*file, digest] for file, digest in settled.items()]
    with suppress(OSError):  # without a memory, a later look only takes longer
        replace_file(memory, json.dumps(known).encode(), b"\n", json.dumps(rows).encode())
