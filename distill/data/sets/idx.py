"""Read files in the idx format of the MNIST family, gzipped or raw."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from distill.data.sets.at_hand import damaged

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31


def read_idx(path: Path) -> UInt8[Tensor, "..."]:
    """Read the array of unsigned bytes in an idx file.

    Raises:
        UserError: the file is truncated, damaged, or not idx; the message names it with its size.
    """
    packed = path.read_bytes()
    data = _unpack(path, packed) if packed[:2] == _GZIP_MAGIC else packed
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or len(data) < 4 + 4 * data[3]:
        raise damaged(path, "an idx file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).astype(np.int64).tolist()
    start = 4 + 4 * data[3]
    if len(data) - start != math.prod(shape):
        expected = f"{start + math.prod(shape):,} bytes for its shape {tuple(shape)}"
        raise damaged(path, f"{expected}{', unpacked' if data is not packed else ''}, not {len(data):,}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def _unpack(path: Path, packed: bytes) -> bytes:
    # Unlike gzip.open, a decompressor returns the start of a truncated file: enough to say what is missing.
    try:
        return zlib.decompressobj(_GZIP_WBITS).decompress(packed)
    except zlib.error as error:
        raise damaged(path, f"an intact gzip file ({error})") from error
