"""Take the files of a data set from a Debian package, which neither needs root nor installs anything."""

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


def unpack_package(origin: Origin, root: Path, draft: Path, progress: bool) -> None:
    """Download and unpack the package, and publish the files that are missing."""
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
