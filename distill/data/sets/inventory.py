"""Take the inventory of a folder or an archive: its images, and what is left out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from distill.data.sets.archives import linked_folder, member_names, names_in, refused
from distill.data.sets.places import (
    Place,
    class_place,
    is_image_name,
    is_of_program,
    is_own_image,
    parts_of,
    unsplit_place,
)

Span = tuple[int, int, int, int]
"""Number of the archive, first byte, number of bytes, and number of bytes unpacked (0 where nothing is packed)."""

_LONGEST_NAME = 4096
_PROGRAM_FOLDERS = 8
"""Largest number of folders of programs that are listed by their names."""


@dataclass(frozen=True)
class Inventory:
    """Map each image's file name, in sorted order, to its split and class, and say what is left out, and why."""

    places: dict[str, Place]
    """The split is "" where the images lie in class folders without `train/` and `test/`."""
    left_out: str
    """Numbers of files that are left out, and why; empty if there are none."""
    classes: tuple[str, ...] = ()
    """Names of the classes in their order; none where their order is that of their names."""
    archives: tuple[str, ...] = ()
    """Names of the archives that hold the images, where they are read from there."""
    spans: Mapping[str, Span] = field(default_factory=dict)
    """Name of each image → where it lies in an archive."""


def take_inventory(path: Path) -> Inventory:
    """Find the images of a folder or an archive by their names. Of an archive only headers are read.

    Raises:
        UserError: the archive is damaged or holds too much, a name is not allowed, two images have one place, a
            member with the name of an image is no plain file, there are two data sets, a class has no image, or a
            linked folder may be a class.
    """
    places: dict[str, Place] = {}
    classes: set[tuple[str, str, str]] = set()
    named = list(names_in(path) if path.is_dir() else member_names(path))
    depth = _depth_of_classes(named)
    if depth is not None and path.is_dir():
        _refuse_links(path, named)
    class_at = class_place if depth is None else partial(unsplit_place, depth=depth)
    others = _LeftOut(
        class_at, "a class folder" if depth is not None else "a class folder of train/, val/ or test/"
    )

    @cache  # for a million files in a few thousand folders
    def place_in(folder: str) -> Place | None:
        parts = parts_of(folder)
        return None if any(map(is_of_program, parts)) else class_at([*parts, ""], below=1)

    for name, is_image in named:
        folder, _, file = name.rpartition("/")
        at = place_in(folder) if is_image and is_own_image(file) else None
        if at is not None:
            places[name] = Place(at.root, at.split, at.label, at.inside + file)
            continue
        parts = parts_of(name)
        own = next((number for number, part in enumerate(parts) if is_of_program(part)), None)
        if not name.endswith("/"):
            others.add(name, parts, own)
        folders = parts[: own if own is not None else len(parts) - (not name.endswith("/"))]
        if (of_class := class_at(folders)) is not None:
            classes.add(of_class[:3])
    places = dict(sorted(places.items()))
    _check_names(path, places)
    if not path.is_dir():
        _refuse_one_place_twice(path, places)
    roots = sorted({place.root for place in places.values()})
    if len(roots) > 1:
        here, there = (f"{root}/" if root else "its top" for root in roots[:2])
        expected = f"one data set, not one at {here} and another at {there}"
        raise refused(path, f"{len(roots)} data sets", expected, "Move one elsewhere, or name its own folder.")
    empty = sorted(classes - {place[:3] for place in places.values()})
    for root, *folders in empty:
        if root in roots:
            expected = "an image that can be read in each class folder"
            way_out = "Add its images (other formats: convert them), or remove the folder."
            raise refused(path, "/".join(filter(None, folders)), expected, way_out)
    return Inventory(places, others.text())


def _depth_of_classes(named: list[tuple[str, bool]]) -> int | None:
    """Return how many folders lie above the class folders where there are no splits; None where there are splits.

    A single folder at the top that holds folders of images is not a class but holds the classes.
    """
    split = (name.rpartition("/") for name, is_image in named if is_image)
    within = {folder for folder, _, file in split if is_own_image(file)}
    images = [[*parts_of(folder), ""] for folder in within if not any(map(is_of_program, parts_of(folder)))]
    if not images or any(class_place(parts, below=1) for parts in images):
        return None
    folders = (parts_of(name)[: None if name.endswith("/") else -1] for name, _ in named)
    tops = {parts[0] for parts in folders if parts and not is_of_program(parts[0])}
    return int(len(tops) == 1 and any(len(parts) > 2 for parts in images))


def _refuse_links(path: Path, named: list[tuple[str, bool]]) -> None:
    """Refuse links to folders where any folder may be a class: no link to a folder is followed."""
    for name, _ in named:
        if name.endswith("/") and not any(map(is_of_program, parts_of(name))) and (path / name[:-1]).is_symlink():
            raise linked_folder(path, name[:-1])


class _LeftOut:
    """Count the files that are left out, by reason."""

    def __init__(self, class_at: Callable[..., Place | None], class_folder: str) -> None:
        self._class_at, self._class_folder = class_at, class_folder
        self._folders: Counter[str] = Counter()
        self._hidden = self._elsewhere = 0
        self._other_types = 0
        self._example = ""

    def add(self, name: str, parts: list[str], own: int | None) -> None:
        """Count a left-out file; `own` is the index in `parts` of the first hidden or program-made name, if any."""
        if own is not None and own < len(parts) - 1:
            folder = parts[own]
            known = folder in self._folders or len(self._folders) < _PROGRAM_FOLDERS
            self._folders[folder if known else "other hidden folders"] += 1
        elif own is not None:
            self._hidden += 1
        elif is_image_name(name):
            self._elsewhere += 1
        elif self._class_at(parts, below=1) is not None:
            self._other_types += 1
            self._example = self._example or _printable(name)

    def text(self) -> str:
        """Write the numbers and reasons in one line."""
        counts = {f"in {_printable(folder)}": count for folder, count in sorted(self._folders.items())}
        counts |= {"hidden": self._hidden, f"not in {self._class_folder}": self._elsewhere}
        counts[f"of other types, such as {self._example}"] = self._other_types
        return ", ".join(
            f"{count:,} {'file' if count == 1 else 'files'} {why}" for why, count in counts.items() if count
        )


def _printable(name: str) -> str:
    shown = name if len(name) <= 60 else f"{name[:60]}…"
    return shown if shown.isprintable() else ascii(shown)


def _check_names(path: Path, places: dict[str, Place]) -> None:
    for name in places:
        if len(name) > _LONGEST_NAME or not _is_text(name):
            raise refused(path, name, f"a name of at most {_LONGEST_NAME} letters, in UTF-8", "Rename it.")


def _refuse_one_place_twice(path: Path, places: dict[str, Place]) -> None:
    """Refuse an archive with two names of one file, such as `a/x.png` and `./a/x.png`."""
    names_at: dict[tuple[str, str, str], str] = {}
    for name, place in places.items():
        if (other := names_at.setdefault((place.root, place.split, place.inside), name)) != name:
            raise refused(path, name, f"one image at a place, this is the place of {other}", "Remove one of them.")


def _is_text(name: str) -> bool:
    """Say whether a name has neither control characters nor bytes that cannot be text."""
    return name.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
