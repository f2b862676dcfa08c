"""How the images of a folder or an archive are laid out: which become which rows, from their names alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import Int64
from torch import Tensor

from distill.data.sets.archives import ARCHIVE_SUFFIXES, Place, image_files, image_names, is_archive
from distill.data.sets.splits import stratified_split
from distill.errors import UserError


@dataclass(frozen=True)
class Listing:
    """Names of the image files, in the order of their rows, with labels."""

    names: tuple[str, ...]
    inside: tuple[str, ...]
    """Without split and what is before it: CLASS/…/image."""
    labels: tuple[int, ...]
    sizes: tuple[int, int, int]
    classes: tuple[str, ...]
    positions: Int64[Tensor, "m"]
    """Of the train and held-out rows in `train/`, in the order of torchvision's ImageFolder."""


def input_files(path: Path) -> list[list[str | int]]:
    """List what identifies the input: names, sizes and times of its files, or of the archive itself.

    Raises:
        UserError: there is neither a folder nor an archive.
    """
    if is_archive(path):
        status = path.stat()
        return [[path.name, status.st_size, status.st_mtime_ns]]
    if not path.is_dir():
        expected = f"imagefolder: and an existing folder, tar or zip ({', '.join(ARCHIVE_SUFFIXES)})"
        raise UserError("data.name", f"imagefolder:{path}", expected, "Check the path.")
    return [list(file) for file in image_files(path)]


def _image_folder_order(place: Place) -> tuple[str, str, str]:
    """Sort key: the order in which torchvision's ImageFolder lists files (class, folder, file name).

    It is not the order of the paths: `cat/1.png` comes before `cat-2/1.png`, though "-" sorts before "/".
    """
    inside = PurePosixPath(place.inside)
    return place.label, str(inside.parent), inside.name


def arrange(path: Path, held_out: float, split_seed: int) -> Listing:
    """Order the rows: training images, held-out ones, test images.

    Raises:
        UserError: the names are not those of such a layout, or the test set has classes of its own.
    """
    places, files = image_names(path)
    present = {place.split for place in places.values()}
    test_split = "test" if "test" in present else "val"
    if not {"train", test_split} <= present:
        expected = "images at train/CLASS/ and test/CLASS/ (or val/CLASS/)"
        way_out = f"Found {files} files, of which {len(places)} are images in such a place."
        raise UserError("data.name", f"imagefolder:{path}", expected, way_out)
    classes = sorted({place.label for place in places.values() if place.split == "train"})
    unknown = sorted({place.label for place in places.values() if place.split == test_split} - set(classes))
    if unknown:
        way_out = f"Not in train/: {', '.join(unknown[:20])}."
        raise UserError("data.name", f"imagefolder:{path}", "test classes that train/ has too", way_out)
    number = {label: position for position, label in enumerate(classes)}
    train, test = (
        sorted(
            (name for name, place in places.items() if place.split == wanted),
            key=lambda name: _image_folder_order(places[name]),
        )
        for wanted in ("train", test_split)
    )
    kept, held = stratified_split(
        torch.tensor([number[places[name].label] for name in train]), held_out, split_seed
    )
    positions = torch.cat([kept, held])
    ordered = [train[row] for row in positions.tolist()] + test
    return Listing(
        names=tuple(ordered),
        inside=tuple(places[name].inside for name in ordered),
        labels=tuple(number[places[name].label] for name in ordered),
        sizes=(len(kept), len(held), len(test)),
        classes=tuple(classes),
        positions=positions,
    )
