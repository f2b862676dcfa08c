"""Load the data set `imagefolder:PATH` from the decoded copy of a folder or an archive."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from distill.config import DataConfig
from distill.data.sets.dataset import Dataset, Split
from distill.data.sets.decoded_copy import Decoded, decode_once
from distill.data.sets.pixel_summary import Summary, summarise
from distill.data.sets.splits import limited_rows
from distill.errors import UserError
from distill.system.files import write_json
from distill.system.reading import read_json


def load_image_folder(config: DataConfig, path: Path, root: Path, progress: bool) -> Dataset:
    """Load the images of a folder, a tar or a zip.

    Args:
        config: config with the split and the limit; its arguments may give a size.
        path: path of the folder or archive.
        root: data root, under which the decoded copy is kept.
        progress: whether to show a bar while the copy is made.

    Raises:
        UserError: an argument is unknown, or `decode_once` fails.
    """
    size = config.kwargs.get("size")
    is_size = size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
    if set(config.kwargs) - {"size"} or not is_size:
        way_out = "Write --data.kwargs '{\"size\": 64}', or drop it."
        raise UserError("data.kwargs", config.kwargs, "at most a size in pixels", way_out)
    decoded = decode_once(path, size, config.held_out, config.split_seed, root, progress)
    images = decoded.images.split(list(decoded.sizes))
    labels = decoded.labels.split(list(decoded.sizes))
    train, held_out, test = (Split(*rows) for rows in zip(images, labels, strict=True))
    positions = decoded.positions[: len(train)]
    if config.limit is None:
        summary = _kept_summary(decoded, train, held_out, test)
    else:
        drawn = limited_rows(train.labels, config.limit, config.split_seed)
        train, positions = train.rows(drawn), positions[drawn]
        summary = summarise(train, held_out, test, decoded.classes)
    return Dataset(config.name, train, held_out, test, decoded.classes, *summary, positions=positions)


def _kept_summary(decoded: Decoded, train: Split, held_out: Split, test: Split) -> Summary:
    """Summarise a decoded copy once, and keep the numbers beside it."""
    path = decoded.folder / "summary.json"
    if path.is_file():
        return _read_summary(path, train.images.shape[1])
    summary = summarise(train, held_out, test, decoded.classes)
    write_json(path, summary)
    return summary


def _read_summary(path: Path, channels: int) -> Summary:
    """Read the kept result of `summarise`."""
    found = read_json(path)
    with suppress(TypeError, ValueError, OverflowError):
        mean, std, fingerprint = found
        numbers = [float(number) for number in (*mean, *std)]
        if len(mean) == len(std) == channels and min(numbers[channels:]) > 0 and len(str(fingerprint)) == 64:
            return Summary(tuple(numbers[:channels]), tuple(numbers[channels:]), str(fingerprint))
    expected = f"mean and deviation of {channels} channels, and a fingerprint"
    raise UserError(str(path), "changed", expected, "Delete it: it is made again.")
