"""Load the data sets that are named by a path: a folder or an archive of images, decoded once or streamed."""

from __future__ import annotations

from pathlib import Path

from distill.config import DataConfig
from distill.data.sets.archives import ARCHIVE_SUFFIXES
from distill.data.sets.content import data_content, folder_path
from distill.data.sets.dataset import Dataset
from distill.data.sets.decoded_copy import Decoded, copy_folder, decode_once
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.inventory import take_inventory
from distill.data.sets.pixel_summary import summarise
from distill.data.sets.splits import limited_rows
from distill.data.sets.stored_listing import StoredListing
from distill.data.sets.streams.stream import Streamed, list_folder, list_once
from distill.errors import ContentChanged, UserError
from distill.system.progress import tell


def load_image_folder(config: DataConfig, root: Path, progress: bool, content: str | None) -> Dataset:
    """Load the images that lie at a path, with the split, the limit and the size that the config says.

    Args:
        config: config that names the images.
        root: data root.
        progress: whether to show progress bars, and one line about the images.
        content: digest of the files, where it was found just now.

    Raises:
        UserError: an argument is unknown, or `opened` fails.
    """
    found = opened(config, root, progress, content)
    listing, path = found.listing, folder_path(config)
    train, held_out, test = found.splits()
    positions, summary = listing.positions[: len(train)], listing.summary
    if config.limit is not None:
        drawn = limited_rows(train.labels, config.limit, config.split_seed)
        train, positions = train.rows(drawn), positions[drawn]
        if isinstance(found, Decoded):
            summary = summarise(train, held_out, test, listing.meta.classes)
    # Copies of folders are found by their images, so what else lies in a folder is looked at each time.
    looked = isinstance(found, Decoded) and path.is_dir()
    left_out = take_inventory(path).left_out if looked else listing.meta.left_out
    if progress:
        told = f"{len(train):,} train, {len(held_out):,} held-out, {len(test):,} test images"
        notes = (listing.meta.pixels, f"left out: {left_out}" if left_out else "")
        line = "; ".join((f"{config.name}: {len(listing.meta.classes):,} classes, {told}", *filter(None, notes)))
        tell(line)
    return Dataset(
        config.name,
        *(train, held_out, test),
        listing.meta.classes,
        *summary,
        positions=positions,
        held_out_apart=listing.held_out_apart,
    )


def stored_folder(config: DataConfig, content: str, root: Path) -> Path:
    """Return the folder of the decoded copy, or of the listing, of images with this digest."""
    return (list_folder if folder_arguments(config).stream else copy_folder)(config, content, root)


def listing_of(config: DataConfig, root: Path, progress: bool) -> StoredListing:
    """Return the stored listing of the images that lie at a path, which has the name of every image."""
    return opened(config.replace(limit=None), root, progress).listing


def opened(config: DataConfig, root: Path, progress: bool, content: str | None = None) -> Decoded | Streamed:
    """Return the images that lie at a path: decoded, or listed if they are streamed.

    Raises:
        UserError: the path does not exist, or `decode_once` or `list_once` fails.
        ContentChanged: the images are not those that the config has the digest of.
    """
    given = folder_arguments(config)
    content = content or data_content(config, root, progress=progress)
    if content is None:
        expected = f"{config.kind}: and an existing folder"
        if config.kind == "imagefolder":
            expected += f", tar or zip ({', '.join(ARCHIVE_SUFFIXES)})"
        raise UserError("data.name", f"{config.kind}:{folder_path(config)}", expected, "Check the path.")
    if config.content not in (None, content):
        raise ContentChanged("data.name", config.name)
    return (list_once if given.stream else decode_once)(config, content, root, progress)
