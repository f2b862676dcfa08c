"""Store which images a folder has, in which rows and with which labels, so that nobody needs to look again.

A stored listing is a folder below the data root. The rows of the training split come first, then the held-out rows,
then the test set. Other files may lie beside those of the listing, such as the decoded images.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, ValidationError
from torch import Tensor

from distill.config import DataConfig
from distill.data.sets.content import folder_path
from distill.data.sets.folder_layout import Listing
from distill.data.sets.names import Names
from distill.data.sets.pixel_summary import Summary
from distill.errors import UserError
from distill.system.files import sha256
from distill.system.reading import map_array, read_json

_META = "meta.json"


class _Meta(BaseModel):
    """Hold what the JSON file of a listing says: images per split, classes, pixel mean and deviation, checksums."""

    sizes: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    classes: tuple[str, ...]
    left_out: str
    """Numbers of files that were left out, and why."""
    pixels: str
    """What of the images was not kept: alpha, orientation."""
    summary: tuple[
        tuple[float, float, float],
        tuple[PositiveFloat, PositiveFloat, PositiveFloat],
        Annotated[str, Field(min_length=64, max_length=64)],
    ]
    archives: tuple[str, ...] = ()
    """Names of the archives that hold the images, if any do."""
    side: tuple[int, int] = (0, 0)
    """Height and width of a streamed image."""
    sha256: dict[str, str]
    """Digest of each of the other files."""
    seal: str = ""
    """Digest of all other fields."""

    def sealed(self) -> _Meta:
        """Return a copy whose field `seal` is the sha256 of all other fields."""
        unsealed = self.model_copy(update={"seal": ""}).model_dump_json()
        return self.model_copy(update={"seal": hashlib.sha256(unsealed.encode()).hexdigest()})


@dataclass(frozen=True)
class StoredListing:
    """Hold a listing that was read from disk: labels, splits, classes and a summary of the pixels."""

    folder: Path
    meta: _Meta
    labels: Int64[Tensor, "n"]
    positions: Int64[Tensor, "m"]
    """Position of each row of `train/`, the training split first, in the order of torchvision's ImageFolder.

    Where the held-out images are those of `val/`, all of `train/` is the training split.
    """

    @property
    def summary(self) -> Summary:
        """Return mean and deviation of the pixels, and the fingerprint."""
        return Summary(*self.meta.summary)

    @property
    def held_out_apart(self) -> bool:
        """Tell whether the held-out images were published apart, in `val/`."""
        train, held_out, _ = self.meta.sizes
        return held_out > 0 and train == len(self.positions)

    def names(self) -> Names:
        """Return the file name of every row, relative to `train/` (or `test/`): CLASS/…/image."""
        return self.names_in("names")

    def names_in(self, kind: str) -> Names:
        """Return one name for each row, of a kind that was written."""
        with untouched(self.folder):
            letters = map_array(self.folder / f"{kind}.npy", np.uint8, (None,))
            ends = map_array(self.folder / f"{kind}_ends.npy", np.int64, (len(self.labels),))
        if len(ends) and not (ends[0] > 0 and bool((np.diff(ends) >= 0).all()) and ends[-1] == len(letters)):
            raise tampered(self.folder, f"{kind}_ends.npy", "where each name ends")
        return Names(letters, ends)

    def array(self, name: str, columns: int) -> Int64[np.ndarray, "n c"]:
        """Map an array of whole numbers, with a row for each image, into memory."""
        with untouched(self.folder):
            return map_array(self.folder / f"{name}.npy", np.int64, (len(self.labels), columns))


def listing_folder(kind: str, config: DataConfig, root: Path, settings: str) -> Path:
    """Return the folder of a stored listing, whether it exists or not.

    Args:
        kind: name of the folder below the data root.
        config: config that names the images.
        root: data root.
        settings: text of everything that the listing depends on.
    """
    stem = re.sub(r"[^\w .=+()@,-]", "-", folder_path(config).name.split(".")[0])[:60] or "images"
    return root / kind / f"{stem}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def make_once(folder: Path, make: Callable[[Path], None]) -> None:
    """Call `make` with a draft of a folder that does not exist, and rename the draft when it is whole."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():
            return
        draft = folder.with_name(f".draft-{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            make(draft)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def write_listing(
    draft: Path, listing: Listing, summary: Summary, names: Mapping[str, Names], **facts: Any
) -> None:
    """Write a listing to a folder, with the digest of every file that lies there.

    Args:
        draft: folder, which may hold other files already.
        listing: rows of the images.
        summary: mean, deviation and fingerprint of the images.
        names: names of each kind for every row, beside those within a split.
        facts: further fields of `meta.json`.
    """
    np.save(draft / "labels.npy", np.array(listing.labels, dtype=np.int64))
    np.save(draft / "positions.npy", listing.positions.numpy())
    for kind, each in {"names": Names.of(listing.inside), **names}.items():
        np.save(draft / f"{kind}.npy", each.letters)
        np.save(draft / f"{kind}_ends.npy", each.ends)
    digests = {path.name: sha256(path) for path in sorted(draft.iterdir())}
    fields = {"sizes": listing.sizes, "classes": listing.classes, "summary": summary, "sha256": digests}
    meta = _Meta.model_validate({"left_out": listing.left_out, "pixels": "", **fields, **facts})
    (draft / _META).write_text(meta.sealed().model_dump_json(), encoding="utf-8")


def open_listing(folder: Path) -> StoredListing:
    """Compare the files of a stored listing with their digests, and read it.

    Raises:
        UserError: a file is missing, damaged or changed.
    """
    with untouched(folder):
        return _open(folder)


def _open(folder: Path) -> StoredListing:
    try:
        meta = _Meta.model_validate(read_json(folder / _META))
    except ValidationError as error:
        expected = "sizes of three splits, names of classes, mean and deviation of three channels, a fingerprint"
        raise tampered(folder, _META, expected) from error
    if meta != meta.sealed():
        raise tampered(folder, _META, "what was written when the images were listed")
    for name, digest in meta.sha256.items():
        if sha256(folder / name) != digest:
            raise tampered(folder, name, "what was made of the images")
    rows = sum(meta.sizes)
    labels = np.array(map_array(folder / "labels.npy", np.int64, (rows,)))
    positions = np.array(map_array(folder / "positions.npy", np.int64, (None,)))
    if rows and not 0 <= labels.min() <= labels.max() < len(meta.classes):
        raise tampered(folder, "labels.npy", f"numbers of {len(meta.classes)} classes")
    published = len(positions)
    if published not in (meta.sizes[0], sum(meta.sizes[:2])) or not np.array_equal(
        np.sort(positions), np.arange(published)
    ):
        raise tampered(folder, "positions.npy", "the position of each image of train/ once")
    return StoredListing(folder, meta, torch.from_numpy(labels), torch.from_numpy(positions))


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Turn the error of a missing or altered file in a stored listing into a UserError that says what to delete."""
    try:
        yield
    except FileNotFoundError as error:
        raise tampered(folder, Path(str(error.filename)).name, "a file of the listing") from error
    except UserError as error:
        raise tampered(folder, *map(str, error.args[:3:2])) from error


def tampered(folder: Path, name: str, expected: str) -> UserError:
    """Return the error that refuses a file of a stored listing."""
    value = "changed" if (folder / name).exists() else "missing"
    return UserError(str(folder / name), value, expected, f"Delete {folder}: it is made again.")
