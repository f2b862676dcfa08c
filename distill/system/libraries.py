"""Imports timm and torchvision when they are first needed: they cost about a second of start-up."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType

from distill.errors import UserError


def import_library(module: str) -> ModuleType:
    """Import `timm`, `torchvision` or one of their modules.

    Raises:
        UserError: torch and torchvision are of different builds, which only shows when they are imported.
    """
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        # A CPU-only torch beside the package index's torchvision: the C++ operators were never registered.
        if "torchvision::nms" not in str(error):
            raise
        expected = f"a build made for torch {importlib.metadata.version('torch')}"
        way_out = "Install both from the same index: pip install --force-reinstall torch torchvision."
        raise UserError("torchvision", importlib.metadata.version("torchvision"), expected, way_out) from error
