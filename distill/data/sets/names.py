"""Hold millions of names in two arrays, which take little memory and which forked processes share."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Int64, UInt8


class Names:
    """Hold names as one array of bytes, and the place at which each name ends in it.

    Args:
        letters: all names one after another, as bytes of a file system.
        ends: index behind the last byte of each name.
    """

    def __init__(self, letters: UInt8[np.ndarray, "b"], ends: Int64[np.ndarray, "n"]):
        self.letters, self.ends = letters, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Pack names."""
        letters, ends = bytearray(), array("q")
        for name in names:
            letters += os.fsencode(name)
            ends.append(len(letters))
        return cls(np.frombuffer(letters, np.uint8), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.ends)

    def __getitem__(self, row: int) -> str:
        """Return one name."""
        start = self.ends[row - 1] if row else 0
        return os.fsdecode(self.letters[start : self.ends[row]].tobytes())

    def __iter__(self) -> Iterator[str]:
        """Yield all names, in order."""
        letters, start = self.letters.tobytes(), 0
        for end in self.ends.tolist():
            yield os.fsdecode(letters[start:end])
            start = end
