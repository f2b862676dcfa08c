"""Tell from a file's path to which split and class of a data set it belongs, or whether a program made it."""

from __future__ import annotations

from posixpath import splitext
from typing import NamedTuple

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
SPLITS = ("train", "test", "val")
_PROGRAMS = {"@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX"}
"""Folders that file servers, trash cans and packers make, beside the hidden ones."""


class Place(NamedTuple):
    """Say where an image lies: [one folder/]split/class/…/file, or [one folder/]class/…/file."""

    root: str
    """Folder that holds the splits, or else the classes; "" where they lie at the top."""
    split: str
    """Name of the split: train, test or val; "" where there are no splits."""
    label: str
    inside: str
    """Path below the split: CLASS/…/file."""


def is_of_program(part: str) -> bool:
    """Tell whether a file or folder is hidden or made by a program, by its name, such as `.git` or `__MACOSX`."""
    return part.startswith(".") or part in _PROGRAMS


def parts_of(name: str) -> list[str]:
    """Split the name of a file into its folders and its own name."""
    return [part for part in name.split("/") if part not in ("", ".")]


def is_image_name(name: str) -> bool:
    """Say whether a name ends as the names of images do."""
    return splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_own_image(file: str) -> bool:
    """Tell whether a file, named without its folders, has the name of an image and is not hidden."""
    return is_image_name(file) and not is_of_program(file)


def class_place(parts: list[str], below: int = 0) -> Place | None:
    """Read split and class off a path; None unless the class folder is followed by at least `below` more names."""
    for depth in (0, 1):
        if len(parts) >= depth + 2 + below and parts[depth] in SPLITS:
            inside = parts[depth + 1 :]
            return Place("/".join(parts[:depth]), parts[depth], inside[0], "/".join(inside))
    return None


def unsplit_place(parts: list[str], depth: int, below: int = 0) -> Place | None:
    """Read the class off a path where there are no splits and the class folders lie `depth` folders down.

    The result is None unless the class folder is followed by at least `below` more names.
    """
    if len(parts) < depth + 1 + below:
        return None
    inside = parts[depth:]
    return Place("/".join(parts[:depth]), "", inside[0], "/".join(inside))
