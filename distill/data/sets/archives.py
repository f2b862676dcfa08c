"""Read the image files of a folder, a tar or a zip: their names, and their bytes one after another.

Nothing is unpacked to disk. What an archive declares is checked before it is read: an image has at most
`IMAGE_BYTES`, an archive holds at most `RATIO` times its own size, and a name is a path that stays within its
folder and occurs once. Links, devices and the like are skipped, but refused in the place of an image.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, NamedTuple, cast

from distill.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
IMAGE_BYTES = 256 << 20
"""Largest file of one image, in bytes: about what the largest decodable image needs without compression."""
RATIO, FREE_BYTES = 100, 256 << 20
"""Largest ratio of the bytes inside an archive to its own size, and the bytes that are allowed in any case."""
_BYTES_PER_MEMBER, _FREE_MEMBERS = 16, 100_000
"""Smallest number of bytes of a tar per member, and the number of members that are allowed in any case."""
_HEADER_BYTES = 1 << 16
"""Largest number of bytes of all headers of one member of a tar, with its name and other facts about it."""
_DIGITS = re.compile(rb"\d{65}")
"""A run of digits so long that older versions of `tarfile` search the header for hours (CVE-2024-6232)."""
_DIRECTORY_BYTES = 1 << 30
"""Largest directory of a zip, in bytes, which is held in memory: about ten million images."""
_XZ_MEMORY = 256 << 20
"""Largest memory for unpacking xz, in bytes; the highest preset of xz needs 65 MiB."""
_LONGEST_NAME = 4096
_BLOCK = 1 << 16
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Encoded = tuple[int, str, bytes]
"""Row, name and bytes of an image file."""


class Place(NamedTuple):
    """The place of an image: [one folder/]split/class/…/file."""

    split: str
    """Name of the split: train, test or val."""
    label: str
    inside: str
    """Path below the split: CLASS/…/file."""


class Names(NamedTuple):
    """The image files that have a place."""

    places: dict[str, Place]
    """Place of each file by its name, sorted."""
    files: int
    """Number of all files, including those without a place."""


def place_of(name: str) -> Place | None:
    """Return the place that an image file has by its name; None for other files, hidden files and other places."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
        return None
    for depth in (0, 1):
        if len(path.parts) >= depth + 3 and path.parts[depth] in ("train", "test", "val"):
            inside = path.parts[depth + 1 :]
            return Place(path.parts[depth], inside[0], "/".join(inside))
    return None


def is_archive(path: Path) -> bool:
    """Say whether a path is a file with the name of an archive that can be read."""
    return path.is_file() and path.name.endswith(ARCHIVE_SUFFIXES)


def image_files(path: Path) -> list[tuple[str, int, int]]:
    """List (name, bytes, time in ns) of the image files anywhere in a folder, in the order of their paths.

    Links to files are followed, links to folders are not.

    Raises:
        UserError: a linked folder stands where images would be read.
    """
    found: list[tuple[str, int, int]] = []
    waiting = [""]
    while waiting:
        within = waiting.pop()
        with os.scandir(path / within) as entries:
            for entry in entries:
                name = within + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
                    status = entry.stat()
                    found.append((name, status.st_size, status.st_mtime_ns))
                elif entry.is_symlink() and entry.is_dir() and _holds_images(name):
                    expected = "a folder: a link to one can lead anywhere, or in circles"
                    raise _refused(path, name, expected, "Copy the folder, or link its files one by one.")
    return sorted(found, key=lambda file: file[0].split("/"))


def _holds_images(folder: str) -> bool:
    return any(place_of(f"{folder}/{inside}") for inside in ("x.png", "x/x.png"))


def image_names(path: Path) -> Names:
    """List the names of the images of a folder or an archive; of an archive only headers are read.

    Raises:
        UserError: the archive is damaged or holds too much, a name is not allowed, two images have one place, or a
            member with the name of an image is no plain file.
    """
    if path.is_dir():
        names = [name for name, _, _ in image_files(path)]
        files = len(names)
    else:
        members = list(_members(path))
        names, files = [name for name in members if name], len(members)
    places = {name: place for name in sorted(names) if (place := place_of(name)) is not None}
    there: dict[tuple[str, str], str] = {}
    for name, place in places.items():
        if len(name) > _LONGEST_NAME or not _is_text(name):
            raise _refused(path, name, f"a name of at most {_LONGEST_NAME} letters", "Rename it.")
        if (other := there.setdefault((place.split, place.inside), name)) != name:
            raise _refused(path, name, f"one image at a place, this is that of {other}", "Remove one of them.")
    return Names(places, files)


