"""All that advice on any subject looks at, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.advice.recorded import Recorded, recorded_results
from distill.advice.shelf import Shelf, read_shelf
from distill.advice.trials import Setting, settings
from distill.pipeline import experiments_folder
from distill.runtime import Folders
from distill.store import ArtifactStore


@dataclass(frozen=True)
class Context:
    """The store, what it holds, and the recorded results."""

    store: ArtifactStore
    where: Folders
    shelf: Shelf
    settings: Sequence[Setting]
    recorded: Sequence[Recorded]


def read_context(where: Folders) -> Context:
    """Read the store and the recorded results."""
    store = ArtifactStore(where.store)
    shelf = read_shelf(store)
    return Context(store, where, shelf, settings(shelf), recorded_results(experiments_folder() / "results"))
