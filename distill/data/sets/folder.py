"""Load the data set `imagefolder:PATH` from the decoded copy of a folder or an archive."""

from __future__ import annotations

from pathlib import Path

from distill.config import DataConfig
from distill.data.sets.dataset import Dataset
from distill.data.sets.decoded_copy import decode_once
from distill.data.sets.pixel_summary import summarise
from distill.data.sets.splits import limited_rows
from distill.errors import UserError


def load_image_folder(config: DataConfig, root: Path, progress: bool) -> Dataset:
    """Load the images of a folder, a tar or a zip, with the split, the limit and the size that the config says.

    Raises:
        UserError: an argument is unknown, or `decode_once` fails.
    """
    size = config.kwargs.get("size")
    is_size = size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
    if set(config.kwargs) - {"size"} or not is_size:
        way_out = 'Set `data.kwargs={"size": 64}`, or drop it.'
        raise UserError("data.kwargs", config.kwargs, "at most a size in pixels", way_out)
    decoded = decode_once(config, root, progress)
    train, held_out, test = decoded.splits()
    positions, summary = decoded.positions[: len(train)], decoded.summary
    if config.limit is not None:
        drawn = limited_rows(train.labels, config.limit, config.split_seed)
        train, positions = train.rows(drawn), positions[drawn]
        summary = summarise(train, held_out, test, decoded.classes)
    return Dataset(config.name, train, held_out, test, decoded.classes, *summary, positions=positions)
