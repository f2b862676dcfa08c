"""Decode a folder, a tar or a zip of images once, in parallel, to a memory-mapped array of bytes.

The decoded copy lies under `<root>/decoded/`: a stored listing with the array of all images, in the order of its
rows. So each split is a slice, and a set larger than memory is read from disk as it is used.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from distill.config import DataConfig
from distill.data.sets.archives import Encoded, encoded_images
from distill.data.sets.content import folder_content, folder_path
from distill.data.sets.dataset import Split
from distill.data.sets.decoding import ALPHA, FILES, TURNED, Reading, decode, decode_into, pillow_is_strict
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.folder_layout import arrange
from distill.data.sets.pixel_summary import summarise
from distill.data.sets.stored_listing import (
    StoredListing,
    listing_folder,
    make_once,
    open_listing,
    untouched,
    write_listing,
)
from distill.data.sets.test_share import inventory_in_splits
from distill.errors import UserError
from distill.system.progress import bar
from distill.system.reading import map_array
from distill.system.runtime import free_bytes

_FOLDER = "decoded"
_IMAGES = "images.npy"
_VERSION = 6
_SPARE_BYTES = 64 << 20

Parts = tuple[Split, Split, Split]
"""Training, held-out and test split."""


@dataclass(frozen=True)
class Decoded:
    """Hold a decoded image folder: one array with the rows of train, held-out and test in this order."""

    listing: StoredListing
    images: UInt8[Tensor, "n c h w"]

    def splits(self) -> Parts:
        """Return the training, held-out and test split, without a copy."""
        sizes = list(self.listing.meta.sizes)
        parts = zip(self.images.split(sizes), self.listing.labels.split(sizes), strict=True)
        train, held_out, test = (Split(*rows) for rows in parts)
        return train, held_out, test


def decode_once(config: DataConfig, content: str, root: Path, progress: bool = True) -> Decoded:
    """Decode the images of a folder as RGB, or map the decoded copy.

    They lie at `train/<class>/*` and `test/<class>/*` (or `val/`), or at `<class>/*` with a share of test images.

    An archive is read without unpacking. With a `size`, the shorter side of an image is resized to that many pixels
    and the image is centre-cropped; otherwise images keep their size, which must be the same for all.

    Args:
        config: config with the path, the size and the split.
        content: digest that the images have before and after they are decoded.
        root: data root, under which the decoded copy is kept.
        progress: whether to show a progress bar.

    Raises:
        UserError: the images have another layout, an image or archive is damaged, an archive holds too much, images
            differ in shape, the disk has too little room, or a decoded copy was changed.
    """
    folder = copy_folder(config, content, root)
    make_once(folder, lambda draft: decode_all(config, content, draft, root, progress))
    return open_copy(folder)


def copy_folder(config: DataConfig, content: str, root: Path) -> Path:
    """Return the folder of the decoded copy of images with this digest, whether it exists or not."""
    given = folder_arguments(config)
    settings = [_VERSION, content, given.reading, config.held_out, config.split_seed, given.test, given.seed]
    return listing_folder(_FOLDER, config, root, json.dumps(settings))


def open_copy(folder: Path) -> Decoded:
    """Compare the files of a decoded copy with their digests, and map it into memory.

    Raises:
        UserError: a file is missing, damaged or changed.
    """
    listing = open_listing(folder)
    with untouched(folder):
        # The array is never written, but torch warns about read-only arrays, so it is mapped copy-on-write.
        images = map_array(folder / _IMAGES, np.uint8, (len(listing.labels), 3, None, None), mode="c")
    return Decoded(listing, torch.from_numpy(images))


def decode_all(config: DataConfig, content: str, draft: Path, root: Path, progress: bool) -> None:
    """Write the decoded copy to a draft, with a summary of its pixels.

    Raises:
        UserError: as `decode_once`.
    """
    path, reading = folder_path(config), folder_arguments(config).reading
    listing = arrange(config, inventory_in_splits(config, root))
    row_of = {name: row for row, name in enumerate(listing.names)}
    encoded = encoded_images(path, row_of)
    with pillow_is_strict():
        images, encoded = _make_array(draft / _IMAGES, len(listing.names), encoded, reading)
        with bar(total=len(images), desc=f"decode {path.name}", disable=None if progress else True) as decoded:
            met = decode_into(images, encoded, reading, decoded)
    if met[FILES] == len(images):
        images.flush()
        labels, sizes = torch.tensor(listing.labels), list(listing.sizes)
        parts = zip(torch.from_numpy(images).split(sizes), labels.split(sizes), strict=True)
        train, held_out, test = (Split(*rows) for rows in parts)
        summary = summarise(train, held_out, test, listing.classes)
        write_listing(draft, listing, summary, {}, pixels=_not_kept(met))
    if met[FILES] != len(images) or folder_content(path, root, progress=progress) != content:
        way_out = "Run it again when nobody changes it."
        raise UserError("data.name", f"imagefolder:{path}", "a file that stays as it is", way_out)


def _not_kept(met: Counter[str]) -> str:
    apply = '`data.kwargs={"exif": true}` does'
    told = {
        f"alpha dropped in {met[ALPHA]:,} of them": met[ALPHA],
        f"EXIF orientation not applied in {met[TURNED]:,} of them ({apply})": met[TURNED],
    }
    return "; ".join(text for text, count in told.items() if count)


def _make_array(
    path: Path, count: int, encoded: Iterator[Encoded], reading: Reading
) -> tuple[np.memmap[Any, Any], Iterator[Encoded]]:
    """Make the array of pixels, and return it with the images that are to be decoded into it.

    Without a size, images have the shape of the first image.

    Raises:
        UserError: the disk has too little room.
    """
    size = reading.fit.size
    if size is None:
        first = next(encoded)
        shape, encoded = decode(*first[1:], reading).shape, itertools.chain([first], encoded)
    else:
        shape = (3, size, size)
    needed, free = count * int(np.prod(shape, dtype=object)) + _SPARE_BYTES, free_bytes(path.parent)
    if needed > free:
        expected = f"{needed / 1e9:.3g} GB for {count:,} images of {' × '.join(map(str, shape))} bytes"
        way_out = (
            'Set `data.kwargs={"stream": true}`, which decodes images when they are needed, `data_root` to a larger'
            " disk, or a smaller size."
        )
        raise UserError("data_root", f"{free / 1e9:.3g} GB free", expected, way_out)
    return np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=(count, *shape)), encoded
