"""Read MNIST and Fashion-MNIST from their files in the idx format, gzipped or raw."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from distill.data.sets.archives import FREE_BYTES, RATIO
from distill.data.sets.at_hand import damaged, find
from distill.data.sets.dataset import Split, Splits

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31


def load_mnist(folder: Path) -> Splits:
    """Read MNIST from its four files."""
    return _read("MNIST", folder)


def load_fashion_mnist(folder: Path) -> Splits:
    """Read Fashion-MNIST from its four files."""
    return _read("FashionMNIST", folder)


def _read(class_name: str, folder: Path) -> Splits:
    """Read MNIST or Fashion-MNIST, named by its class in torchvision, from its four files in a folder."""
    from torchvision import datasets

    classes, splits = tuple(getattr(datasets, class_name).classes), []
    for part in ("train", "t10k"):
        image_file = find(folder, f"{part}-images-idx3-ubyte")
        label_file = find(folder, f"{part}-labels-idx1-ubyte")
        assert image_file is not None
        assert label_file is not None
        images, labels = read_idx(image_file), read_idx(label_file)
        if images.ndim != 3:
            raise damaged(image_file, f"images of two dimensions, not shape {tuple(images.shape)}")
        if labels.shape != images.shape[:1]:
            raise damaged(label_file, f"one label for each of the {len(images)} images")
        if len(labels) and int(labels.max()) >= len(classes):
            raise damaged(label_file, f"labels 0 to {len(classes) - 1}, not {int(labels.max())}")
        splits.append(Split(images[:, None], labels.long()))
    return splits[0], splits[1], classes


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
    most = max(RATIO * len(packed), FREE_BYTES)
    # Unlike gzip.open, a decompressor returns the start of a truncated file: enough to say what is missing.
    try:
        data = zlib.decompressobj(_GZIP_WBITS).decompress(packed, most + 1)
    except zlib.error as error:
        raise damaged(path, f"an intact gzip file ({error})") from error
    if len(data) > most:
        raise damaged(path, f"at most {most:,} bytes inside, {RATIO} times its size")
    return data
