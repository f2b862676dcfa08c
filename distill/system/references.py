"""Import a function of this project by its reference `package.module:name`, only when it is used."""

from __future__ import annotations

import importlib
from typing import Any


def referenced(reference: str) -> Any:
    """Import the object `package.module:name` that a table of this project names; `plugins` imports users' code."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
