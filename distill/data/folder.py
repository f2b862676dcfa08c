"""Image folders and tars of them: decoded once, in parallel, to a memory-mapped array of bytes.

The decoded copy lies under `<root>/decoded/`, with the rows of the training split first, then the held-out
ones, then the test set, so that each split is a slice and a set larger than memory streams from disk.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import lzma
import os
import shutil
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from distill.data.splits import stratified_split
from distill.errors import UserError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_TAR_ERRORS = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error)
_IMAGES_PER_TASK = 64
_VERSION = 2

Encoded = tuple[int, str, bytes]


@dataclass(frozen=True)
class Decoded:
    """A decoded image folder: one array, whose rows are train, held-out and test in this order."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]
    sizes: tuple[int, int, int]
    classes: tuple[str, ...]
    folder: Path
    positions: Int64[Tensor, "m"]
    """Of the train and held-out rows in `train/`, in the order of torchvision's ImageFolder."""

    def names(self) -> tuple[str, ...]:
        """File of every row, relative to `train/` (or `test/`): CLASS/…/image."""
        return tuple(json.loads((self.folder / "names.json").read_text()))


@dataclass(frozen=True)
class Listing:
    """Names of the image files, in the order of their rows, with labels."""

    names: tuple[str, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, int, int]
    classes: tuple[str, ...]
    positions: Int64[Tensor, "m"]
    """Of the train and held-out rows in `train/`, in the order of torchvision's ImageFolder."""


def load_folder(
    path: Path, size: int | None, held_out: float, split_seed: int, root: Path, progress: bool = True
) -> Decoded:
    """The images of `train/<class>/*` and `test/<class>/*` (or `val/`), as RGB.

    They are decoded once; later calls map the decoded copy into memory.

    Args:
        path: a folder, or a tar (plain, gz, xz or bz2), which is read without unpacking.
        size: side in pixels to which images are resized (shorter side) and centre-cropped; None keeps them.
        held_out: share of `train/` to hold out.
        split_seed: seed of that split.
        root: data root, under which the decoded copy is kept.
        progress: show a bar.

    Raises:
        UserError: nothing there, no such layout, a corrupt image or tar, or images of several shapes.
    """
    entries = _entries(path)
    settings = json.dumps([_VERSION, entries, size, held_out, split_seed])
    stem = path.name.split(".")[0] or "images"
    folder = root / "decoded" / f"{stem}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                listing = _arrange(path, held_out, split_seed)
                _decode_all(path, listing, size, folder, progress)
    return _open(folder)


def _open(folder: Path) -> Decoded:
    meta = json.loads((folder / "meta.json").read_text())
    # Copy-on-write: never written, but torch warns about arrays that are read-only.
    images = np.load(folder / "images.npy", mmap_mode="c")
    labels = np.load(folder / "labels.npy")
    return Decoded(
        torch.from_numpy(images),
        torch.from_numpy(labels),
        tuple(meta["sizes"]),
        tuple(meta["classes"]),
        folder,
        torch.from_numpy(np.load(folder / "positions.npy")),
    )


def _entries(path: Path) -> list[list[str | int]]:
    """What identifies the input: names, sizes and times of its files; for a tar, of the tar itself."""
    if path.is_file() and path.name.endswith(_TAR_SUFFIXES):
        status = path.stat()
        return [[path.name, status.st_size, status.st_mtime_ns]]
    if not path.is_dir():
        expected = f"imagefolder: and an existing folder or tar ({', '.join(_TAR_SUFFIXES)})"
        raise UserError("data.name", f"imagefolder:{path}", expected, "Check the path.")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    status_of = {file: file.stat() for file in files}
    return [[file.relative_to(path).as_posix(), s.st_size, s.st_mtime_ns] for file, s in status_of.items()]


def _names(path: Path) -> list[str]:
    if path.is_dir():
        return [str(entry[0]) for entry in _entries(path)]
    with _open_tar(path) as archive:
        return [member.name for member in archive if member.isfile()]


def _open_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "r|*")


def _place(name: str) -> tuple[str, str] | None:
    """(split, class) of a file: its path is [one folder/]split/class/…/image, hidden files aside."""
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).suffix.lower() not in _SUFFIXES or parts[-1].startswith("."):
        return None
    for depth in (0, 1):
        if len(parts) >= depth + 3 and parts[depth] in ("train", "test", "val"):
            return parts[depth], parts[depth + 1]
    return None


