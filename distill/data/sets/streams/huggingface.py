"""Read a data set of Hugging Face on disk: parquet files, or a folder that `save_to_disk` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int64

from distill.config import DataConfig
from distill.data.sets.archives import IMAGE_BYTES
from distill.data.sets.content import folder_path
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.inventory import Inventory, Span
from distill.data.sets.names import Names
from distill.data.sets.places import Place
from distill.data.sets.streams.shards import split_of
from distill.errors import UserError
from distill.system.files import expanded

_CACHE = "huggingface"
"""Folder below the data root to which parquet files are converted."""


class Rows:
    """Read the images of a data set's rows, which lie in memory-mapped files.

    Args:
        config: config that names the data set.
        root: data root.
        names: name of each image, for messages.
        spans: part of the data set and row in it, for each image.
    """

    def __init__(self, config: DataConfig, root: Path, names: Names, spans: Int64[np.ndarray, "n 4"]):
        parts = _parts(config, root)
        column, _ = _columns(config, next(iter(parts.values())))
        image = _library().Image(decode=False)
        self._parts = [part.select_columns([column]).cast_column(column, image) for part in parts.values()]
        self._names, self._spans, self._column = names, spans, column

    def name(self, row: int) -> str:
        """Return the name of an image: its part and its row."""
        return self._names[row]

    def read(self, row: int) -> bytes:
        """Return the bytes of an image."""
        part, at, *_ = self._spans[row].tolist()
        data = self._parts[part][at][self._column]["bytes"]
        if not data:
            raise OSError("its row holds no bytes")
        if len(data) > IMAGE_BYTES:
            raise OSError(f"{len(data):,} bytes, more than {IMAGE_BYTES:,}")
        return data


def row_inventory(config: DataConfig, root: Path) -> Inventory:
    """Take the inventory of a data set: an image for each row, of the class that its label says.

    Raises:
        UserError: it is no such data set, or its columns of images and labels are not found.
    """
    places: dict[str, Place] = {}
    spans: dict[str, Span] = {}
    classes: tuple[str, ...] = ()
    for number, (part, rows) in enumerate(_parts(config, root).items()):
        _, label = _columns(config, rows)
        names = getattr(rows.features[label], "names", None)
        labels = rows.with_format("numpy")[label][:]
        if not names:
            width = len(str(max(labels, default=0)))
            names = [str(each).zfill(width) for each in range(int(max(labels, default=0)) + 1)]
        classes = classes or tuple(map(_text, names))
        for row, each in enumerate(labels.tolist()):
            if not 0 <= each < len(classes):
                raise _refused(config, f"{part}, row {row}: label {each}", f"a class from 0 to {len(classes) - 1}")
            name = f"{part}/{row:08}"
            places[name] = Place("", split_of(part), classes[each], f"{classes[each]}/{part}-{row:08}")
            spans[name] = (number, row, 0, 0)
    return Inventory(places, "", classes, (), spans)


def _text(name: str) -> str:
    return name.replace("/", "-")


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        expected = "the library datasets, which is not installed"
        raise UserError("data.name", "hfdataset", expected, 'Run `pip install "datasets>=4"`.') from error
    datasets.disable_progress_bars()
    return datasets


def _parts(config: DataConfig, root: Path) -> dict[str, Any]:
    """Open a data set: name of each part, such as train → its rows."""
    datasets, path = _library(), folder_path(config)
    with _reading(config):
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            found = datasets.load_from_disk(str(path))
        else:
            files: dict[str, list[str]] = {}
            for each in sorted(path.rglob("*.parquet")):
                files.setdefault(split_of(each.relative_to(path).as_posix()) or "train", []).append(str(each))
            if not files:
                expected = "what `save_to_disk` wrote, or parquet files"
                raise _refused(config, "no state.json and no .parquet", expected)
            cache = expanded(root).resolve() / _CACHE
            found = datasets.load_dataset("parquet", data_files=files, cache_dir=str(cache))
    parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"all": found}
    # A single part has no splits, whatever its name is: a share of it is tested.
    return parts if len(parts) > 1 else {"all": next(iter(parts.values()))}


def _columns(config: DataConfig, rows: Any) -> tuple[str, str]:
    """Return the names of the columns of images and labels, as they are given or as they are found."""
    given, features = folder_arguments(config), rows.features
    images = [name for name, each in features.items() if type(each).__name__ == "Image"]
    labels = [name for name, each in features.items() if type(each).__name__ == "ClassLabel"]
    whole = [name for name, each in features.items() if str(getattr(each, "dtype", "")).startswith(("int", "uint"))]
    labels = labels or [name for name in whole if "label" in name or name in ("cls", "class", "target")]
    chosen = []
    for field, name, options in (("image", given.image, images), ("label", given.label, labels or whole)):
        options = list(dict.fromkeys([*options, *(whole if field == "label" else ())])) if name else options
        if (name is not None and name not in options) or (name is None and len(options) != 1):
            expected = f"one column of {field}s, this data set has {', '.join(options) or 'none'}"
            way_out = f'Name it, as in `data.kwargs={{"{field}": "{(options or list(features))[0]}"}}`.'
            raise UserError("data.kwargs", {field: name} if name else config.kwargs, expected, way_out)
        chosen.append(name or options[0])
    return chosen[0], chosen[1]


@contextmanager
def _reading(config: DataConfig) -> Iterator[None]:
    """Turn the errors of the library for damaged files into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # pyarrow and datasets raise many types
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise _refused(config, reason, "a whole data set") from error


def _refused(config: DataConfig, what: str, expected: str) -> UserError:
    return UserError("data.name", f"{config.name} ({what})", expected, "Save the data set again.")
