"""Bring the rows and columns of logits from elsewhere into the order of a data set's images and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from distill.cache.row_names import rows_of_keys
from distill.cache.tinyvit import NamesOf
from distill.config import DataConfig, ImportFlags
from distill.data.sets.folder import listing_of
from distill.errors import UserError
from distill.system.runtime import Runtime

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from distill.data.sets.dataset import Dataset


def rows_of_split(rows: int, dataset: Dataset, is_limited: bool = False) -> Int64[np.ndarray, " n"]:
    """Return, for each training sample, the row of a file that holds its logits.

    Args:
        rows: number of rows of the file: as many as the training split, or as the whole published training set.
        dataset: data set that is split into train and held-out.
        is_limited: whether the training split is a part of the images that are left, so that train and held-out
            images together are not the published set.

    Raises:
        UserError: the file has another number of rows.
    """
    split = len(dataset.train)
    whole = split if dataset.held_out_apart or is_limited else split + len(dataset.held_out)
    if rows == split:
        return np.arange(split)
    if rows == whole:
        return dataset.positions.numpy()
    expected = f"{split}, as many as training images"
    expected += f", or {whole}, with the held-out ones" if whole > split else ""
    way_out = "Give the logits of these images, or set `data.held_out` and `data.split_seed` as they were."
    raise UserError("files", f"{rows} rows", expected, way_out)


def rows_by_name(
    names: Sequence[str], rows: int, flags: ImportFlags, dataset: Dataset, runtime: Runtime
) -> Int64[np.ndarray, " n"]:
    """Return which row of a file belongs to each training sample, by the names of the images.

    Args:
        names: name of each row's image, relative to `train/`.
        rows: number of rows of the file.
        flags: what the user says about the logits, with the data set.
        dataset: data set whose training split is answered.
        runtime: data root.

    Raises:
        UserError: the data set has no names, a name is unknown or given twice, or an image has no row.
    """
    if not flags.data.folder:
        expected = "none, since only the files of an image folder have names"
        raise UserError("names", f"{len(names)} names", expected, "Drop the names.")
    if len(names) != rows:
        raise UserError("names", f"{len(names)} names", f"one for each of the {rows} rows", "Give as many.")
    images = _published_names(flags.data, runtime)
    positions = rows_of_keys(names, images)
    if isinstance(positions, str):
        expected = f"names of training images, such as {images[0]!r}"
        raise UserError("names", positions, expected, "Give names that begin with the class folder.")
    row_of = dict(zip(positions.tolist(), range(rows), strict=True))
    if len(row_of) < rows:
        again = Counter(names).most_common(1)[0][0]
        raise UserError("names", again, "every name once", "Give one row for each image.")
    wanted = dataset.positions.tolist()
    missing = next((images[position] for position in wanted if position not in row_of), None)
    if missing is not None:
        expected = "a row for each training image"
        raise UserError("names", f"no row for {missing!r}", expected, "Add the missing rows.")
    return np.array([row_of[position] for position in wanted], dtype=np.int64)


def columns_by_name(names: tuple[str, ...], count: int, classes: tuple[str, ...]) -> Int64[Tensor, " k"] | None:
    """Return the column of a file for each class; None when the columns are in the order of the data set.

    Args:
        names: names of the columns; none means the names of the data set.
        count: number of columns.
        classes: names of the classes of the data set.

    Raises:
        UserError: the names or the number of the columns do not fit the classes.
    """
    if names and sorted(names) != sorted(classes):
        strangers = sorted(set(names) - set(classes)) or sorted(set(classes) - set(names))
        value = f"{len(names)} names ({', '.join(names[:4])}, …)"
        expected = f"the {len(classes)} of the data set ({', '.join(classes[:4])}, …)"
        hint = f" Only in one of them: {', '.join(strangers[:4])}." if strangers else ""
        raise UserError("classes", value, expected, f"Give the data set's names in the order of the columns.{hint}")
    if count != len(classes):
        expected = f"a column for each of the {len(classes)} classes"
        raise UserError("files", f"{count} columns", expected, "Give logits for the classes of this data set.")
    if not names or names == classes:
        return None
    if len(set(names)) < len(names):
        value = next(name for name in names if names.count(name) > 1)
        expected = "names that differ, since the columns are in another order"
        raise UserError("classes", value, expected, "Put the columns in the data set's order, without `classes`.")
    column = {name: number for number, name in enumerate(names)}
    return torch.tensor([column[name] for name in classes])


def names_of(config: DataConfig, dataset: Dataset, runtime: Runtime) -> NamesOf | None:
    """Return a function that, given how many rows of logits there are, lists the image file of each row; None
    without an image folder.
    """
    if not config.folder:
        return None

    def names(count: int) -> list[str]:
        published = _published_names(config, runtime)
        of_split = count == len(dataset.train) < len(published)
        return [published[position] for position in dataset.positions.tolist()] if of_split else published

    return names


def _published_names(config: DataConfig, runtime: Runtime) -> list[str]:
    """Return the file names of all images of `train/`, in the order of torchvision's ImageFolder."""
    listing = listing_of(config, runtime.data_root.resolve(), runtime.progress)
    names = listing.names()
    return [names[row] for row in listing.positions.argsort().tolist()]
