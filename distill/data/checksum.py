"""Compute checksums of pixels, 64 bits per sample and equal on every device, and digests of whole image sets."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from distill.data.hashing import splitmix64, splitmix64_word

BLOCK_BYTES = 1 << 20
"""Bytes of pixels per pass, so that the products stay in a core's cache."""
_BYTES_PER_WORD = 8
_DTYPES = {torch.uint8: 1, torch.float32: 2}


class ContentDigest(NamedTuple):
    """Hold the sha256 of an image set in hexadecimal, with and without regard to its order."""

    ordered: str
    """Digest of the samples in their order."""
    unordered: str
    """Digest of the sorted samples, which does not depend on their order."""


def pixel_checksum(
    pixels: UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"],
) -> Int64[Tensor, "n"]:
    """Compute a 64-bit checksum of each sample, on the device of the pixels.

    A sample is read as little-endian 64-bit words (eight bytes or two floats, the last word filled up with zeros).
    Each word is multiplied by an odd number of its own, so that a change of any one word changes the wrapping sum.
    The checksum is a bijection of this sum plus a number that stands for dtype and shape.

    Raises:
        TypeError: the pixels are neither uint8 nor float32.
    """
    if pixels.dtype not in _DTYPES:
        raise TypeError(f"pixels of {pixels.dtype}: expected torch.uint8 or torch.float32")
    origin = 0
    for number in (_DTYPES[pixels.dtype], *pixels.shape[1:]):
        origin = splitmix64_word(origin + number)
    sums = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
    if pixels.numel():
        size = pixels[0].numel() * pixels.element_size()
        weights = _weights(-(-size // _BYTES_PER_WORD), pixels.device)
        rows = max(1, BLOCK_BYTES // size)
        for total, block in zip(sums.split(rows), pixels.split(rows), strict=True):
            torch.sum(_words(block) * weights, 1, out=total)
    return splitmix64(sums + origin)


def content_digest(images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, "n"]) -> ContentDigest:
    """Compute digests of an image set and its labels, with and without its order.

    Images are read block by block, so they may be memory-mapped and larger than memory.
    """
    samples = splitmix64(pixel_checksum(images) + splitmix64(labels.to(images.device))).cpu()
    header = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}\n".encode()
    ordered, unordered = (
        hashlib.sha256(header + words.numpy().astype("<i8").tobytes()).hexdigest()
        for words in (samples, samples.sort().values)
    )
    return ContentDigest(ordered, unordered)


def _words(block: UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]) -> Int64[Tensor, "n words"]:
    data = block.reshape(len(block), -1).view(torch.uint8)
    rest = -data.shape[1] % _BYTES_PER_WORD
    if rest:
        data = F.pad(data, (0, rest))
    elif data.storage_offset() % _BYTES_PER_WORD or data.stride(0) % _BYTES_PER_WORD:
        data = data.clone(memory_format=torch.contiguous_format)  # a word must start at a multiple of its size
    return data.view(torch.int64)


@lru_cache(maxsize=8)
def _weights(words: int, device: torch.device) -> Int64[Tensor, "words"]:
    return splitmix64(torch.arange(words, device=device)) | 1
