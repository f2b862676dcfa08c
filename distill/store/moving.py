"""Move folders of a store to their places, and remove them; nothing is ever half there under its own name."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from distill.errors import UserError
from distill.store.locks import tell


def open_folder(folder: Path) -> None:
    """Make a folder if it is missing, and refuse one that cannot be written.

    Raises:
        UserError: the folder is a link that leads nowhere.
        OSError: the folder cannot be made, or cannot be written.
    """
    with suppress(FileExistsError):
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        way_out = "Mount its disk, or delete it, and run the same command again."
        raise UserError("path", str(folder), "a folder, or a link that leads to one", way_out)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def make_way(final: Path) -> None:
    """Free the place of an artifact: what stands there has no record, so it may be somebody's own."""
    if final.is_symlink():
        final.unlink()
    elif final.exists():
        kept = final.with_name(f"{final.name}.{uuid.uuid4().hex[:8]}.replaced")
        final.rename(kept)
        tell(f"{final} had no record and is made again; what was there is now in {kept}")


def move(draft: Path, final: Path) -> None:
    """Rename a draft to an artifact; copy it first, under a hidden name, if that place is on another disk."""
    try:
        draft.rename(final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    copy = final.with_name(f".{final.name}.{uuid.uuid4().hex}.partial")
    try:
        copy.mkdir()
        for path in sorted(draft.rglob("*")):  # a folder comes before its files
            there = copy / path.relative_to(draft)
            if path.is_dir():
                there.mkdir()
                continue
            shutil.copyfile(path, there)
            with there.open("rb") as file:
                os.fsync(file.fileno())
        copy.rename(final)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    shutil.rmtree(draft)


def remove(path: Path) -> None:
    """Delete a folder, a file or a link, but not what a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
