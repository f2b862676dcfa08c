"""Split a folder of classes that has no `train/` and `test/`: give a share of each class to the test set."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from distill.config import DataConfig
from distill.data.sets.archives import image_spans
from distill.data.sets.content import folder_path
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.inventory import Inventory, take_inventory
from distill.data.sets.places import Place
from distill.data.sets.streams.shards import shard_inventory
from distill.errors import UserError


def inventory_in_splits(config: DataConfig, root: Path) -> Inventory:
    """Take the inventory of an image folder, with a split for each image.

    Where the folder has no splits, the share `test` of each class becomes the test set. An image's split depends
    only on the seed and on the names in its class: not on the order of the files, and not on other classes.

    Raises:
        UserError: the images cannot be listed; or the folder has no splits and no share is given, or the reverse;
            or the share leaves no test image.
    """
    path, arguments = folder_path(config), folder_arguments(config)
    inventory = _inventory(config, path, root)
    places = inventory.places
    unsplit = [name for name, place in places.items() if not place.split]
    if not unsplit:
        if arguments.test is not None and places:
            splits = ", ".join(f"{split}/" for split in sorted({place.split for place in places.values()}))
            expected = f"no share of test images beside {splits}: the folder is split already"
            way_out = "Drop `test` from `data.kwargs`, or name a folder of classes alone, such as train/ itself."
            raise UserError("data.kwargs", config.kwargs, expected, way_out)
        return inventory
    classes = _classes(places)
    if len(classes) < 2:
        expected = "a folder for each class, two at least, or images at train/CLASS/ and test/CLASS/"
        way_out = f"It has only {', '.join(classes)}: name the folder that holds the classes."
        raise UserError("data.name", f"{config.kind}:{path}", expected, way_out)
    if arguments.test is None:
        shown = ", ".join(list(classes)[:4]) + (", …" if len(classes) > 4 else "")
        expected = f"the share of test images, since {path.name} has classes ({shown}) but no train/ and test/"
        way_out = 'Set `data.kwargs={"test": 0.2}`, or move its images to train/CLASS/ and test/CLASS/.'
        raise UserError("data.kwargs", config.kwargs, expected, way_out)
    tested = {name for names in classes.values() for name in _drawn(names, places, arguments.test, arguments.seed)}
    if not tested:
        largest = max(map(len, classes.values()))
        expected = f"enough for a test image of one class at least; the largest class has {largest} images"
        raise UserError("data.kwargs", config.kwargs, expected, "Raise `test`.")
    split = {name: place._replace(split="test" if name in tested else "train") for name, place in places.items()}
    return replace(inventory, places=split)


def _inventory(config: DataConfig, path: Path, root: Path) -> Inventory:
    match config.kind:
        case "shards":
            return shard_inventory(config, path)
        case "hfdataset":
            from distill.data.sets.streams.huggingface import row_inventory

            return row_inventory(config, root)
    inventory = take_inventory(path)
    if path.is_dir() or not folder_arguments(config).stream:
        return inventory
    spans = {name: (0, *span) for name, *span in image_spans(path)}
    return replace(inventory, archives=(path.name,), spans=spans)


def _classes(places: dict[str, Place]) -> dict[str, list[str]]:
    """Return the names of each class."""
    classes: dict[str, list[str]] = {}
    for name, place in places.items():
        classes.setdefault(place.label, []).append(name)
    return classes


def _drawn(names: list[str], places: dict[str, Place], share: float, seed: int) -> list[str]:
    """Draw a share of the images of a class, rounded; at least one image is left."""

    def by_chance(name: str) -> bytes:
        return hashlib.sha256(f"{seed} {places[name].inside}".encode()).digest()

    return sorted(names, key=by_chance)[: min(round(len(names) * share), len(names) - 1)]
