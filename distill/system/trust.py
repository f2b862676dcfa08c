"""Decide which plug-ins may be imported: those that the user named, not those that only a record names.

A plug-in, `package.module:function`, is code that would run here. A user whose own code or flags make a config
trusts the plug-ins in it. A config that is read from a file makes no plug-in trusted: whoever wrote the file chose
its plug-ins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class State:
    """The plug-ins that the user of this process trusts, to be handed to its workers."""

    everything: bool = False
    named: frozenset[str] = frozenset()


@dataclass
class _Process:
    state: State = State()
    records: dict[str, Path] = field(default_factory=dict)
    """Plug-in → the first file that names it."""


_process = _Process()


@dataclass(frozen=True)
class _Reading:
    path: Path | None


_reading: ContextVar[_Reading | None] = ContextVar("reading", default=None)
"""The file from which configs are being read; None where the user's own code or flags make them."""


def name(reference: str) -> None:
    """Trust a plug-in for the life of the process, whatever names it."""
    _process.state = State(_process.state.everything, _process.state.named | {reference})


def trust_everything() -> None:
    """Trust all plug-ins for the life of the process (`--trust`)."""
    _process.state = State(True, _process.state.named)


def is_trusted(reference: str) -> bool:
    """Return whether the user named this plug-in or trusts all plug-ins."""
    return _process.state.everything or reference in _process.state.named


def record_of(reference: str) -> Path | None:
    """Return the first file that names this plug-in among those read in this process, or None."""
    return _process.records.get(reference)


def met(reference: str) -> None:
    """Note a plug-in in a config that is being made: trust it if the user makes the config, else note its file."""
    source = _reading.get()
    if source is None:
        if reference not in _process.state.named:
            name(reference)
    elif source.path is not None:
        _process.records.setdefault(reference, source.path)


@contextmanager
def reading(path: Path | None = None) -> Iterator[None]:
    """Treat the configs that are made in this block as read from `path` (or elsewhere), not as made by the user.

    Their plug-ins are not trusted unless the user named them.
    """
    token = _reading.set(_Reading(path))
    try:
        yield
    finally:
        _reading.reset(token)


def state() -> State:
    """Return what this process trusts, for `restore` in a worker process."""
    return _process.state


def restore(state: State) -> None:
    """Trust, in a worker process, what its parent trusts, in addition to what it trusts itself."""
    own = _process.state
    _process.state = State(own.everything or state.everything, own.named | state.named)
