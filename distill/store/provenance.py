"""Describe what an artifact was made with: commit, packages and machine."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any

from distill.system.libraries import NUMBERS, versions
from distill.system.runtime import Runtime


def provenance(runtime: Runtime) -> dict[str, Any]:
    """Return the commit, the packages and the machine that make an artifact; none of them is part of its key."""
    import torch

    device = runtime.torch_device()
    return _environment() | {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
    }


@functools.cache
def _environment() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(status) if status is not None else None,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions(NUMBERS),
    }
