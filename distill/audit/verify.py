"""Verify that artifacts match their records, and make damaged ones again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from distill.cache.remake import remake
from distill.config import AdoptedConfig, CacheConfig, ImportConfig, ReportConfig
from distill.errors import UserError
from distill.pipeline.experiments import plan_report
from distill.pipeline.graph import run
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.stages import FOLDERS, inputs, title
from distill.store.store import ArtifactStore, is_named_like_an_artifact
from distill.store.unneeded import others_files
from distill.system.runtime import Runtime


@dataclass(frozen=True)
class Examined:
    """Say what is wrong with one artifact folder."""

    path: Path
    artifact: Artifact | None
    """The artifact in the folder; None if its record cannot be read."""
    problems: list[str] = field(default_factory=list)
    """Differences from the record; empty when the artifact is whole."""
    unproven: list[str] = field(default_factory=list)
    """Messages about inputs whose records can no longer be read."""


def examine(store: ArtifactStore, named: Sequence[Artifact] = ()) -> Iterator[Examined]:
    """Compare every file of the named artifacts with the record, or of all artifacts if none is named.

    A folder that neither has the name of an artifact nor a record that can be read belongs to somebody else.

    Yields:
        A result for each folder, upstream stages first.
    """
    known: set[str] = set()
    everything = (sorted((store.root / folder).glob("*")) for folder in FOLDERS)
    for path in [artifact.path for artifact in named] or chain.from_iterable(everything):
        if path.is_dir() and not path.name.startswith("."):
            try:
                artifact = store.read(path)
                yield _examined(artifact, store.home(artifact), known)
            except UserError as error:
                if is_named_like_an_artifact(path):
                    yield Examined(path, None, [str(error)])


def _examined(artifact: Artifact, store: ArtifactStore, known: set[str]) -> Examined:
    name = store.path(artifact.config).name
    known.add(artifact.record.key)
    problems = artifact.problems()
    if artifact.is_current and artifact.path.name != name:
        problems.append(f"it is {name}, and is not found under another name")
    return Examined(artifact.path, artifact, problems, list(_unreadable_inputs(artifact, store, known)))


def _unreadable_inputs(artifact: Artifact, store: ArtifactStore, known: set[str]) -> Iterator[str]:
    """Yield a message for each input whose record exists but cannot be read or was changed.

    A deleted input is no fault. `known` holds the keys of records that were read before, and grows.
    """
    noted = {name for name, value in artifact.record.inputs.items() if value != "diverged"} - known
    if not noted:  # computing the keys of a large graph takes time
        return
    for upstream in inputs(artifact.config):
        if (name := key(upstream)) in noted:
            try:
                store.find(upstream)
            except UserError as error:
                yield f"input {title(upstream)}: {error}"
            else:
                known.add(name)


def repair(examined: Examined, store: ArtifactStore, runtime: Runtime) -> Path:
    """Make a damaged artifact again, with its missing inputs, then delete the old one; return the new path.

    Raises:
        UserError: the artifact cannot be made from its record alone, or belongs to another store. The old artifact
            then stays where it is, as after any other error.
    """
    artifact, path = examined.artifact, examined.path
    assert artifact is not None, "who names an artifact has read its record"
    config = artifact.config
    store.refuse_other(artifact)
    if others := others_files(path, artifact.record):
        way_out = "Move what is yours to another place first: this folder will be deleted."
        raise UserError("repair", str(path), f"only files of its record inside, not {others[0]}", way_out)
    if isinstance(config, CacheConfig) and isinstance(config.teacher, ImportConfig):
        expected = "what was made here; this was imported"
        raise UserError("repair", str(path), expected, f"Import it again: {remake(config, path)}")
    if isinstance(config, AdoptedConfig):
        way_out = "Adopt the file of weights again: `distill adopt FILE --model …`, after this folder was deleted."
        raise UserError("repair", str(path), "what was made here; this was adopted", way_out)
    if isinstance(config, ReportConfig):
        name, scale, data = config.experiment, config.scale, config.data
        if plan_report(name, scale, data).source != config.source:
            way_out = (
                f"Delete the folder, and make today's: `distill reproduce {name} --scale {scale} --data {data}`"
            )
            raise UserError("repair", str(path), "what the files in experiments/ still draw", way_out)
    with store.aside(path):
        return run(config, store, runtime).path
