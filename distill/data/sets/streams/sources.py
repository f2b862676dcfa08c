"""Read the bytes of one image by its number: from a file of its own, or from a part of a tar or zip."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64

from distill.data.sets.archives import IMAGE_BYTES
from distill.data.sets.names import Names
from distill.errors import UserError


class Source(Protocol):
    """Read image files by their number; a process that is forked or spawned reads on."""

    def name(self, row: int) -> str:
        """Return the name of a file, for messages."""
        ...

    def read(self, row: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            OSError: it cannot be read.
        """
        ...


class Files:
    """Read files of a folder."""

    def __init__(self, folder: Path, names: Names):
        self._folder, self._names = os.fspath(folder), names

    def name(self, row: int) -> str:
        """Return the name of a file, relative to the folder."""
        return self._names[row]

    def read(self, row: int) -> bytes:
        """Return the bytes of a file."""
        with open(f"{self._folder}/{self._names[row]}", "rb", buffering=0) as file:  # noqa: PTH123 - four times faster
            size = os.fstat(file.fileno()).st_size
            if size > IMAGE_BYTES:
                raise OSError(f"{size:,} bytes, more than {IMAGE_BYTES:,}")
            return file.read(size)


class Spans:
    """Read parts of archives, each of which is the file of one image.

    Args:
        folder: folder of the archives.
        archives: names of the archives.
        names: name of each image, for messages.
        spans: archive, first byte, number of bytes, and number of bytes unpacked (0 where they are not packed).
    """

    def __init__(self, folder: Path, archives: tuple[str, ...], names: Names, spans: Int64[np.ndarray, "n 4"]):
        self._folder, self._archives, self._names, self._spans = folder, archives, names, spans
        self._open: dict[int, int] = {}

    def name(self, row: int) -> str:
        """Return the name of an image within its archive."""
        return self._names[row]

    def read(self, row: int) -> bytes:
        """Return the bytes of an image."""
        archive, start, size, unpacked = self._spans[row].tolist()
        data = os.pread(self._file(archive), size, start)
        if len(data) != size:
            raise OSError(f"{self._archives[archive]} ends too early")
        if unpacked:
            unpack = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = unpack.decompress(data, unpacked + 1)
            except zlib.error as error:
                raise OSError(str(error)) from error
            if len(data) != unpacked:
                raise OSError(f"it does not have the {unpacked:,} bytes that its zip says")
        return data

    def _file(self, archive: int) -> int:
        if archive not in self._open:
            if len(self._open) >= _OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[archive] = os.open(self._folder / self._archives[archive], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[archive]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}}

    def __del__(self) -> None:
        for file in self._open.values():
            os.close(file)


_OPEN = 64
"""Largest number of archives that a process keeps open."""


def read_image(source: Source, row: int) -> bytes:
    """Return the bytes of an image.

    Raises:
        UserError: the file is gone, or cannot be read.
    """
    try:
        return source.read(row)
    except OSError as error:
        reason = error.strerror or str(error)
        expected = f"a file that can be read ({reason})"
        way_out = "Bring it back, or run the same command again: a new start looks which images there are."
        raise UserError("image", source.name(row), expected, way_out) from error
