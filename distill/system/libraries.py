"""List the packages that are needed, and import timm and torchvision only when they are used."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterable
from types import ModuleType

from distill.errors import UserError

PIXELS = ("torch", "torchvision", "timm", "pillow", "numpy")
"""Packages that can change a pixel."""
NUMBERS = (*PIXELS, "scikit-learn")
"""Packages that can change a number."""
PACKAGES = (*NUMBERS, "tensorboard", "pydantic", "safetensors")
"""Packages that must be installed."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package.

    Raises:
        PackageNotFoundError: a package is not installed.
    """
    return {name: importlib.metadata.version(name) for name in packages}


def import_library(module: str) -> ModuleType:
    """Import `timm`, `torchvision` or one of their modules, which takes about a second.

    Raises:
        UserError: torch and torchvision are of different builds, which only shows when they are imported.
    """
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        # torch is CPU-only and torchvision is the package index's: its C++ operators were never registered.
        if "torchvision::nms" not in str(error):
            raise
        expected = f"a build made for torch {importlib.metadata.version('torch')}"
        way_out = "Install both from the same index: pip install --force-reinstall torch torchvision."
        raise UserError("torchvision", importlib.metadata.version("torchvision"), expected, way_out) from error
