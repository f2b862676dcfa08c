"""Read the bytes of a tar without its compression (gzip, bzip2, xz), with limits on memory and on its contents."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
from functools import partial
from typing import IO, Any

from distill.errors import UserError

_HEADER_BYTES = 1 << 16
"""Largest number of bytes of all headers of one member of a tar, with its name and other facts about it."""
_DIGITS = re.compile(rb"\d{65}")
"""A run of digits so long that older versions of `tarfile` search the header for hours (CVE-2024-6232)."""
_XZ_MEMORY = 256 << 20
"""Largest memory for unpacking xz, in bytes; the highest preset of xz needs 65 MiB."""
_BLOCK = 1 << 16


class Unpacked:
    """Read the bytes of a tar without its compression, forwards only, and count them.

    `tarfile` reads headers by `read` and skips other bytes by `seek`; bytes of images are read by `take`.

    Args:
        file: the archive.
        most: largest number of bytes inside.
        too_much: error that is raised when there are more.
    """

    def __init__(self, file: IO[bytes], most: int, too_much: UserError):
        self.last = b""
        """Last bytes that were read as a header."""
        self._file, self._most, self._too_much = file, most, too_much
        self.header_bytes = 0
        """Bytes of headers that were read since the last member."""
        self._at = 0
        magic = file.read(6)
        file.seek(0)
        self._inner: Any = file
        if magic.startswith(b"\x1f\x8b"):
            self._inner = gzip.GzipFile(fileobj=file)
        elif magic.startswith(b"BZh"):
            self._inner = bz2.BZ2File(file)
        elif magic == b"\xfd7zXZ\0":
            self._inner = io.BufferedReader(_Xz(file), _BLOCK)

    @property
    def is_packed(self) -> bool:
        """Tell whether the whole archive is compressed."""
        return self._inner is not self._file

    def tell(self) -> int:
        """Return the position in the unpacked bytes."""
        return self._at

    def read(self, size: int) -> bytes:
        """Read bytes of a header, and refuse headers that are too long."""
        self.header_bytes += size
        if not 0 <= size <= self.header_bytes <= _HEADER_BYTES:
            raise tarfile.ReadError(f"headers of more than {_HEADER_BYTES:,} bytes for one file")
        self.last = self._get(size)
        if len(self.last) > tarfile.BLOCKSIZE and _DIGITS.search(self.last):
            raise tarfile.ReadError("a header of digits")
        return self.last

    def take(self, size: int) -> bytes:
        """Read all bytes of an image."""
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
            raise self._too_much
        return data


class _Xz(io.RawIOBase):
    """Unpack xz with a limit on memory, which `lzma.open` does not have."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._unpacker = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        self._unpack = self._unpacker()

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
