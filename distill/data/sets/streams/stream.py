"""List the images of a data set once, and decode each whenever a batch needs it.

The listing lies under `<root>/listed/`. It has names, labels and splits, and where in an archive each image lies,
in arrays that are mapped into memory: a million images take little room, and the next start reads no names again.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from distill.config import DataConfig
from distill.data.hashing import Stream, counter_hash
from distill.data.sets.content import data_content, folder_path
from distill.data.sets.dataset import Split
from distill.data.sets.decoding import Reading, decode, decoded
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.folder_layout import Listing, arrange
from distill.data.sets.inventory import Inventory
from distill.data.sets.names import Names
from distill.data.sets.pixel_summary import Summary, mean_and_deviation
from distill.data.sets.splits import limited_rows
from distill.data.sets.stored_listing import StoredListing, listing_folder, make_once, open_listing, write_listing
from distill.data.sets.streams.images import StreamedImages
from distill.data.sets.streams.sources import Files, Source, Spans, read_image
from distill.data.sets.test_share import inventory_in_splits
from distill.errors import UserError
from distill.system.progress import bar
from distill.system.runtime import cores

_FOLDER = "listed"
_VERSION = 1
_PIXELS = 1 << 28
"""Most pixels from which mean and deviation are computed; of a larger training set, images are drawn."""
_FILES_AT_A_TIME = 256


@dataclass(frozen=True)
class Streamed:
    """Hold the listing of a data set, and its images, which are not decoded: train, held-out and test in a row."""

    listing: StoredListing
    images: StreamedImages

    def splits(self) -> tuple[Split, Split, Split]:
        """Return the training, held-out and test split."""
        train, held_out, test = _in_splits(self.images, self.listing.labels, self.listing.meta.sizes)
        return train, held_out, test


def list_once(config: DataConfig, content: str, root: Path, progress: bool) -> Streamed:
    """List the images that a config names, or open the listing that was made before.

    Args:
        config: config with the path, the split and the way in which images are read.
        content: digest of the files.
        root: data root, under which the listing is kept.
        progress: whether to show a progress bar.

    Raises:
        UserError: the images have another layout, an archive is packed or damaged, an image cannot be decoded, or
            a listing was changed.
    """
    # Pillow warns of odd metadata, which does not matter here, in every process and epoch.
    warnings.filterwarnings("ignore", module="PIL")
    folder = list_folder(config, content, root)
    make_once(folder, lambda draft: _list_all(config, content, draft, root, progress))
    listing = open_listing(folder)
    reading = folder_arguments(config).reading
    source = _source(config, root, listing.meta.archives, listing.names_in("files"), listing.array("spans", 4))
    return Streamed(listing, StreamedImages(source, np.arange(len(listing.labels)), reading, listing.meta.side))


def list_folder(config: DataConfig, content: str, root: Path) -> Path:
    """Return the folder of the listing of images with this digest, whether it exists or not."""
    settings = [_VERSION, content, config.kind, config.kwargs, config.held_out, config.split_seed, config.limit]
    return listing_folder(_FOLDER, config, root, json.dumps(settings, sort_keys=True))


def _list_all(config: DataConfig, content: str, draft: Path, root: Path, progress: bool) -> None:
    given = folder_arguments(config)
    inventory = inventory_in_splits(config, root)
    if given.broken == "skip":
        inventory = _without_broken(config, inventory, root, given.reading, progress)
    listing = arrange(config, inventory)
    spans = _spans(inventory, listing.names)
    names = Names.of(listing.names)
    source = _source(config, root, inventory.archives, names, spans)
    rows = np.arange(len(names))
    side = (given.size, given.size) if given.size else _first_side(source, given.reading)
    images = StreamedImages(source, rows, given.reading, side)
    labels = torch.tensor(listing.labels)
    train, _, _ = _in_splits(images, labels, listing.sizes)
    summary = _summarise(config, train, listing, content, progress)
    np.save(draft / "spans.npy", spans)
    write_listing(draft, listing, summary, {"files": names}, archives=inventory.archives, side=side)
    if data_content(config, root, progress=progress) != content:
        way_out = "Run it again when nobody changes it."
        raise UserError("data.name", config.name, "files that stay as they are", way_out)


def _source(
    config: DataConfig, root: Path, archives: tuple[str, ...], names: Names, spans: Int64[np.ndarray, "n 4"]
) -> Source:
    path = folder_path(config)
    if config.kind == "hfdataset":
        from distill.data.sets.streams.huggingface import Rows

        return Rows(config, root, names, spans)
    if archives:
        return Spans(path if path.is_dir() else path.parent, archives, names, spans)
    return Files(path, names)


def _spans(inventory: Inventory, names: Sequence[str]) -> Int64[np.ndarray, "n 4"]:
    """Return where in an archive each image lies; zeros where each has a file of its own."""
    if not inventory.spans:
        return np.zeros((len(names), 4), np.int64)
    return np.array([inventory.spans[name] for name in names], np.int64)


def _first_side(source: Source, reading: Reading) -> tuple[int, int]:
    image = decoded(source.name(0), read_image(source, 0), reading)
    return image.height, image.width


def _in_splits(images: StreamedImages, labels: Int64[Tensor, "n"], sizes: Sequence[int]) -> Iterator[Split]:
    first = 0
    for part in labels.split(list(sizes)):
        yield Split(images[first : first + len(part)], part)
        first += len(part)


def _summarise(config: DataConfig, train: Split, listing: Listing, content: str, progress: bool) -> Summary:
    """Compute mean and deviation of training images, and a fingerprint of the files and how they are read."""
    taught = train.rows(limited_rows(train.labels, config.limit, config.split_seed))
    number = max(1, _PIXELS // math.prod(taught.images.shape[2:]))
    if len(taught) > number:
        drawn = counter_hash(Stream.SCALE, 0, 0, torch.arange(len(taught))).argsort()[:number]
        taught = taught.rows(drawn.sort().values)
    with bar(total=len(taught), desc="mean of pixels", delay=2, disable=None if progress else True) as line:
        mean, std = mean_and_deviation(taught, line.update)
    given = folder_arguments(config)
    read = [content, given.reading, given.image, listing.classes, listing.sizes, config.limit]
    digest = hashlib.sha256(json.dumps(read).encode())
    for each in (listing.labels, listing.positions.tolist()):
        digest.update(np.array(each, np.int64).data)
    return Summary(tuple(mean.tolist()), tuple(std.tolist()), digest.hexdigest())


def _without_broken(
    config: DataConfig, inventory: Inventory, root: Path, reading: Reading, progress: bool
) -> Inventory:
    """Decode every image once, and return the inventory of images that can be decoded."""
    listed = list(inventory.places)
    source = _source(config, root, inventory.archives, Names.of(listed), _spans(inventory, listed))

    def is_broken(row: int) -> bool:
        with suppress(UserError):
            decode(source.name(row), read_image(source, row), reading)
            return False
        return True

    broken: list[str] = []
    with (
        ThreadPoolExecutor(cores()) as pool,
        bar(total=len(listed), desc="look for broken images", disable=None if progress else True) as line,
    ):
        for first in range(0, len(listed), _FILES_AT_A_TIME):
            rows = range(first, min(first + _FILES_AT_A_TIME, len(listed)))
            broken += [listed[row] for row, each in zip(rows, pool.map(is_broken, rows), strict=True) if each]
            line.update(len(rows))
    if not broken:
        return inventory
    lost = set(broken)
    kept = {name: place for name, place in inventory.places.items() if name not in lost}
    told = f"{len(broken):,} that cannot be decoded, such as {broken[0]}"
    return replace(inventory, places=kept, left_out=", ".join(filter(None, (inventory.left_out, told))))
