"""Read the image files of a folder, a tar or a zip: their names, and their bytes one after another.

Nothing is unpacked to disk. What an archive declares is checked before it is read: an image has at most
`IMAGE_BYTES`, an archive holds at most `RATIO` times its own size, and a name is a path that stays within its
folder and occurs once. A link or a device is skipped, but refused where it has the name of an image.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from distill.data.sets.places import class_place, is_image_name, is_of_program, parts_of
from distill.data.sets.unpacking import Unpacked
from distill.errors import UserError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
IMAGE_BYTES = 256 << 20
"""Largest file of one image, in bytes: about what the largest decodable image needs without compression."""
RATIO, FREE_BYTES = 100, 256 << 20
"""Largest ratio of the bytes inside an archive to its own size, and the bytes that are allowed in any case."""
_BYTES_PER_MEMBER, FREE_MEMBERS = 16, 100_000
"""Smallest number of bytes of a tar per member, and the number of members that are allowed in any case."""
_DIRECTORY_BYTES = 1 << 30
"""Largest directory of a zip, in bytes, which is held in memory: about ten million images."""
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LABEL_SUFFIX, _LABEL_BYTES = ".cls", 20
"""Suffix and largest size, in bytes, of a file with the number of an image's class, as WebDataset writes it."""

Encoded = tuple[int, str, bytes]
"""Row, name and bytes of an image file."""


class _Member(NamedTuple):
    """Hold what an archive declares of a member, and a function that reads its bytes."""

    name: str
    size: int
    is_file: bool
    """Whether the member is a plain file: no folder, link or device."""
    read: Callable[[], bytes]
    """Function that reads the bytes; it must be called before the next member is asked for."""
    span: Callable[[], tuple[int, int, int] | None]
    """Function that returns the first byte, the number of bytes, and the number of bytes unpacked (0 where nothing
    is packed); None where the archive is compressed as a whole. It is called as `read` is."""


def is_archive(path: Path) -> bool:
    """Say whether a path is a file with the name of an archive that can be read."""
    return path.is_file() and path.name.endswith(ARCHIVE_SUFFIXES)


Status = tuple[int, int, int, int]
"""Size, mtime and ctime in nanoseconds, and inode of a file or folder."""


