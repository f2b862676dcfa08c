"""Find out which row of a file of logits belongs to which image, by the names of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.npyio import NpzFile

from distill.cache.foreign import PATHS, check_member
from distill.errors import UserError
from distill.system.reading import read_lines

if TYPE_CHECKING:
    from jaxtyping import Int64

_FORMS: tuple[Callable[[str], str], ...] = (
    str,
    lambda name: str(PurePosixPath(name).with_suffix("")),
    lambda name: PurePosixPath(name).name,
    lambda name: PurePosixPath(name).stem,
)
"""Forms of a file's name that a key may have: the name, without its suffix, without its folder, without both."""


def rows_of_keys(keys: Sequence[str], names: Sequence[str]) -> Int64[np.ndarray, " n"] | str:
    """Return each key's position in `names`, or, if a key matches no name, the first such key instead.

    Args:
        keys: names of images, in any one of the forms that tell all names apart.
        names: names of all images, relative to `train/`.
    """
    unknown = None
    for form in _FORMS:
        row_of = {form(name): row for row, name in enumerate(names)}
        stranger = next((key for key in keys if key not in row_of), None)
        if stranger is None and len(row_of) == len(names):
            return np.array([row_of[key] for key in keys], dtype=np.int64)
        unknown = unknown or stranger
    return unknown or keys[0]


def declared_names(files: Sequence[Path], names: Path | None) -> list[str] | None:
    """Read the name of each row's image: from a file with a name on each line, or from the `paths` of a `.npz`.

    Args:
        files: files of the logits.
        names: file of the names; None looks into the first `.npz`.

    Returns:
        Names relative to `train/`, or None where nothing names the rows.

    Raises:
        UserError: the file of the names does not exist, or `paths` are no texts.
    """
    if names is not None:
        if not names.is_file():
            raise UserError("names", str(names), "a file with the name of an image on each line", "Check the path.")
        return [_within_train(line) for line in read_lines(names, "names") if line.strip()]
    for path in files:
        if path.suffix == ".npz" and path.is_file() and (paths := _paths(path)) is not None:
            return [_within_train(name) for name in paths]
    return None


def _paths(path: Path) -> list[str] | None:
    with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        if PATHS not in archive.files:
            return None
        try:
            check_member(path, archive, PATHS)
            paths = archive[PATHS]
        except ValueError:  # objects, which would have to be unpickled
            paths = np.empty(0)
    if paths.ndim != 1 or paths.dtype.kind not in "US":
        value = f"{path.name} with {PATHS} of type {paths.dtype}"
        raise UserError("files", value, "texts, one per row", "Save them as an array of str.")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in paths.tolist()]


def _within_train(name: str) -> str:
    """Return a file name without what stands before its class: `/data/train/cat/1.png` → `cat/1.png`."""
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    return "/".join(parts[len(parts) - parts[::-1].index("train") :]) if "train" in parts else "/".join(parts)
