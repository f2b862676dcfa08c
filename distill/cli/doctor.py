"""Examines a machine: what works here, what does not, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

from distill.system.libraries import PACKAGES
from distill.system.runtime import free_bytes

_SETS = {
    "fashion-mnist": "FashionMNIST/raw",
    "mnist": "MNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}
_FEW_BYTES = 2 << 30


def examine(data_root: Path, store: Path) -> tuple[list[str], bool]:
    """Lines to print, and whether everything that is needed works."""
    lines = [f"python         {platform.python_version()} on {platform.system()} {platform.machine()}"]
    healthy = sys.version_info >= (3, 11)
    for package in PACKAGES:
        try:
            lines.append(f"{package:14} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            healthy = False
            lines.append(f"{package:14} MISSING: install it with `pip install -e .`")
    device_lines, works = _torch()
    lines += device_lines
    for name, folder in _SETS.items():
        path = data_root / folder
        lines.append(f"{name:14} {path if path.is_dir() else 'not here; fetched when first used'}")
    lines += ["digits         built in", "translation    built in"]
    free = free_bytes(store)
    lines.append(f"disk           {free / 2**30:.1f} GiB free for {store}")
    if free < _FEW_BYTES:
        lines.append("               LOW: set --store or DISTILL_STORE to a larger disk")
    return lines, healthy and works


def _torch() -> tuple[list[str], bool]:
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError) as error:
        # A CPU-only torch beside the index's torchvision fails just so: `operator torchvision::nms …`.
        reason = str(error).strip().splitlines()[0]
        return [
            f"torch          BROKEN: {reason}",
            "               install torch and torchvision of one build: pip install torch torchvision",
        ], False
    lines = [f"torch builds   {torch.__version__} with {torchvision.__version__}: they fit"]
    if torch.cuda.is_available():
        lines.append(f"device         cuda: {torch.cuda.get_device_name()}")
    elif torch.backends.mps.is_available():
        lines.append("device         mps")
    else:
        lines.append(f"device         cpu, {torch.get_num_threads()} threads")
    return lines, True
