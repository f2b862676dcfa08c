"""Fetch the missing files of a data set: by a download, else from a Debian package."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from distill.config.data_sets import Origin, TorchvisionOrigin
from distill.data.sets.at_hand import Unavailable, missing
from distill.data.sets.debian import unpack_package
from distill.data.sets.mirrors import download
from distill.errors import UserError


def fetch(name: str, origin: Origin | TorchvisionOrigin, root: Path, progress: bool = True) -> Path:
    """Fetch the missing files from the first source that has them, and return the folder of all files.

    Raises:
        UserError: no source has the files; the message lists each source with the reason of its failure, and the
            ways out.
    """
    if isinstance(origin, TorchvisionOrigin):
        origin = looked_up(origin)
    folder = root / origin.folder
    if not missing(origin, root):
        return folder
    other_root = "set DISTILL_DATA or `data_root` to a folder that has them"
    way_out = f"{other_root}, or use `data.name=digits` or imagefolder:PATH."
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            tried = _try_sources(origin, root, progress) if missing(origin, root) else []
    except OSError as error:
        expected = f"a folder that can be written ({error})"
        raise UserError("data_root", str(root), expected, f"Make it so, {way_out}") from error
    if names := missing(origin, root):
        expected = f"{', '.join(names)} in {folder} or from a source that answers; tried {'; '.join(tried)}"
        raise UserError("data.name", name, expected, f"Put the files in {folder}, {way_out}")
    return folder


def _try_sources(origin: Origin, root: Path, progress: bool) -> list[str]:
    """Try the sources until no file is missing, and list each failed source with its reason."""
    sources: list[tuple[str, Callable[[Origin, Path, Path, bool], None]]] = [("download", download)]
    if origin.debian_package is not None:
        sources.append((f"Debian package {origin.debian_package}", unpack_package))
    tried = []
    for label, source in sources:
        try:
            with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as draft:
                source(origin, root, Path(draft), progress)
        except Unavailable as reason:
            tried.append(f"{label} ({reason})")
        if not missing(origin, root):
            break
    return tried


def looked_up(known: TorchvisionOrigin) -> Origin:
    """Look up the files of a data set in torchvision's own tables."""
    from torchvision import datasets

    source = getattr(datasets, known.class_name)
    if issubclass(source, datasets.MNIST):
        names = tuple(name.removesuffix(".gz") for name, _ in source.resources)
        downloads, mirrors = tuple(source.resources), tuple(source.mirrors)
    else:
        names = (*(name for name, _ in source.train_list + source.test_list), source.meta["filename"])
        downloads = ((source.filename, source.tgz_md5),)
        mirrors = (source.url.removesuffix(source.filename),)
    return Origin(known.folder, names, downloads, mirrors, known.debian_package)
