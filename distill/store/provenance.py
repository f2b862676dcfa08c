"""Describe what an artifact was made with: version and commit of this package, other packages and machine."""

from __future__ import annotations

import functools
import platform
import subprocess
from typing import Any

from distill.system.libraries import NUMBERS, versions
from distill.system.runtime import Runtime
from distill.system.version import __version__, clone


def provenance(runtime: Runtime) -> dict[str, Any]:
    """Return version, commit, packages and machine that make an artifact; none of them is part of its key."""
    import torch

    device = runtime.torch_device()
    return _environment() | {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
    }


@functools.cache
def _environment() -> dict[str, Any]:
    folder = clone()

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, encoding="utf-8", check=True
            )
        except (OSError, UnicodeError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    # A package without a clone may lie in the repository of somebody else, whose commit says nothing about it.
    own = folder is not None and git("rev-parse", "--show-prefix") == ""
    status = git("status", "--porcelain", "--untracked-files=no") if own else None
    return {
        "version": __version__,
        "commit": git("rev-parse", "HEAD") if own else None,
        "dirty": bool(status) if status is not None else None,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions(NUMBERS),
    }
