"""Decide which plug-ins may be imported: only those that the user trusts, whoever else names them.

A plug-in, `package.module:function`, is code that would run here. A config may name one, but making or reading a
config trusts nothing, because whoever wrote it chose its plug-ins. Only flags, `name` and a function that is passed
itself make a plug-in trusted; that it can be imported, or is imported already, does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Trusted:
    """Hold the plug-ins that the user of a process trusts."""

    everything: bool = False
    plugins: frozenset[str] = frozenset()


current = Trusted()
"""What the user of this process trusts so far; hand it to worker processes, which `add` it."""
naming_files: dict[str, Path] = {}
"""Plug-in → the first file read in this process that names it."""


def name(reference: str) -> None:
    """Trust a plug-in for the life of the process."""
    add(Trusted(plugins=frozenset({reference})))


def trust_everything() -> None:
    """Trust all plug-ins for the life of the process."""
    add(Trusted(everything=True))


def add(more: Trusted) -> None:
    """Trust what another process trusts, in addition to what this process trusts."""
    global current
    current = Trusted(current.everything or more.everything, current.plugins | more.plugins)


def is_trusted(reference: str) -> bool:
    """Tell whether the user trusts this plug-in."""
    return current.everything or reference in current.plugins


def note_file(plugins: Iterable[str], path: Path) -> None:
    """Remember the file in which these plug-ins are named, so that an error that refuses one can cite the file."""
    for reference in plugins:
        naming_files.setdefault(reference, path)
