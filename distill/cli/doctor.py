"""Examine a machine: what works, what does not, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

from distill.config.data_sets import DATA_SETS, DataSet
from distill.system.libraries import PACKAGES
from distill.system.runtime import free_bytes

_FEW_BYTES = 2 << 30


def examine(data_root: Path, store: Path) -> tuple[list[str], bool]:
    """Examine this machine; return lines to print, and whether everything that the pipeline needs works."""
    lines = [f"python         {platform.python_version()} on {platform.system()} {platform.machine()}"]
    healthy = sys.version_info >= (3, 11)
    for package in PACKAGES:
        try:
            lines.append(f"{package:14} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            healthy = False
            lines.append(f"{package:14} MISSING: pip install {package}")
    device_lines, works = _torch()
    lines += device_lines
    lines += [f"{data_set.name:14} {_place(data_set, data_root)}" for data_set in DATA_SETS.values()]
    free = free_bytes(store)
    lines.append(f"disk           {free / 2**30:.1f} GiB free for {store}")
    if free < _FEW_BYTES:
        lines.append("               LOW: set --store or DISTILL_STORE to a larger disk")
    return lines, healthy and works


def _place(data_set: DataSet, data_root: Path) -> str:
    if data_set.origin is None:
        return "built in"
    folder = data_root / data_set.origin.folder
    return str(folder) if folder.is_dir() else "not here; fetched when first used"


def _torch() -> tuple[list[str], bool]:
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError) as error:
        # A CPU-only torch beside the torchvision of the package index fails with `operator torchvision::nms …`.
        reason = str(error).strip().splitlines()[0]
        return [
            f"torch          BROKEN: {reason}",
            "               install both of one build: pip install --force-reinstall torch torchvision",
        ], False
    lines = [f"torch builds   {torch.__version__} with {torchvision.__version__}: they fit"]
    if torch.cuda.is_available():
        lines.append(f"device         cuda: {torch.cuda.get_device_name()}")
    elif torch.backends.mps.is_available():
        lines.append("device         mps")
    else:
        lines.append(f"device         cpu, {torch.get_num_threads()} threads")
    return lines, True
