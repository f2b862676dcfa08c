"""Import a function of this project by its reference `package.module:name`, only when it is used."""

from __future__ import annotations

import importlib
from typing import Any


def referenced(reference: str) -> Any:
    """Import what a reference in this project's own lists names; references from users go to `plugins`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
