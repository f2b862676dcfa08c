"""Fetches the files of a data set that are not at hand: by a download, else from a Debian package.

Whatever the source, a file appears at its place complete or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from distill.config.data_sets import Origin, TorchvisionOrigin
from distill.data.sets.idx import damaged
from distill.errors import UserError
from distill.system.progress import bar as progress_bar

TIMEOUT = 10
"""Seconds without an answer after which a server counts as out of reach."""
_APT_SECONDS = 300
_BLOCK = 1 << 20
_ARCHIVE = ".tar.gz"


class Unavailable(Exception):
    """A source cannot serve the files, for the reason given."""


def find(folder: Path, name: str) -> Path | None:
    """The file, raw or gzipped, or None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def missing(origin: Origin, root: Path) -> list[str]:
    """List the files that are not at hand."""
    return [name for name in origin.files if find(root / origin.folder, name) is None]


def looked_up(known: TorchvisionOrigin) -> Origin:
    """Look up in torchvision's own tables what it knows of a data set's files."""
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


def fetch(name: str, origin: Origin | TorchvisionOrigin, root: Path, progress: bool = True) -> Path:
    """Fetch the files that are missing from the first source that has them, and return the folder of all.

    Raises:
        UserError: no source has them; the line lists what was tried, why it failed, and the ways out.
    """
    if isinstance(origin, TorchvisionOrigin):
        origin = looked_up(origin)
    folder = root / origin.folder
    if not missing(origin, root):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            tried = _try_sources(origin, root, progress) if missing(origin, root) else []
    except OSError as error:
        expected = f"a folder that can be written ({error})"
        raise UserError("data_root", str(root), expected, f"Make it so, {_way_out()}") from error
    if names := missing(origin, root):
        expected = f"{', '.join(names)} in {folder} or from a source that answers; tried {'; '.join(tried)}"
        raise UserError("data.name", name, expected, f"Put the files in {folder}, {_way_out()}")
    return folder


def _way_out() -> str:
    other_root = "set DISTILL_DATA or --data-root to a folder that has them"
    return f"{other_root}, or use --data.name digits or imagefolder:PATH."


def _try_sources(origin: Origin, root: Path, progress: bool) -> list[str]:
    """Go through the sources until nothing is missing; what was tried, with the reason of each failure."""
    sources: list[tuple[str, Callable[[Origin, Path, Path, bool], None]]] = [("download", _download)]
    if origin.debian_package is not None:
        sources.append((f"Debian package {origin.debian_package}", _debian_package))
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


def _download(origin: Origin, root: Path, draft: Path, progress: bool) -> None:
    """Fetch each missing file, or the one archive that holds them all, from the first mirror that answers."""
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
        # Such as the log-in page of a network.
        reasons.append(f"{mirror}{name}: what came, {path.stat().st_size:,} bytes, has another md5 than {md5}")
    raise Unavailable(", ".join(reasons))


def retrieve(url: str, path: Path, progress: bool) -> Path:
    """Download a file.

    Raises:
        OSError: the server is out of reach, or stopped answering for `TIMEOUT` seconds, or closed early.
    """
    # The timeout counts for connecting and for each read, so a machine without network fails soon.
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        shown = None if progress else True
        with progress_bar(total=size or None, unit="B", unit_scale=True, desc=path.name, disable=shown) as bar:
            for block in _blocks(answer.read):
                file.write(block)
                bar.update(len(block))
    if size and path.stat().st_size != size:
        raise OSError(f"{path.stat().st_size:,} of {size:,} bytes came")
    return path


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    return iter(lambda: read(_BLOCK), b"")


def verify(path: Path, md5: str) -> None:
    """Compare a file with its checksum.

    Raises:
        UserError: they differ; the line names the file and its size.
    """
    found = checksum(path)
    if found != md5:
        raise damaged(path, f"md5 {md5}, not {found}")


def checksum(path: Path) -> str:
    """md5 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def publish(source: Path, destination: Path, names: list[str]) -> None:
    """Move files to their place, each by one rename within the file system."""
    destination.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (source / name).is_file():
            raise Unavailable(f"it has no {name}")
        (source / name).replace(destination / name)


def _debian_package(origin: Origin, root: Path, draft: Path, progress: bool) -> None:
    """Fetch and unpack the package, neither of which needs root or installs anything."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"no {program} here: not Debian or Ubuntu")
    fetch_package = ["apt-get", *_apt_options(), "download", str(origin.debian_package)]
    hidden = None if progress else True
    with progress_bar(total=1, desc=f"apt-get download {origin.debian_package}", disable=hidden) as bar:
        try:
            _call(fetch_package, draft)
        except Unavailable as reason:
            if os.geteuid() != 0:
                raise Unavailable(f"{reason}; if the package lists are stale, run apt-get update as root") from None
            _call(["apt-get", *_apt_options(), "update"], draft)
            _call(fetch_package, draft)
        bar.update()
    package = next(draft.glob("*.deb"), None)
    if package is None:
        raise Unavailable("apt-get left no package")
    _call(["dpkg-deb", "-x", str(package), str(draft / "unpacked")], draft)
    found = {path.name: path for path in (draft / "unpacked").rglob("*.gz")}
    for name in missing(origin, root):
        path = found.get(f"{name}.gz")
        if path is None:
            raise Unavailable(f"it has no {name}.gz")
        publish(path.parent, root / origin.folder, [path.name])


def _apt_options() -> list[str]:
    return [f"-oAcquire::{scheme}::Timeout={TIMEOUT}" for scheme in ("http", "https")] + ["-oAcquire::Retries=1"]


def _call(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_APT_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [f"exit code {error.returncode}"]
        raise Unavailable(f"{command[0]}: {lines[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