def _is_text(name: str) -> bool:
    """Say whether a name has neither control characters nor bytes that cannot be text."""
    return name.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def encoded_images(path: Path, row_of: Mapping[str, int]) -> Iterator[Encoded]:
    """Yield (row, name, bytes) of each image that has a row, in the order in which they are stored.

    Raises:
        UserError: the archive is damaged, or an image is larger than `IMAGE_BYTES`.
    """
    if path.is_dir():
        for name, row in row_of.items():
            with (path / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                _check_size(path, name, size)
                data = file.read(size)
            yield row, name, data
        return
    with _reading(path):
        if _is_zip(path):
            with _open_zip(path) as archive:
                # Members are read in the order of their bytes, since the directory may have another order.
                for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
                    if member.filename in row_of:
                        yield row_of[member.filename], member.filename, _unzipped(archive, member)
            return
        with _Unpacked(path) as stream:
            for member in _tar_members(path, stream):
                if member.name in row_of:
                    yield row_of[member.name], member.name, stream.take(member.size)


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read the bytes of a file in a zip."""
    # `ZipFile.read` would unpack more than the file declares, a gigabyte at once.
    size = member.file_size
    member.file_size += 1  # else bytes beyond the declared size would be cut off without an error
    with archive.open(member) as file:
        data = file.read(size + 1)
    if len(data) != size:
        raise zipfile.BadZipFile(f"{member.filename} has not the {size:,} bytes that the zip says")
    return data


def _members(path: Path) -> Iterator[str]:
    """Yield the name of each file of an archive, or an empty string for a file that is no image."""
    with _reading(path):
        if _is_zip(path):
            with _open_zip(path) as archive:
                inside, most = 0, _most_inside(path)
                for member in archive.infolist():
                    if not member.is_dir():
                        is_image = _is_image(member.orig_filename)
                        if is_image:
                            inside += member.file_size
                            _check_zip_member(path, member)
                            if inside > most:
                                raise _too_much(path, most)
                        yield member.filename if is_image else ""
            return
        with _Unpacked(path) as stream:
            seen: set[str] = set()
            for member in _tar_members(path, stream):
                is_image = _is_image(member.name)
                if is_image:
                    _check_path(path, member.name)
                    if not member.isreg() or member.issparse():
                        way_out = "Pack it again, with tar --dereference --hard-dereference."
                        raise _refused(path, member.name, "a file, no link and nothing else", way_out)
                    _check_size(path, member.name, member.size)
                    if member.name in seen:
                        raise _refused(path, member.name, "each name once", "Pack it again.")
                    seen.add(member.name)
                if member.isfile():
                    yield member.name if is_image else ""


def _is_image(name: str) -> bool:
    # Some programs of Windows separate folders by backslashes.
    path = PurePosixPath(name.replace("\\", "/"))
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _check_path(path: Path, name: str) -> None:
    """Refuse a path that would leave its folder, here or on Windows, if somebody unpacked it."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
        expected = "a path within the archive: no .., no drive, no backslash, nothing before the first folder"
        raise _refused(path, name, expected, "Pack it again from inside its folder.")


def _check_size(path: Path, name: str, size: int) -> None:
    if size > IMAGE_BYTES:
        expected = f"an image of at most {IMAGE_BYTES:,} bytes"
        raise _refused(path, f"{name}, {size:,} bytes or more", expected, "Save it smaller, or remove it.")


def _most_inside(path: Path) -> int:
    return max(RATIO * path.stat().st_size, FREE_BYTES)


def _too_much(path: Path, most: int) -> UserError:
    expected = f"at most {most:,} bytes inside, {RATIO} times its size"
    return _refused(path, f"more than {most:,} bytes", expected, "Unpack it yourself, and give the folder.")


def _check_zip_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    _check_path(path, name)
    _check_size(path, name, member.file_size)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _refused(path, name, "a file, no link and nothing else", "Pack it again without links.")
    if member.flag_bits & 1 or member.compress_type not in _ZIP_METHODS:
        expected = "an image that is stored or deflated, without a password"
        raise _refused(path, name, expected, "Pack it again, or unpack it and give the folder.")


def _refused(path: Path, found: str, expected: str, way_out: str) -> UserError:
    shown = found if len(found) <= 200 else f"{found[:200]}…"
    return UserError("data.name", f"imagefolder:{path} ({shown})", expected, way_out)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn each of the dozen types of error that libraries raise for a broken archive into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        value = f"imagefolder:{path} ({path.stat().st_size:,} bytes)"
        expected = f"a complete {'zip' if _is_zip(path) else 'tar'}"
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise UserError("data.name", value, expected, f"Fetch it again ({reason}).") from error


def _is_zip(path: Path) -> bool:
    return path.name.endswith(".zip")


def _open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip, and refuse one with two files of one name or with a directory too large for the memory."""
    if (size := _directory_bytes(path)) > _DIRECTORY_BYTES:
        expected = f"a directory of at most {_DIRECTORY_BYTES:,} bytes"
        raise _refused(path, f"a directory of {size:,} bytes", expected, "Unpack it yourself, and give the folder.")
    archive = zipfile.ZipFile(path)
    if len(archive.NameToInfo) < len(archive.filelist):
        archive.close()
        raise _refused(path, "two files of one name", "each name once", "Pack it again.")
    return archive


def _directory_bytes(path: Path) -> int:
    """Read the size of the directory of a zip from its end record."""
    # `zipfile` reads the whole directory at once.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (22 + 0xFFFF + 20)))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # zip64 has its own end record elsewhere
            file.seek(min(int.from_bytes(tail[at - 12 : at - 4], "little"), 1 << 62))
            return int.from_bytes(file.read(56)[40:48], "little")
        return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0


def _tar_members(path: Path, stream: _Unpacked) -> Iterator[tarfile.TarInfo]:
    """Yield each member of a tar; the next bytes of the stream are those of the member."""
    most = max(path.stat().st_size // _BYTES_PER_MEMBER, _FREE_MEMBERS)
    archive, count = tarfile.TarFile(fileobj=cast("IO[bytes]", stream)), 0
    while (member := archive.next()) is not None:
        cast("Any", archive).members.clear()  # else `TarFile` would keep all members
        archive.pax_headers = {}
        stream.next_headers()
        count += 1
        if count > most:
            expected = f"at most {most:,} files, one for {_BYTES_PER_MEMBER} bytes"
            raise _refused(path, f"more than {most:,} files", expected, "Unpack it yourself, and give the folder.")
        yield member
    if stream.last.strip(b"\0") or len(stream.last) != tarfile.BLOCKSIZE:
        # `tarfile` takes a damaged header for the end of the archive.
        raise tarfile.ReadError(f"it is cut or damaged after {stream.tell():,} bytes")


class _Unpacked:
    """The bytes of a tar without its compression, read forwards only and counted.

    `tarfile` reads headers by `read` and skips other bytes by `seek`; bytes of images are read by `take`.
    """

    def __init__(self, path: Path):
        self.last = b""
        """Last bytes that were read as a header."""
        self._path, self._most, self._at, self._headers = path, _most_inside(path), 0, 0
        self._file = path.open("rb")
        magic = self._file.read(6)
        self._file.seek(0)
        self._inner: Any = self._file
        if magic.startswith(b"\x1f\x8b"):
            self._inner = gzip.GzipFile(fileobj=self._file)
        elif magic.startswith(b"BZh"):
            self._inner = bz2.BZ2File(self._file)
        elif magic == b"\xfd7zXZ\0":
            self._inner = io.BufferedReader(_Xz(self._file), _BLOCK)

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def tell(self) -> int:
        """Return the position in the unpacked bytes."""
        return self._at

    def next_headers(self) -> None:
        """Start the count of header bytes anew, for the next member."""
        self._headers = 0

    def read(self, size: int) -> bytes:
        """Read bytes of a header."""
        self._headers += size
        if not 0 <= size <= self._headers <= _HEADER_BYTES:
            raise tarfile.ReadError(f"headers of more than {_HEADER_BYTES:,} bytes for one file")
        self.last = self._get(size)
        if len(self.last) > tarfile.BLOCKSIZE and _DIGITS.search(self.last):
            raise tarfile.ReadError("a header of digits")
        return self.last

    def take(self, size: int) -> bytes:
        """Read bytes of an image, all of them."""
        data = self._get(size)
        if len(data) != size:
            raise tarfile.ReadError("unexpected end of data")
        return data

    def seek(self, position: int) -> int:
        """Skip the bytes before a position."""
        if position < self._at:
            raise tarfile.ReadError("a member before another one")
        if self._inner is self._file:
            self._file.seek(min(position, 1 << 62))
            self._at = position
        while self._at < position and self._get(min(_BLOCK, position - self._at)):
            pass
        return self._at

    def _get(self, size: int) -> bytes:
        data = self._inner.read(size)
        self._at += len(data)
        if self._inner is not self._file and self._at > self._most:
            raise _too_much(self._path, self._most)
        return data


class _Xz(io.RawIOBase):
    """A stream that unpacks xz with a limit on memory, which `lzma.open` does not have."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._unpack = self._unpacker()

    @staticmethod
    def _unpacker() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        """Return True, since this stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or part of it; return the number of bytes, 0 at the end."""
        while True:
            packed = b""
            if self._unpack.eof:  # several streams may follow each other, with zeros between them
                packed = (self._unpack.unused_data or self._file.read(_BLOCK)).lstrip(b"\0")
                if not packed:
                    return 0
                self._unpack = self._unpacker()
            elif self._unpack.needs_input and not (packed := self._file.read(_BLOCK)):
                raise EOFError("its compressed data end too early")
            if data := self._unpack.decompress(packed, len(buffer)):
                buffer[: len(data)] = data
                return len(data)
