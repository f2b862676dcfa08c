"""Load the data set `imagefolder:PATH` from the decoded copy of a folder or an archive."""

from __future__ import annotations

from pathlib import Path

from distill.config import DataConfig
from distill.data.sets.content import folder_path
from distill.data.sets.dataset import Dataset
from distill.data.sets.decoded_copy import decode_once
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.inventory import take_inventory
from distill.data.sets.pixel_summary import summarise
from distill.data.sets.splits import limited_rows
from distill.system.progress import tell


def load_image_folder(config: DataConfig, root: Path, progress: bool) -> Dataset:
    """Load the images of a folder, a tar or a zip, with the split, the limit and the size that the config says.

    Raises:
        UserError: an argument is unknown, or `decode_once` fails.
    """
    folder_arguments(config)  # refuse an argument before the images are looked at
    decoded, path = decode_once(config, root, progress), folder_path(config)
    # Copies of folders are found by their images, so what else lies in a folder is looked at each time.
    left_out = take_inventory(path).left_out if path.is_dir() else decoded.left_out
    train, held_out, test = decoded.splits()
    apart = len(held_out) > 0 and len(train) == len(decoded.positions)
    positions, summary = decoded.positions[: len(train)], decoded.summary
    if config.limit is not None:
        drawn = limited_rows(train.labels, config.limit, config.split_seed)
        train, positions = train.rows(drawn), positions[drawn]
        summary = summarise(train, held_out, test, decoded.classes)
    if progress:
        told = f"{len(train):,} train, {len(held_out):,} held-out, {len(test):,} test images"
        notes = (decoded.pixels, f"left out: {left_out}" if left_out else "")
        line = "; ".join((f"{config.name}: {len(decoded.classes):,} classes, {told}", *filter(None, notes)))
        tell(line)
    return Dataset(
        config.name, train, held_out, test, decoded.classes, *summary, positions=positions, held_out_apart=apart
    )
