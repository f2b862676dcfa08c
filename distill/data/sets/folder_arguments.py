"""Read the arguments of an image folder, `data.kwargs`, and refuse those that it does not have."""

from __future__ import annotations

from typing import NamedTuple

from distill.config import DataConfig
from distill.errors import UserError

_SIZE = 4096
"""Largest side in pixels to which images are resized; one image has then 50 MB."""
_SEEDS = 2**63


class FolderArguments(NamedTuple):
    """Say how the images of a folder are decoded, and which of them are test images."""

    size: int | None = None
    """Side in pixels to which images are resized and cropped; None keeps their size."""
    exif: bool = False
    """Whether the EXIF orientation of photographs is applied."""
    test: float | None = None
    """Share of each class that becomes the test set, where the folder has no splits; None where it has them."""
    seed: int = 0
    """Seed of this share."""


def folder_arguments(config: DataConfig) -> FolderArguments:
    """Return the arguments of an image folder.

    Raises:
        UserError: an argument is unknown, of another type or out of range, or a seed is given without a share.
    """
    kwargs = config.kwargs
    if unknown := {name: kwargs[name] for name in kwargs if name not in FolderArguments._fields}:
        raise _refused(unknown, f"only {', '.join(FolderArguments._fields)}")
    given = FolderArguments(**kwargs)
    if given.size is not None and not (type(given.size) is int and 0 < given.size <= _SIZE):
        raise _refused({"size": given.size}, f"1 to {_SIZE:,} pixels", '`data.kwargs={"size": 64}`')
    if type(given.exif) is not bool:
        raise _refused({"exif": given.exif}, "true or false", '`data.kwargs={"exif": true}`')
    if given.test is not None and not (type(given.test) is float and 0 < given.test < 1):
        raise _refused({"test": given.test}, "a share above 0 and below 1", '`data.kwargs={"test": 0.2}`')
    if "seed" in kwargs and not (given.test and type(given.seed) is int and 0 <= given.seed < _SEEDS):
        expected = f"a whole number from 0 to {_SEEDS - 1}, beside a share of test images"
        raise _refused({"seed": given.seed}, expected, '`data.kwargs={"test": 0.2, "seed": 1}`')
    return given


def _refused(value: dict[str, object], expected: str, example: str = '`data.kwargs={"size": 64}`') -> UserError:
    return UserError("data.kwargs", value, expected, f"Set {example}, or drop it.")
