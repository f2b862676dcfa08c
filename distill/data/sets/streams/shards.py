"""List the images of tar shards: in class folders, or with the number of their class beside them (WebDataset)."""

from __future__ import annotations

import re
from pathlib import Path

from distill.config import DataConfig
from distill.data.sets.archives import LABEL_SUFFIX, labelled_spans
from distill.data.sets.inventory import Inventory, Span
from distill.data.sets.places import Place
from distill.errors import UserError
from distill.system.progress import bar
from distill.system.reading import read_lines

_CLASSES = "classes.txt"
_SPLITS = {"train": "train", "training": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(sorted(_SPLITS, key=len, reverse=True))})(?![a-z])")


def split_of(name: str) -> str:
    """Return the split that a file's path names, such as train for `train/0001.tar`; "" where it names none."""
    found = _SPLIT.findall(name.lower())
    return _SPLITS[found[-1]] if found else ""


def shard_inventory(config: DataConfig, path: Path) -> Inventory:
    """Take the inventory of the tar files in a folder; headers are read, and labels, but no image.

    The class of an image `KEY.jpg` is that of its folder, or the number in `KEY.cls`. Names of numbered classes are
    the lines of `classes.txt`, where there is such a file.

    Raises:
        UserError: there is no tar, a tar is damaged or compressed, an image has no class or two, or a name is used
            twice.
    """
    archives = tuple(sorted(each.relative_to(path).as_posix() for each in path.rglob("*.tar")))
    if not archives:
        raise _refused(path, "no .tar", "tar files, such as train-0000.tar", "Name the folder that holds them.")
    spans: dict[str, Span] = {}
    labels: dict[str, str] = {}
    found: list[tuple[str, str, str]] = []
    with bar(total=len(archives), desc=f"list {path.name}", unit="tar", delay=2, disable=None) as line:
        for number, archive in enumerate(archives):
            for name, span, label in labelled_spans(path / archive):
                key = f"{archive}/{_key(name)}"
                if name.endswith(LABEL_SUFFIX):
                    labels[key] = _number(path, f"{archive}/{name}", label)
                else:
                    found.append((archive, name, key))
                    spans[f"{archive}/{name}"] = (number, *span)
            line.update()
    classes = _classes(path, labels)
    width = len(str(max(map(int, labels.values()), default=0)))
    places: dict[str, Place] = {}
    taken: set[tuple[str, str]] = set()
    for archive, name, key in found:
        split = split_of(archive)
        if key in labels:
            label = classes[int(labels[key])] if classes else labels[key].zfill(width)
            inside = f"{label}/{name}"
        else:
            inside = name.removeprefix("./")
            label = inside.partition("/")[0] if "/" in inside else ""
        if not label:
            way_out = "Pack it as CLASS/image, or with its class in a file that ends in .cls."
            raise _refused(path, f"{archive}/{name}", "an image with a class", way_out)
        if (split, inside) in taken:
            raise _refused(path, f"{archive}/{name}", "each name once in all shards of a split", "Rename it.")
        taken.add((split, inside))
        places[f"{archive}/{name}"] = Place("", split, label, inside)
    return Inventory(dict(sorted(places.items())), "", classes, archives, spans)


def _key(name: str) -> str:
    """Return the path of a file up to the first dot of its name, which WebDataset's samples share."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _number(path: Path, name: str, text: bytes) -> str:
    if not text.strip().isdigit():
        raise _refused(path, name, f"the number of a class, not {text!r}", "Write a whole number from 0.")
    return str(int(text))


def _classes(path: Path, labels: dict[str, str]) -> tuple[str, ...]:
    """Return the lines of `classes.txt`; none where there is no such file, or no class has a number."""
    if not labels or not (path / _CLASSES).exists():
        return ()
    names = tuple(filter(None, map(str.strip, read_lines(path / _CLASSES, "data.name"))))
    largest = max(map(int, labels.values()))
    if len(set(names)) < len(names) or largest >= len(names):
        expected = f"a name of its own for each class from 0 to {largest}, a line each"
        raise _refused(path, f"{_CLASSES}, {len(set(names))} names", expected, "Mend the file, or remove it.")
    return names


def _refused(path: Path, what: str, expected: str, way_out: str) -> UserError:
    return UserError("data.name", f"shards:{path} ({what[:200]})", expected, way_out)
