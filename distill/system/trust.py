"""Which plug-ins may be imported: those that the user named, not those that only a record names.

`package.module:function` is code that would run here. A config that the user's own code or flags make counts as the
user's word for the plug-ins in it. One that is read from a file does not: whoever wrote the file chose them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class State:
    """What the user of this process said, to be handed to its workers."""

    everything: bool = False
    named: frozenset[str] = frozenset()


@dataclass
class _Process:
    state: State = State()
    records: dict[str, Path] = field(default_factory=dict)
    """Plug-in → the file that names it."""


_process = _Process()


@dataclass(frozen=True)
class _Reading:
    path: Path | None


_reading: ContextVar[_Reading | None] = ContextVar("reading", default=None)
"""What the configs are read from that are made now; None where the user makes them."""


def name(reference: str) -> None:
    """Say that this plug-in may be imported, whatever names it; for the life of the process."""
    _process.state = State(_process.state.everything, _process.state.named | {reference})


def trust_everything() -> None:
    """Say that any plug-in may be imported (`--trust`); for the life of the process."""
    _process.state = State(True, _process.state.named)


def is_trusted(reference: str) -> bool:
    """Whether the user named this plug-in, or trusts all."""
    return _process.state.everything or reference in _process.state.named


def record_of(reference: str) -> Path | None:
    """The first file that was read here and names this plug-in."""
    return _process.records.get(reference)


def met(reference: str) -> None:
    """Note a plug-in that stands in a config which is made now: the user's word, or a file's."""
    source = _reading.get()
    if source is None:
        if reference not in _process.state.named:
            name(reference)
    elif source.path is not None:
        _process.records.setdefault(reference, source.path)


@contextmanager
def reading(path: Path | None = None) -> Iterator[None]:
    """What configs that are made in this block say comes from this file, and is nobody's word without one."""
    token = _reading.set(_Reading(path))
    try:
        yield
    finally:
        _reading.reset(token)


def state() -> State:
    """What `restore` takes in a worker process."""
    return _process.state


def restore(state: State) -> None:
    """Trust what the parent of this process trusts too."""
    own = _process.state
    _process.state = State(own.everything or state.everything, own.named | state.named)
