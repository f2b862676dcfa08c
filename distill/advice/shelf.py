"""What the store holds, read once: the networks, caches and sweeps, whose records are small."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from distill.artifact import FOLDERS, RECORD, VERSIONS, Artifact
from distill.config import CacheConfig, LabelsConfig, StudentConfig, SweepConfig, TeacherConfig
from distill.errors import UserError
from distill.progress import bar as progress_bar
from distill.store import ArtifactStore

_READ = ("teacher", "cache", "student", "calibration", "sweep")
"""Not analyses and reports: their records hold every run by value."""
_Config = TypeVar("_Config", TeacherConfig, CacheConfig, StudentConfig, SweepConfig)


@dataclass(frozen=True)
class Shelf:
    """Artefacts of the present version, in the order of their paths."""

    artefacts: tuple[Artifact, ...]

    def of(self, kind: type[_Config]) -> list[tuple[_Config, Artifact]]:
        """Config and artefact of all of one stage."""
        return [(cast(_Config, each.config), each) for each in self.artefacts if isinstance(each.config, kind)]

    def named(self, text: str) -> list[Artifact]:
        """Those whose key begins so."""
        return [each for each in self.artefacts if text and each.record.key.startswith(text)]


def read_shelf(store: ArtifactStore, progress: bool = True) -> Shelf:
    """Read the records of the networks, caches and sweeps of a store; unreadable ones are left out."""
    paths = [path for stage in _READ for path in sorted((store.root / FOLDERS[stage]).glob(f"*/{RECORD}"))]
    bar = progress_bar(paths, "records", delay=2, disable=None if progress else True, unit="record", leave=False)
    return Shelf(tuple(_readable(store, bar)))


def _readable(store: ArtifactStore, records: Iterable[Path]) -> Iterable[Artifact]:
    for record in records:
        try:
            found = store.read(record.parent)
        except UserError:
            continue
        if found.record.version == VERSIONS[found.config.stage]:
            yield found


def recipe(config: TeacherConfig) -> TeacherConfig:
    """The teacher without what tells two trainings of one recipe apart: the seed, and whether snapshots were kept.

    To be compared only: it is not validated, for speed.
    """
    source = recipe(config.smoothing_source) if config.smoothing_source else None
    return config.model_copy(update={"seed": 0, "snapshots": 0, "smoothing_source": source})


def hard(config: TeacherConfig) -> TeacherConfig:
    """The same teacher with hard labels."""
    return config.replace(
        smoothing=0.0, smoothing_convention="uniform", labels=LabelsConfig(), smoothing_source=None
    )


def is_hard(config: TeacherConfig) -> bool:
    """Whether its labels are hard, and nothing else is done with them."""
    return config.smoothing == 0 and config.labels == LabelsConfig()