def _within(name: str) -> str:
    """CLASS/…/image of a file that has a place."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[1 + (parts[0] not in ("train", "test", "val")) :])


def _image_folder_order(name: str) -> tuple[str, str, str]:
    """Sort key: the order in which torchvision's ImageFolder lists files (class, folder, file name).

    It is not the order of the paths: `cat/1.png` comes before `cat-2/1.png`, though "-" sorts before "/".
    """
    inside = PurePosixPath(_within(name))
    return inside.parts[0], str(inside.parent), inside.name


def _arrange(path: Path, held_out: float, split_seed: int) -> Listing:
    """Order of the rows, from the names alone."""
    try:
        names = sorted(_names(path))
    except _TAR_ERRORS as error:
        raise _broken_tar(path, error) from error
    places = {name: place for name in names if (place := _place(name)) is not None}
    present = {split for split, _ in places.values()}
    test_split = "test" if "test" in present else "val"
    if not {"train", test_split} <= present:
        expected = "images at train/CLASS/ and test/CLASS/ (or val/CLASS/)"
        way_out = f"Found {len(names)} files, of which {len(places)} are images in such a place."
        raise UserError("data.name", f"imagefolder:{path}", expected, way_out)
    classes = sorted({label for split, label in places.values() if split == "train"})
    unknown = sorted({label for split, label in places.values() if split == test_split} - set(classes))
    if unknown:
        way_out = f"Not in train/: {', '.join(unknown)}."
        raise UserError("data.name", f"imagefolder:{path}", "test classes that train/ has too", way_out)
    number = {label: position for position, label in enumerate(classes)}
    train, test = (
        sorted((name for name, (split, _) in places.items() if split == wanted), key=_image_folder_order)
        for wanted in ("train", test_split)
    )
    kept, held = stratified_split(torch.tensor([number[places[name][1]] for name in train]), held_out, split_seed)
    positions = torch.cat([kept, held])
    ordered = [train[row] for row in positions.tolist()] + test
    labels = tuple(number[places[name][1]] for name in ordered)
    return Listing(tuple(ordered), labels, (len(kept), len(held), len(test)), tuple(classes), positions)


def _decode_all(path: Path, listing: Listing, size: int | None, folder: Path, progress: bool) -> None:
    """Write the decoded set into a draft, and rename it when it is whole."""
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    row_of = {name: row for row, name in enumerate(listing.names)}
    try:
        encoded = _encoded(path, row_of)
        first = next(encoded)
        shape = _decode(first, size).shape
        images = np.lib.format.open_memmap(
            draft / "images.npy", "w+", dtype=np.uint8, shape=(len(listing.names), *shape)
        )
        with tqdm(total=len(images), desc=f"decode {path.name}", disable=None if progress else True) as bar:
            _decode_in_threads(itertools.chain([first], encoded), images, size, bar)
        images.flush()
        np.save(draft / "labels.npy", np.array(listing.labels, dtype=np.int64))
        np.save(draft / "positions.npy", listing.positions.numpy())
        (draft / "names.json").write_text(json.dumps([_within(name) for name in listing.names]))
        meta = {"classes": listing.classes, "sizes": listing.sizes, "source": path.name, "size": size}
        (draft / "meta.json").write_text(json.dumps(meta))
        draft.rename(folder)
    except _TAR_ERRORS as error:
        raise _broken_tar(path, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _broken_tar(path: Path, error: Exception) -> UserError:
    value = f"imagefolder:{path} ({path.stat().st_size:,} bytes)"
    return UserError("data.name", value, "a complete tar", f"Fetch it again ({error}).")


def _encoded(path: Path, row_of: dict[str, int]) -> Iterator[Encoded]:
    """(row, name, bytes) of every image, in the order in which they are stored."""
    if path.is_dir():
        yield from ((row, name, (path / name).read_bytes()) for name, row in row_of.items())
        return
    with _open_tar(path) as archive:
        for member in archive:
            if member.isfile() and member.name in row_of:
                file = archive.extractfile(member)
                assert file is not None
                yield row_of[member.name], member.name, file.read()


def _decode_in_threads(
    encoded: Iterator[Encoded], images: UInt8[np.ndarray, "n c h w"], size: int | None, bar: tqdm
) -> None:
    """Pillow decodes without the interpreter lock; few tasks are in flight, so memory stays small."""
    workers = os.cpu_count() or 1
    pending: deque[Future[int]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while part := list(itertools.islice(encoded, _IMAGES_PER_TASK)):
                pending.append(pool.submit(_decode_part, part, images, size))
                if len(pending) > 4 * workers:
                    bar.update(pending.popleft().result())
            for future in pending:
                bar.update(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _decode_part(part: list[Encoded], images: UInt8[np.ndarray, "n c h w"], size: int | None) -> int:
    for entry in part:
        pixels = _decode(entry, size)
        if pixels.shape != images.shape[1:]:
            shapes = f"images of one shape, {images.shape[1:]}, not {pixels.shape} as {entry[1]}"
            raise UserError("data.kwargs", {}, shapes, "Give a size, as in --data.kwargs '{\"size\": 64}'.")
        images[entry[0]] = pixels
    return len(part)


def _decode(entry: Encoded, size: int | None) -> UInt8[np.ndarray, "c h w"]:
    """One image as RGB, its shorter side resized to `size` and centre-cropped."""
    from PIL import Image, ImageOps

    _, name, data = entry
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        value = f"{name} ({len(data):,} bytes)"
        raise UserError(
            "image", value, "an image that can be decoded", f"Replace or remove it ({error})."
        ) from error
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)
