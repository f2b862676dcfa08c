"""Arrange the images of a folder or an archive in rows, from their names alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from distill.config import DataConfig
from distill.data.sets.content import folder_path
from distill.data.sets.inventory import Inventory
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
    """Position of each row of `train/`, the training split first, in the order of torchvision's ImageFolder.

    Where the held-out images are those of `val/`, all of `train/` is the training split.
    """
    left_out: str
    """Numbers of files that are left out, and why."""


def arrange(config: DataConfig, inventory: Inventory) -> Listing:
    """Arrange the rows of an inventory in splits: training images, held-out images, test images.

    The held-out images are those of `val/` where there is `test/` too, else a share of the training images.

    Raises:
        UserError: the names do not have this layout, `test/` or `val/` has classes that `train/` lacks, or there is
            `val/` and a share to hold out as well.
    """
    path, places = folder_path(config), inventory.places
    present = {place.split for place in places.values()}
    test_split = "test" if "test" in present else "val"
    if not {"train", test_split} <= present:
        expected = "images at train/CLASS/ and test/CLASS/ (or val/CLASS/)"
        way_out = f"It has {len(places)} images at places like these: move or rename its folders."
        raise UserError("data.name", f"{config.kind}:{path}", expected, way_out)

    def order(name: str) -> tuple[str, str, str]:
        # torchvision's ImageFolder sorts by class, folder and file name. The order of the paths differs:
        # `cat/1.png` comes before `cat-2/1.png` here, though "-" sorts before "/".
        folder, _, file = places[name].inside.rpartition("/")
        return places[name].label, folder, file

    train, val, test = (
        sorted((name for name, place in places.items() if place.split == split), key=order)
        for split in ("train", "val" if test_split == "test" else "", test_split)
    )
    classes = list(inventory.classes) or sorted({places[name].label for name in train})
    for split, names in ((test_split, test), ("val", val)):
        if unknown := sorted({places[name].label for name in names} - set(classes)):
            way_out = f"Not in train/: {', '.join(unknown[:20])}."
            raise UserError("data.name", f"{config.kind}:{path}", f"{split} classes that train/ has too", way_out)
    class_of = {label: number for number, label in enumerate(classes)}
    if val:
        _refuse_share(config.held_out, len(val))
        positions, kept, held = torch.arange(len(train)), len(train), len(val)
    else:
        labels = torch.tensor([class_of[places[name].label] for name in train])
        splits = stratified_split(labels, config.held_out, config.split_seed)
        positions, kept, held = torch.cat(splits), *map(len, splits)
    ordered = [train[row] for row in positions.tolist()] + val + test
    return Listing(
        names=tuple(ordered),
        inside=tuple(places[name].inside for name in ordered),
        labels=tuple(class_of[places[name].label] for name in ordered),
        sizes=(kept, held, len(test)),
        classes=tuple(classes),
        positions=positions,
        left_out=inventory.left_out,
    )


def _refuse_share(held_out: float, images: int) -> None:
    default = DataConfig.model_fields["held_out"].default
    if held_out not in (0, default):
        expected = f"{default:g}, its default, since the {images} images of val/ are the held-out images"
        way_out = "Drop `data.held_out`, or move val/ elsewhere: then a share of train/ is held out."
        raise UserError("data.held_out", held_out, expected, way_out)