def image_files(path: Path, folders: list[tuple[str, Status]]) -> Iterator[tuple[str, Status]]:
    """Yield name and status of the image files anywhere in a folder.

    Files and folders of programs are left out. Links to files are followed, links to folders are not.

    Args:
        path: folder to look in.
        folders: list to which name and status of each folder that was looked into are added.

    Raises:
        UserError: a linked folder stands where images would be read.
    """
    waiting = [""]
    while waiting:
        within = waiting.pop()
        folders.append((within, status_of((path / within).stat())))
        with os.scandir(path / within) as entries:
            for entry in entries:
                name = within + entry.name
                if is_of_program(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif is_image_name(name) and entry.is_file():
                    yield name, status_of(entry.stat())
                elif entry.is_symlink() and entry.is_dir() and _holds_images(name):
                    raise linked_folder(path, name)


def status_of(status: os.stat_result) -> Status:
    """Return what tells whether a file or folder has changed: size, mtime and ctime in nanoseconds, and inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def names_in(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the name of each file below a folder, and of each folder with a slash, and whether it is an image.

    Links to folders are not followed.

    Raises:
        UserError: a linked folder stands where images would be read.
    """
    waiting = [("", True)]
    while waiting:
        within, own = waiting.pop()
        with os.scandir(path / within) as entries:
            for entry in entries:
                name, of_user = within + entry.name, own and not is_of_program(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{name}/", of_user))
                    yield f"{name}/", False
                elif of_user and is_image_name(entry.name) and entry.is_file():
                    yield name, True
                elif entry.is_symlink() and entry.is_dir():
                    if of_user and _holds_images(name):
                        raise linked_folder(path, name)
                    yield f"{name}/", False
                else:
                    yield name, False


def linked_folder(path: Path, name: str) -> UserError:
    """Return the error that refuses a link to a folder where images would be read."""
    expected = "a folder: a link to one can lead anywhere, or in circles"
    return refused(path, name, expected, "Copy the folder, or link its files one by one.")


def _holds_images(folder: str) -> bool:
    return any(class_place([*parts_of(folder), *inside], below=1) for inside in (("x.png",), ("x", "x.png")))


def member_names(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the name of each member of an archive (of a folder with a slash), and whether it is an image.

    Only headers are read.

    Raises:
        UserError: the archive is damaged or holds too much, or a member with the name of an image is not allowed.
    """
    with _reading(path):
        yield from ((member.name, _is_image(member.name)) for member in _members(path))


def encoded_images(path: Path, row_of: Mapping[str, int]) -> Iterator[Encoded]:
    """Yield (row, name, bytes) of each image that has a row, in the order in which they are stored.

    Raises:
        UserError: the archive is damaged, or an image is larger than `IMAGE_BYTES`.
    """
    if not path.is_dir():
        with _reading(path):
            for member in _members(path):
                if member.name in row_of:
                    yield row_of[member.name], member.name, member.read()
        return
    for name, row in row_of.items():
        with (path / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(path, name, size)
            data = file.read(size)
        yield row, name, data


def image_spans(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield the name of each image of a tar or zip, and where it lies: first byte, bytes, bytes unpacked.

    Raises:
        UserError: the archive is damaged or holds too much, or is compressed as a whole.
    """
    yield from ((name, *span) for name, span, _ in labelled_spans(path))


def labelled_spans(path: Path) -> Iterator[tuple[str, tuple[int, int, int], bytes]]:
    """Yield name and place of each image of an archive, and name and bytes of each file that ends in `.cls`.

    Raises:
        UserError: as `image_spans`.
    """
    with _reading(path):
        for member in _members(path):
            if member.name.endswith(LABEL_SUFFIX) and member.is_file:
                if member.size > _LABEL_BYTES:
                    expected = f"a label of at most {_LABEL_BYTES} bytes"
                    raise refused(path, member.name, expected, "Write the number of a class.")
                yield member.name, (0, 0, 0), member.read()
            elif _is_image(member.name):
                if (span := member.span()) is None:
                    expected = "an archive that is not compressed as a whole, since images are read in any order"
                    raise refused(path, path.name, expected, "Unpack it, or pack it as a plain .tar.")
                yield member.name, span, b""


def _members(path: Path) -> Iterator[_Member]:
    """Yield each member of an archive; refuse an image with an unsafe path, a link, a huge size or a used name."""
    names: set[str] = set()
    inside, most = 0, _most_inside(path)
    for member in _zip_members(path) if _is_zip(path) else _tar_members(path):
        if not _is_image(member.name):
            yield member
            continue
        _check_path(path, member.name)
        if not member.is_file:
            way_out = "Pack it again without links (tar has --dereference and --hard-dereference)."
            raise refused(path, member.name, "a file, no link and nothing else", way_out)
        _check_size(path, member.name, member.size)
        inside += member.size
        if inside > most:
            raise _too_much(path, most)
        if member.name in names:
            raise refused(path, member.name, "each name once", "Pack it again.")
        names.add(member.name)
        yield member


def _is_image(name: str) -> bool:
    # Some programs of Windows separate folders by backslashes.
    path = PurePosixPath(name.replace("\\", "/"))
    return is_image_name(path.name) and not path.name.startswith(".")


def _check_path(path: Path, name: str) -> None:
    """Refuse a path that would leave its folder, here or on Windows, if somebody unpacked it."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
        expected = "a path within the archive: no .., no drive, no backslash, nothing before the first folder"
        raise refused(path, name, expected, "Pack it again from inside its folder.")


def _check_size(path: Path, name: str, size: int) -> None:
    if size > IMAGE_BYTES:
        expected = f"an image of at most {IMAGE_BYTES:,} bytes"
        raise refused(path, f"{name}, {size:,} bytes or more", expected, "Save it smaller, or remove it.")


def _most_inside(path: Path) -> int:
    return max(RATIO * path.stat().st_size, FREE_BYTES)


def _too_much(path: Path, most: int) -> UserError:
    expected = f"at most {most:,} bytes inside, {RATIO} times its size"
    return refused(path, f"more than {most:,} bytes", expected, "Unpack it yourself, and give the folder.")


def refused(path: Path, what: str, expected: str, way_out: str) -> UserError:
    """Make the error for a folder or an archive that holds something it must not."""
    shown = what if len(what) <= 200 else f"{what[:200]}…"
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


def _zip_members(path: Path) -> Iterator[_Member]:
    """Yield each file of a zip, in the order of the bytes, since the directory may have another order."""
    # `zipfile` reads the whole directory at once.
    if (size := _directory_bytes(path)) > _DIRECTORY_BYTES:
        expected = f"a directory of at most {_DIRECTORY_BYTES:,} bytes"
        raise refused(path, f"a directory of {size:,} bytes", expected, "Unpack it yourself, and give the folder.")
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
            # `filename` ends at a NUL, behind which `orig_filename` may go on.
            name = member.orig_filename
            if _is_image(name) and (member.flag_bits & 1 or member.compress_type not in _ZIP_METHODS):
                expected = "an image that is stored or deflated, without a password"
                raise refused(path, name, expected, "Pack it again, or unpack it and give the folder.")
            if not (member.is_dir() and _is_image(name)):
                is_file = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
                read, span = partial(_unzipped, archive, member), partial(_zip_span, path, member)
                yield _Member(name, member.file_size, is_file, read, span)


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


def _zip_span(path: Path, member: zipfile.ZipInfo) -> tuple[int, int, int]:
    """Read from the header of a file in a zip where its bytes begin."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
    if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise zipfile.BadZipFile(f"{member.filename} has no header")
    start = member.header_offset + 30 + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    unpacked = 0 if member.compress_type == zipfile.ZIP_STORED else member.file_size
    return start, member.compress_size, unpacked


def _directory_bytes(path: Path) -> int:
    """Read the size of the directory of a zip from its end record."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (22 + 0xFFFF + 20)))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # zip64 has its own end record elsewhere
            file.seek(min(int.from_bytes(tail[at - 12 : at - 4], "little"), 1 << 62))
            return int.from_bytes(file.read(56)[40:48], "little")
        return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0


def _tar_members(path: Path) -> Iterator[_Member]:
    """Yield each member of a tar."""
    most = max(path.stat().st_size // _BYTES_PER_MEMBER, FREE_MEMBERS)
    with path.open("rb") as file:
        inside = _most_inside(path)
        stream = Unpacked(file, inside, _too_much(path, inside))
        archive, count = tarfile.TarFile(fileobj=cast("IO[bytes]", stream)), 0
        while (member := archive.next()) is not None:
            cast("Any", archive).members.clear()  # else `TarFile` would keep all members
            archive.pax_headers = {}
            stream.header_bytes = 0
            count += 1
            if count > most:
                expected = f"at most {most:,} files, one for {_BYTES_PER_MEMBER} bytes"
                way_out = "Unpack it yourself, and give the folder."
                raise refused(path, f"more than {most:,} files", expected, way_out)
            is_file = member.isreg() and not member.issparse()
            name = f"{member.name}/" if member.isdir() else member.name
            span = None if stream.is_packed else (stream.tell(), member.size, 0)
            yield _Member(name, member.size, is_file, partial(stream.take, member.size), partial(_known, span))
        if stream.last.strip(b"\0") or len(stream.last) != tarfile.BLOCKSIZE:
            # `tarfile` takes a damaged header for the end of the archive.
            raise tarfile.ReadError(f"it is cut or damaged after {stream.tell():,} bytes")


def _known(span: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    return span
