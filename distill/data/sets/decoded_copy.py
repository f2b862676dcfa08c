"""Decode a folder, a tar or a zip of images once, in parallel, to a memory-mapped array of bytes.

The decoded copy lies under `<root>/decoded/`. It has the rows of the training split first, then the held-out rows,
then the test set. So each split is a slice, and a set larger than memory streams from disk.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64, UInt8
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, ValidationError
from torch import Tensor

from distill.config import DataConfig
from distill.data.sets.archives import ARCHIVE_SUFFIXES, Encoded, encoded_images
from distill.data.sets.content import folder_content, folder_path
from distill.data.sets.dataset import Split
from distill.data.sets.decoding import ALPHA, FILES, TURNED, decode, decode_into, pillow_is_strict
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.folder_layout import Listing, arrange
from distill.data.sets.pixel_summary import Summary, summarise
from distill.errors import ContentChanged, UserError
from distill.system.files import sha256
from distill.system.progress import bar
from distill.system.reading import map_array, read_json
from distill.system.runtime import free_bytes

_VERSION = 5
_NAMES_BYTES = 4 << 30
"""Largest size of the names of all files: much more than any set here has, and less than would fill a memory."""
_SPARE_BYTES = 64 << 20
_DIGESTED = ("images.npy", "labels.npy", "positions.npy", "names.json")

Parts = tuple[Split, Split, Split]
"""Training, held-out and test split."""


class _Meta(BaseModel):
    """Hold what a decoded copy's JSON file says: images per split, classes, pixel mean and deviation, checksums."""

    sizes: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    classes: tuple[str, ...]
    left_out: str
    """Numbers of files that were left out when the images were decoded, and why."""
    pixels: str
    """What of the images was not kept: alpha, orientation."""
    summary: tuple[
        tuple[float, float, float],
        tuple[PositiveFloat, PositiveFloat, PositiveFloat],
        Annotated[str, Field(min_length=64, max_length=64)],
    ]
    sha256: dict[str, str]
    """Digest of each of the other files."""
    seal: str = ""
    """Digest of all other fields."""

    def sealed(self) -> _Meta:
        """Return a copy whose field `seal` is the sha256 of all other fields."""
        unsealed = self.model_copy(update={"seal": ""}).model_dump_json()
        return self.model_copy(update={"seal": hashlib.sha256(unsealed.encode()).hexdigest()})


