"""Take the files of a data set from a Debian package, without root and without an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from distill.config.data_sets import Origin
from distill.data.sets.at_hand import Unavailable, missing, publish
from distill.data.sets.mirrors import TIMEOUT
from distill.system.progress import bar as progress_bar

_APT_SECONDS = 300
_APT = ["apt-get", *(f"-oAcquire::{scheme}::Timeout={TIMEOUT}" for scheme in ("http", "https"))]
_APT += ["-oAcquire::Retries=1"]


def unpack_package(origin: Origin, root: Path, draft: Path, progress: bool) -> None:
    """Download and unpack the package, and publish the files that are missing."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"no {program} here: not Debian or Ubuntu")
    fetch_package = [*_APT, "download", str(origin.debian_package)]
    title = f"apt-get download {origin.debian_package}"
    with progress_bar(total=1, desc=title, disable=None if progress else True) as bar:
        try:
            _call(fetch_package, draft)
        except Unavailable as reason:
            if os.geteuid() != 0:
                raise Unavailable(f"{reason}; if the package lists are stale, run apt-get update as root") from None
            _call([*_APT, "update"], draft)
            _call(fetch_package, draft)
        bar.update()
    package = next(draft.glob("*.deb"), None)
    if package is None:
        raise Unavailable("apt-get left no package")
    _call(["dpkg-deb", "-x", str(package), str(draft / "unpacked")], draft)
    folder_of = {path.name: path.parent for path in (draft / "unpacked").rglob("*.gz")}
    for name in missing(origin, root):
        publish(folder_of.get(f"{name}.gz", draft), root / origin.folder, [f"{name}.gz"])


def _call(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_APT_SECONDS)
    except subprocess.CalledProcessError as error:
        told = (error.stderr or b"").decode(errors="replace").strip()
        lines = told.splitlines() or [f"exit code {error.returncode}"]
        raise Unavailable(f"{command[0]}: {lines[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
