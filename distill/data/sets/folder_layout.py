"""Arrange the images of a folder or an archive in rows, from their names alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import Int64
from torch import Tensor

from distill.data.sets.archives import image_names
from distill.data.sets.splits import stratified_split
from distill.errors import UserError


@dataclass(frozen=True)
class Listing:
    """Hold the names of the image files, in the order of their rows, with labels."""

    names: tuple[str, ...]
    inside: tuple[str, ...]
    """Path of each file below its split: CLASS/…/image."""
    labels: tuple[int, ...]
    sizes: tuple[int, int, int]
    """Number of training, held-out and test images."""
    classes: tuple[str, ...]
    positions: Int64[Tensor, "m"]
    """Position of each train and held-out row in `train/`, in the order of torchvision's ImageFolder."""


def arrange(path: Path, held_out: float, split_seed: int) -> Listing:
    """Arrange the rows: training images, held-out images, test images.

    Raises:
        UserError: the names do not have this layout, or the test set has classes that `train/` lacks.
    """
    places = image_names(path)
    present = {place.split for place in places.values()}
    test_split = "test" if "test" in present else "val"
    if not {"train", test_split} <= present:
        expected = "images at train/CLASS/ and test/CLASS/ (or val/CLASS/)"
        way_out = f"It has {len(places)} images at places like these: move or rename its folders."
        raise UserError("data.name", f"imagefolder:{path}", expected, way_out)

    def order(name: str) -> tuple[str, str, str]:
        # torchvision's ImageFolder sorts by class, folder and file name. The order of the paths differs:
        # `cat/1.png` comes before `cat-2/1.png` here, though "-" sorts before "/".
        inside = PurePosixPath(places[name].inside)
        return places[name].label, str(inside.parent), inside.name

    train, test = (
        sorted((name for name, place in places.items() if place.split == split), key=order)
        for split in ("train", test_split)
    )
    classes = sorted({places[name].label for name in train})
    if unknown := sorted({places[name].label for name in test} - set(classes)):
        way_out = f"Not in train/: {', '.join(unknown[:20])}."
        raise UserError("data.name", f"imagefolder:{path}", "test classes that train/ has too", way_out)
    class_of = {label: number for number, label in enumerate(classes)}
    labels = torch.tensor([class_of[places[name].label] for name in train])
    kept, held = stratified_split(labels, held_out, split_seed)
    positions = torch.cat([kept, held])
    ordered = [train[row] for row in positions.tolist()] + test
    return Listing(
        names=tuple(ordered),
        inside=tuple(places[name].inside for name in ordered),
        labels=tuple(class_of[places[name].label] for name in ordered),
        sizes=(len(kept), len(held), len(test)),
        classes=tuple(classes),
        positions=positions,
    )