@dataclass(frozen=True)
class Decoded:
    """Hold a decoded image folder: one array with the rows of train, held-out and test in this order."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]
    sizes: tuple[int, int, int]
    classes: tuple[str, ...]
    summary: Summary
    folder: Path
    positions: Int64[Tensor, "m"]
    """Position of each row of `train/`, the training split first, in the order of torchvision's ImageFolder.

    Where the held-out images are those of `val/`, all of `train/` is the training split.
    """
    left_out: str
    """Numbers of files that were left out when the images were decoded, and why."""
    pixels: str
    """What of the images was not kept: alpha, orientation."""

    def splits(self) -> Parts:
        """Return the training, held-out and test split, without a copy."""
        return _splits(self.images, self.labels, self)

    def names(self) -> tuple[str, ...]:
        """Read the file name of every row, relative to `train/` (or `test/`): CLASS/…/image."""
        with _untouched(self.folder):
            names = read_json(self.folder / "names.json", _NAMES_BYTES)
        if not isinstance(names, list) or len(names) != len(self.labels) or not all(type(n) is str for n in names):
            raise _tampered(self.folder, "names.json", f"{len(self.labels)} names")
        return tuple(names)


def decode_once(config: DataConfig, root: Path, progress: bool = True) -> Decoded:
    """Decode the images of a folder as RGB, or map the decoded copy.

    They lie at `train/<class>/*` and `test/<class>/*` (or `val/`), or at `<class>/*` with a share of test images.

    An archive is read without unpacking. With a `size`, the shorter side of an image is resized to that many pixels
    and the image is centre-cropped; otherwise images keep their size, which must be the same for all.

    Args:
        config: config with the path, the size and the split.
        root: data root, under which the decoded copy is kept.
        progress: whether to show a progress bar.

    Raises:
        UserError: the path does not exist or has another layout, an image or archive is damaged, an archive holds
            too much, images differ in shape, the disk has too little room, or a decoded copy was changed.
        ContentChanged: the images are not those that the config has the digest of.
    """
    path = folder_path(config)
    content = folder_content(path, root, progress=progress)
    if content is None:
        expected = f"imagefolder: and an existing folder, tar or zip ({', '.join(ARCHIVE_SUFFIXES)})"
        raise UserError("data.name", f"imagefolder:{path}", expected, "Check the path.")
    if config.content not in (None, content):
        raise ContentChanged("data.name", config.name)
    folder = copy_folder(config, content, root)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                decode_all(config, content, folder, progress)
    return open_copy(folder)


def copy_folder(config: DataConfig, content: str, root: Path) -> Path:
    """Return the folder of the decoded copy of images with this digest, whether it exists or not."""
    given = folder_arguments(config)
    shared = [] if given.test is None else [given.test, given.seed]
    settings = json.dumps([_VERSION, content, given.size, config.held_out, config.split_seed, given.exif, *shared])
    stem = re.sub(r"[^\w .=+()@,-]", "-", folder_path(config).name.split(".")[0])[:60] or "images"
    return root / "decoded" / f"{stem}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def open_copy(folder: Path) -> Decoded:
    """Compare the files of a decoded copy with their digests, and map it into memory.

    Raises:
        UserError: a file is missing, damaged or changed.
    """
    with _untouched(folder):
        return _open(folder)


@contextmanager
def _untouched(folder: Path) -> Iterator[None]:
    """Turn the error of a missing or altered file in a decoded copy into a UserError that says what to delete."""
    try:
        yield
    except FileNotFoundError as error:
        raise _tampered(folder, str(error.filename), "a file of a decoded copy") from error
    except UserError as error:
        raise _tampered(folder, *map(str, error.args[:3:2])) from error


def _open(folder: Path) -> Decoded:
    try:
        meta = _Meta.model_validate(read_json(folder / "meta.json"))
    except ValidationError as error:
        expected = "sizes of three splits, names of classes, mean and deviation of three channels, a fingerprint"
        raise _tampered(folder, "meta.json", expected) from error
    if meta != meta.sealed():
        raise _tampered(folder, "meta.json", "what was written when the images were decoded")
    for name in _DIGESTED:
        if sha256(folder / name) != meta.sha256.get(name):
            raise _tampered(folder, name, "what was decoded from the images")
    rows = sum(meta.sizes)
    # The array is never written, but torch warns about read-only arrays, so it is mapped copy-on-write.
    images = map_array(folder / "images.npy", np.uint8, (rows, 3, None, None), mode="c")
    labels = np.array(map_array(folder / "labels.npy", np.int64, (rows,)))
    positions = np.array(map_array(folder / "positions.npy", np.int64, (None,)))
    if rows and not 0 <= labels.min() <= labels.max() < len(meta.classes):
        raise _tampered(folder, "labels.npy", f"numbers of {len(meta.classes)} classes")
    published = len(positions)
    if published not in (meta.sizes[0], sum(meta.sizes[:2])) or not np.array_equal(
        np.sort(positions), np.arange(published)
    ):
        raise _tampered(folder, "positions.npy", "the position of each image of train/ once")
    return Decoded(
        torch.from_numpy(images),
        torch.from_numpy(labels),
        meta.sizes,
        meta.classes,
        Summary(*meta.summary),
        folder,
        torch.from_numpy(positions),
        meta.left_out,
        meta.pixels,
    )


def _splits(images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, "n"], of: Decoded | Listing) -> Parts:
    sizes = list(of.sizes)
    train, held_out, test = (Split(*rows) for rows in zip(images.split(sizes), labels.split(sizes), strict=True))
    return train, held_out, test


def _tampered(folder: Path, name: str, expected: str) -> UserError:
    value = "changed" if (folder / name).exists() else "missing"
    return UserError(str(folder / name), value, expected, f"Delete {folder}: it is decoded again.")


def decode_all(config: DataConfig, content: str, folder: Path, progress: bool) -> None:
    """Write the decoded copy to a draft, with a summary of its pixels, and rename the draft when it is whole.

    Args:
        config: config with the path, the size and the split.
        content: digest that the images have before and after they are decoded.
        folder: folder of the copy, in `decoded/` of the data root.
        progress: whether to show a progress bar.

    Raises:
        UserError: as `decode_once`.
    """
    path = folder_path(config)
    size, exif, *_ = folder_arguments(config)
    listing = arrange(config)
    way_out = "Run it again when nobody changes it."
    changing = UserError("data.name", f"imagefolder:{path}", "a file that stays as it is", way_out)
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    row_of = {name: row for row, name in enumerate(listing.names)}
    encoded = encoded_images(path, row_of)
    try:
        with pillow_is_strict():
            images, encoded = _make_array(draft / "images.npy", len(listing.names), encoded, size, exif)
            with bar(total=len(images), desc=f"decode {path.name}", disable=None if progress else True) as decoded:
                met = decode_into(images, encoded, size, exif, decoded)
                if met[FILES] != len(images):
                    raise changing
        images.flush()
        labels = np.array(listing.labels, dtype=np.int64)
        np.save(draft / "labels.npy", labels)
        np.save(draft / "positions.npy", listing.positions.numpy())
        (draft / "names.json").write_text(json.dumps(listing.inside), encoding="utf-8")
        summary = summarise(*_splits(torch.from_numpy(images), torch.from_numpy(labels), listing), listing.classes)
        digests = {name: sha256(draft / name) for name in _DIGESTED}
        fields = {"sizes": listing.sizes, "classes": listing.classes, "summary": summary, "sha256": digests}
        meta = _Meta.model_validate({**fields, "left_out": listing.left_out, "pixels": _not_kept(met)})
        (draft / "meta.json").write_text(meta.sealed().model_dump_json(), encoding="utf-8")
        if folder_content(path, folder.parents[1], progress=progress) != content:
            raise changing
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _not_kept(met: Counter[str]) -> str:
    apply = '`data.kwargs={"exif": true}` does'
    told = {
        f"alpha dropped in {met[ALPHA]:,} of them": met[ALPHA],
        f"EXIF orientation not applied in {met[TURNED]:,} of them ({apply})": met[TURNED],
    }
    return "; ".join(text for text, count in told.items() if count)


def _make_array(
    path: Path, count: int, encoded: Iterator[Encoded], size: int | None, exif: bool
) -> tuple[np.memmap[Any, Any], Iterator[Encoded]]:
    """Make the array of pixels, and return it with the images that are to be decoded into it.

    Without a size, images have the shape of the first image.

    Raises:
        UserError: the disk has too little room.
    """
    if size is None:
        first = next(encoded)
        shape, encoded = decode(first, None, exif).shape, itertools.chain([first], encoded)
    else:
        shape = (3, size, size)
    needed, free = count * int(np.prod(shape, dtype=object)) + _SPARE_BYTES, free_bytes(path.parent)
    if needed > free:
        expected = f"{needed / 1e9:.3g} GB for {count:,} images of {' × '.join(map(str, shape))} bytes"
        way_out = 'Set `data_root` to a larger disk, or give a smaller size, as in `data.kwargs={"size": 64}`.'
        raise UserError("data_root", f"{free / 1e9:.3g} GB free", expected, way_out)
    return np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=(count, *shape)), encoded
