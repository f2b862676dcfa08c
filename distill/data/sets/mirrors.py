"""Download the files of a data set from the first mirror that answers, and check their md5."""

from __future__ import annotations

import tarfile
import urllib.request
from functools import partial
from http.client import HTTPException
from pathlib import Path

from distill.config.data_sets import Origin
from distill.data.sets.at_hand import Unavailable, checksum, missing, publish, verify
from distill.system.progress import bar as progress_bar

TIMEOUT = 10
"""Seconds without an answer after which a server counts as out of reach."""
_BLOCK = 1 << 20
_ARCHIVE = ".tar.gz"


def download(origin: Origin, root: Path, draft: Path, progress: bool) -> None:
    """Download each missing file, or the one archive that holds them all, from the first mirror that answers."""
    wanted = missing(origin, root)
    for name, md5 in origin.downloads:
        if name.endswith(_ARCHIVE):
            path = root / name
            if path.is_file():
                verify(path, md5)
            else:
                path = _from_mirrors(origin, name, md5, draft, progress)
            with tarfile.open(path) as archive:
                archive.extractall(draft, filter="data")
            publish(draft / origin.folder, root / origin.folder, wanted)
        elif name.removesuffix(".gz") in wanted:
            _from_mirrors(origin, name, md5, draft, progress)
            publish(draft, root / origin.folder, [name])


def _from_mirrors(origin: Origin, name: str, md5: str, draft: Path, progress: bool) -> Path:
    reasons = []
    for mirror in origin.mirrors:
        path = draft / name
        try:
            retrieve(mirror + name, path, progress)
        except (OSError, HTTPException) as error:
            reasons.append(f"{mirror}{name}: {getattr(error, 'reason', error)}")
            continue
        if checksum(path) == md5:
            return path
        # A network may answer with its log-in page, for example.
        reasons.append(f"{mirror}{name}: what came, {path.stat().st_size:,} bytes, has another md5 than {md5}")
    raise Unavailable(", ".join(reasons))


def retrieve(url: str, path: Path, progress: bool) -> Path:
    """Download a file.

    Raises:
        OSError: the server is out of reach, stopped answering for `TIMEOUT` seconds, or closed early.
    """
    # The timeout holds for connecting and for each read, so a machine without network fails soon.
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        shown = None if progress else True
        with progress_bar(total=size or None, unit="B", unit_scale=True, desc=path.name, disable=shown) as bar:
            for block in iter(partial(answer.read, _BLOCK), b""):
                file.write(block)
                bar.update(len(block))
    if size and path.stat().st_size != size:
        raise OSError(f"{path.stat().st_size:,} of {size:,} bytes came")
    return path
