"""Compute the digest of the files of an image folder or archive; a file that did not change is read only once.

What is known of each file (size, times of change and inode → sha256) is kept under `<root>/digests/`, a file per
data set, which may be deleted at any time. While no folder and no file has changed, no names are listed again.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import Int64, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from distill.config import DataConfig
from distill.data.sets.archives import Status, image_files, is_archive, status_of
from distill.data.sets.names import Names
from distill.data.sets.places import is_of_program
from distill.errors import UserError
from distill.system.files import TICK_NS, expanded, replace_file
from distill.system.plugins import plugin_content
from distill.system.progress import bar
from distill.system.reading import check_safetensors

FOLDER = "digests"
_THREADS, _FILES_PER_THREAD = 16, 64
_ROWS = 10_000
"""Number of files whose status is compared at a time."""
SUFFIXES = {"shards": (".tar", ".txt"), "hfdataset": (".arrow", ".parquet", ".json")}
"""Kind of data set → suffixes of the files that make it up, where these are no image files."""


def folder_path(config: DataConfig) -> Path:
    """Return the absolute path of an image folder or archive."""
    return expanded(Path(config.folder or "")).resolve()


def data_content(config: DataConfig, root: Path, *, read: bool = True, progress: bool = True) -> str | None:
    """Return the digest of an image folder or plug-in; None for a built-in, installed, missing or unread data set.

    Raises:
        UserError: the data set is a plug-in that is not trusted.
    """
    if config.folder:
        where = folder_path(config), expanded(root).resolve()
        return folder_content(*where, read=read, progress=progress, kind=config.kind)
    return plugin_content(config.plugin, "data.name") if config.plugin else None


def folder_content(
    path: Path, root: Path, *, read: bool = True, progress: bool = True, kind: str = "imagefolder"
) -> str | None:
    """Return the digest of the images of a folder or archive: their bytes and names, which hold the labels.

    Args:
        path: absolute path of the folder, tar or zip.
        root: data root, under which digests of files are remembered.
        read: whether files that are not known yet are read; else the result is None where there are some.
        progress: whether to show a bar while many files are read.
        kind: kind of data set, which says which files count.

    Returns:
        The sha256 in hexadecimal; None if the path is neither a folder nor an archive.
    """
    stem = re.sub(r"[^\w.-]", "-", path.name)[:60]
    memory = root / FOLDER / f"{stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}.safetensors"
    known = _Seen.load(memory)
    if known is not None and known.is_unchanged(path):
        return known.content
    now, listed = time.time_ns(), _list(path, kind)
    if listed is None:
        return None
    if known is not None and known.has(listed.files, listed.status):
        return known.content
    if not read:
        return None
    with _alone(memory):
        known = _Seen.load(memory)  # another process may have read the files meanwhile
        digests = _digests(path, listed, known, progress)
        content = hashlib.sha256()
        for name, digest in zip(listed.files, digests, strict=True):
            content.update(f"{digest.tobytes().hex()} {name}\n".encode(errors="surrogateescape"))
        listed.read(digests, content.hexdigest()).save(memory, now)
    return content.hexdigest()


@dataclass(frozen=True)
class _Seen:
    """Hold what was seen of a data set: status of its folders and files, and digests of the files."""

    folders: Names
    folder_status: Int64[np.ndarray, "f 4"]
    files: Names
    # Whoever changes a file can put back its mtime, but not its ctime.
    status: Int64[np.ndarray, "n 4"]
    """Size, mtime and ctime in nanoseconds, and inode of each file."""
    digests: UInt8[np.ndarray, "n 32"]
    content: str
    """Digest of all files and names."""

    @classmethod
    def load(cls, memory: Path) -> _Seen | None:
        """Read what was remembered; None where nothing was, or where it is damaged."""
        with suppress(OSError, SafetensorError, UserError, KeyError, ValueError):
            check_safetensors(memory)
            with safe_open(memory, framework="numpy") as file:
                part = file.get_tensor
                folders, files = (Names(part(kind), part(f"{kind}_ends")) for kind in ("folders", "files"))
                content = file.metadata()["content"]
                seen = cls(folders, part("folder_status"), files, part("status"), part("digests"), content)
            return seen if seen._is_whole() else None
        return None

    def _is_whole(self) -> bool:
        return (
            all(len(each.ends) == 0 or each.ends[-1] == len(each.letters) for each in (self.folders, self.files))
            and self.folder_status.shape == (len(self.folders), 4)
            and self.status.shape == (len(self.files), 4)
            and self.digests.shape == (len(self.files), 32)
            and len(self.content) == 64
        )

    def read(self, digests: UInt8[np.ndarray, "n 32"], content: str) -> _Seen:
        """Return a copy with the digests of the files."""
        return _Seen(self.folders, self.folder_status, self.files, self.status, digests, content)

    def save(self, memory: Path, now: int) -> None:
        """Remember this; `now` is the time in nanoseconds before anything was looked at."""
        # What changed within the last step of the clock may change again without a new time.
        status, folders = (
            np.where(now - each[:, 1:3].max(1, keepdims=True, initial=0) >= TICK_NS, each, -1)
            for each in (self.status, self.folder_status)
        )
        arrays = {
            **{"folders": self.folders.letters, "folders_ends": self.folders.ends, "folder_status": folders},
            **{"files": self.files.letters, "files_ends": self.files.ends, "status": status},
            "digests": self.digests,
        }
        with suppress(OSError):  # without a memory, a later look only takes longer
            replace_file(memory, save(arrays, {"content": self.content}))

    def is_unchanged(self, path: Path) -> bool:
        """Ask for the status of every folder and file, without listing names."""
        names = ((self.folders, self.folder_status), (self.files, self.status))
        try:
            return all(_has_status(path, *each) for each in names)
        except OSError:
            return False

    def has(self, files: Names, status: Int64[np.ndarray, "n 4"]) -> bool:
        """Tell whether these are the files that were seen, as they were."""
        return (
            np.array_equal(self.status, status)
            and np.array_equal(self.files.ends, files.ends)
            and np.array_equal(self.files.letters, files.letters)
        )


def _has_status(path: Path, names: Names, status: Int64[np.ndarray, "n 4"]) -> bool:
    place = os.fspath(path)
    rows = (row for part in range(0, len(names), _ROWS) for row in status[part : part + _ROWS].tolist())
    for name, expected in zip(names, rows, strict=True):
        found = os.stat(f"{place}/{name}" if name else place)  # noqa: PTH116 - twice as fast for a million files
        if status_of(found) != tuple(expected):
            return False
    return True


def _list(path: Path, kind: str) -> _Seen | None:
    """List the files of a data set, in the order of their paths, without digests."""
    folders: list[tuple[str, Status]] = []
    files: Iterable[tuple[str, Status]]
    if kind == "imagefolder" and is_archive(path):
        files = [("", status_of(path.stat()))]
    elif not path.is_dir():
        return None
    elif kind == "imagefolder":
        files = image_files(path, folders)
    else:
        named = [(each.relative_to(path).as_posix(), each) for each in sorted(path.rglob("*"))]
        named = [(name, each) for name, each in named if not any(map(is_of_program, name.split("/")))]
        found = [each for each in named if each[1].suffix in SUFFIXES[kind] and each[1].is_file()]
        files = [(name, status_of(each.stat())) for name, each in found]
        folders = [(name, status_of(each.stat())) for name, each in [("", path), *named] if each.is_dir()]
    listed = _in_order(files)  # and with that all folders are known
    return _Seen(*_in_order(folders), *listed, np.zeros((len(listed[0]), 32), np.uint8), "")


def _in_order(files: Iterable[tuple[str, Status]]) -> tuple[Names, Int64[np.ndarray, "n 4"]]:
    """Pack names and status in the order of the paths; a million files take no Python objects but their names."""
    names, facts = list[str](), array("q")
    for name, status in files:
        names.append(name)
        facts.extend(status)
    order = sorted(range(len(names)), key=lambda row: names[row].replace("/", "\0"))
    status = np.frombuffer(facts, np.int64).reshape(-1, 4)[order]
    return Names.of(names[row] for row in order), status


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


def _digests(path: Path, listed: _Seen, known: _Seen | None, progress: bool) -> UInt8[np.ndarray, "n 32"]:
    """Return the sha256 of each listed file; only files that are not known are read."""
    digests = listed.digests.copy()
    unknown = np.ones(len(digests), dtype=bool)
    if known is not None:
        row_of = dict(zip(known.files, range(len(known.files)), strict=True))
        before = np.array([row_of.get(name, -1) for name in listed.files], dtype=np.int64)
        there = np.flatnonzero(before >= 0)
        same = there[(known.status[before[there]] == listed.status[there]).all(1)]
        digests[same], unknown[same] = known.digests[before[same]], False
    rows = np.flatnonzero(unknown)
    read = hash_files(path, [listed.files[row] for row in rows.tolist()], progress)
    digests[rows] = np.frombuffer(bytes.fromhex("".join(read)), np.uint8).reshape(-1, 32)
    return digests


def hash_files(path: Path, names: Sequence[str], progress: bool) -> list[str]:
    """Return the sha256 of each named file in a folder; the name "" stands for `path` itself, an archive."""

    def digests_of(part: Sequence[str]) -> list[str]:
        digests = []
        for name in part:
            with (path / name).open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return digests

    hidden = None if progress else True
    parts = [names[first : first + _FILES_PER_THREAD] for first in range(0, len(names), _FILES_PER_THREAD)]
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        bar(total=len(names), desc=f"hash {path.name}", unit="file", delay=2, disable=hidden) as line,
    ):
        digests: list[str] = []
        for each in pool.map(digests_of, parts):
            digests += each
            line.update(len(each))
    return digests
