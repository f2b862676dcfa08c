"""References: `package.module:name` of something of this project that is imported only when it is used."""

from __future__ import annotations

import importlib
from typing import Any


def referenced(reference: str) -> Any:
    """Import what a reference of this project's own lists names; those of users are for `plugins`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
